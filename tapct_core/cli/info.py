"""``tapct info``: what a CT file or DICOM folder holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .options import add_reading_options, reading


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "info",
        help="shape, spacing, orientation and HU range of a CT",
        description="Says what a CT file or DICOM folder holds; of a folder with several scans, a table of them.",
        epilog="example:\n  tapct info scan.nii.gz\n  tapct info dicom_folder --series 1.2.3 --json",
    )
    parser.add_argument("ct", metavar="CT", help="NIfTI, NRRD or MHA file, DICOM folder or one file of it")
    add_reading_options(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the facts."""
    from ..io import scan_info

    if Path(args.ct).is_dir() and not any(value is not None and value is not False for value in reading(args).values()):
        rows = _rows(Path(args.ct))
        if len(rows) > 1:
            return _print_table(rows, args.json)
    info = scan_info(args.ct, **reading(args))
    if args.json:
        print(json.dumps(info))
        return 0
    for key, value in info.items():
        if value not in ("", None):
            print(f"{key.replace('_', ' '):12s} {_words(value)}")
    return 0


def _rows(folder: Path) -> list:
    from ..io import inventory

    return inventory(folder)


def _print_table(rows: list, as_json: bool) -> int:
    """Several scans: what there is, and what would keep each from being opened."""
    from dataclasses import asdict

    if as_json:
        print(json.dumps({"scans": [asdict(row) for row in rows]}))
        return 0
    lines = [("patient", "study", "date", "kind", "slices", "spacing z y x", "kernel", "description", "problem")]
    for row in rows:
        spacing = " ".join(f"{s:g}" for s in row.spacing_mm)
        what = row.description or row.path
        lines.append((row.patient[:6] or "-", row.study or "-", row.date or "-", row.modality or "-",
                      str(row.slices or "-"), spacing or "-", row.kernel or "-", what[:32], row.problem))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " x ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return str(value)
