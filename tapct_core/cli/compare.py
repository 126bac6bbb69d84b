"""``tapct compare``: two readers' studies of one patient, what they agree on and what they should settle."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "compare",
        help="two readers' studies of one patient: agreement, and what to settle",
        description="Compares two readers' studies of one patient: targets, diameters with limits of agreement, "
        "response categories; and lists what differs.",
        epilog="example:\n  tapct compare reader1.json reader2.json --out agreement.html",
    )
    parser.add_argument("first", metavar="STUDY", type=Path, help="one reader's study file")
    parser.add_argument("second", metavar="STUDY", type=Path, help="the other reader's")
    parser.add_argument("--out", metavar="HTML", type=Path, help="also write a page, one file that prints to A4")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the comparison."""
    from ..export.agreement import write_agreement
    from ..lesions.agreement import compare_readers
    from ..lesions.study_file import load_study

    found = compare_readers(load_study(args.first), load_study(args.second))
    names = args.first.stem, args.second.stem
    if args.out is not None:
        write_agreement(found, names, args.out)
    if args.json:
        sizes = [
            {"lesion": one.pair.name, **{k: v for k, v in asdict(one).items() if k != "pair"}} for one in found.sizes
        ]
        facts = {
            "timepoints": found.timepoints,
            "targets": dict(zip(("both", "first_alone", "second_alone"), found.targets, strict=True)),
            "sizes": sizes,
            "mean_difference_mm": found.mean_difference_mm,
            "limits_mm": found.limits_mm,
            "categories": [dict(zip(("timepoint", "first", "second"), one, strict=True)) for one in found.categories],
            "to_settle": found.to_settle,
        }
        print(json.dumps(facts))
        return 0
    both, first, second = found.targets
    print(f"targets     both {both}, {names[0]} alone {first}, {names[1]} alone {second}")
    if found.mean_difference_mm is not None:
        limits = "" if found.limits_mm is None else " (limits {:+.1f} to {:+.1f} mm)".format(*found.limits_mm)
        print(f"diameters   {len(found.sizes)} in common, mean difference {found.mean_difference_mm:+.1f} mm{limits}")
    for timepoint, *said in found.categories:
        print(f"response    {timepoint}: {' / '.join(said)}")
    print(f"to settle   {len(found.to_settle)}")
    for line in found.to_settle:
        print(f"  {line}")
    print("For research use only; not a diagnosis.")
    return 0
