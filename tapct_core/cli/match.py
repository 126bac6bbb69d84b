"""``tapct match``: points of a baseline scan, found in a follow-up."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from .options import add_common_options, coordinate, count, features_from_args, read_points

COLUMNS = ("name", "rank", "x", "y", "z", "similarity", "cycle_error_mm", "confidence")
REASON = "reason"
"""A last column where a point was refused, or its place is in doubt."""


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "match",
        help="find points of one scan in another",
        description="Finds points or segmented lesions of BASELINE in FOLLOWUP and ranks the candidates.",
        epilog=(
            "example:\n  tapct match baseline.nii.gz followup.nii.gz --point -46 -112 -62\n"
            "  tapct match baseline/ followup/ --points lesions.csv --out matches.csv\n"
            "  tapct match baseline.nii.gz followup.nii.gz --mask lesions.nii.gz\n\n"
            "Points are LPS millimetres (DICOM's patient system); the CSV has columns name,x,y,z.\n"
            "BASELINE and FOLLOWUP are CTs, or stores that `tapct embed` wrote.\n"
            "A mask is looked for by the mean of its features, one lesion a label, named as the label is.\n"
            "cycle_error_mm is how far the way back misses the point; confidence is empty where it is not calibrated,\n"
            "as for masks. A point that cannot be matched is a row without a place; a last column, reason, says why."
        ),
    )
    parser.add_argument("baseline", metavar="BASELINE")
    parser.add_argument("followup", metavar="FOLLOWUP")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--point", nargs=3, type=coordinate, action="append", metavar=("X", "Y", "Z"), help="LPS mm; may be repeated"
    )
    where.add_argument("--points", type=Path, metavar="CSV", help="columns name,x,y,z")
    where.add_argument(
        "--mask", type=Path, metavar="LABELS", help="label map of lesions in BASELINE (NIfTI, NRRD or MetaImage)"
    )
    parser.add_argument("--top-k", type=count, default=3, metavar="K", help="candidates a point (default 3)")
    parser.add_argument("--json", action="store_true", help="machine-readable, to stdout")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the candidates to this file")
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Matches and prints or writes the candidates."""
    queries = _queries(args)
    before = features_from_args(args.baseline, args)
    after = features_from_args(args.followup, args)

    from ..matching import match_each, match_each_mask

    if args.mask:
        found = match_each_mask(before, after, queries, top_k=args.top_k)
        named = [(queries.names.get(label, str(label)), one) for label, one in found.items()]
    else:
        matched = match_each(before, after, [point for _, point in queries], top_k=args.top_k)
        named = [(name, one) for (name, _), one in zip(queries, matched, strict=True)]
    rows = [row for name, one in named for row in _rows(name, one)]
    if any(one.reason for _, one in named):
        _say(named)
    else:
        rows = [{column: row[column] for column in COLUMNS} for row in rows]
    if args.out:
        _write(args.out, rows)
    if args.json:
        print(json.dumps(rows))
    elif not args.out:
        _print(rows)
    return 0


def _queries(args: argparse.Namespace):
    """The label map, or the points [(name, (x, y, z))]: read before anything is embedded."""
    if args.mask:
        from ..io import load_labels

        return load_labels(args.mask)
    if args.points:
        return read_points(args.points)
    return [(str(i), tuple(point)) for i, point in enumerate(args.point, start=1)]


def _rows(name: str, found) -> list[dict]:
    """One a candidate; one without a place for a point that was refused."""
    if not found.matches:
        return [dict.fromkeys(COLUMNS) | {"name": name, REASON: found.reason}]
    return [_row(name, match) | {REASON: found.reason or None} for match in found.matches]


def _say(named: list) -> None:
    """What was refused or is in doubt, and how many of how many."""
    for name, one in named:
        if one.reason:
            print(f"tapct match: {name}: {one.reason}", file=sys.stderr)
    refused = sum(not one.matches for _, one in named)
    print(f"tapct match: {len(named) - refused} of {len(named)} matched, {refused} refused", file=sys.stderr)


def _row(name: str, match) -> dict:
    x, y, z = (round(float(c), 3) for c in match.point_lps_mm)
    cycle = None if match.cycle_error_mm is None else round(float(match.cycle_error_mm), 3)
    confidence = None if match.confidence is None else round(float(match.confidence), 4)
    values = (name, match.rank, x, y, z, round(float(match.similarity), 5), cycle, confidence)
    return dict(zip(COLUMNS, values, strict=True))


def _write(path: Path, rows: list[dict]) -> None:
    from ..atomic import atomic_path
    from ..tables import as_text

    with atomic_path(path, private=True) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0] if rows else COLUMNS)
        writer.writeheader()
        writer.writerows(
            {
                key: "" if value is None else as_text(value) if isinstance(value, str) else value
                for key, value in row.items()
            }
            for row in rows
        )


def _print(rows: list[dict]) -> None:
    out = sys.stdout
    out.write(f"{'point':12s} {'rank':>4s} {'x':>8s} {'y':>8s} {'z':>8s}  {'similarity':>10s} {'cycle mm':>8s}\n")
    for row in rows:
        if row["rank"] is None:
            out.write(f"{row['name'][:12]:12s}    -  refused: {row[REASON]}\n")
            continue
        cycle = "-" if row["cycle_error_mm"] is None else f"{row['cycle_error_mm']:.1f}"
        out.write(
            f"{row['name'][:12]:12s} {row['rank']:4d} {row['x']:8.1f} {row['y']:8.1f} {row['z']:8.1f}"
            f"  {row['similarity']:10.3f} {cycle:>8s}\n"
        )
