"""``tapct info``: what a CT file or DICOM folder holds."""

from __future__ import annotations

import argparse
import json

from .options import add_reading_options, reading


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "info",
        help="shape, spacing, orientation and HU range of a CT",
        description="Says what a CT file or DICOM folder holds.",
        epilog="example:\n  tapct info scan.nii.gz\n  tapct info dicom_folder --series 1.2.3 --json",
    )
    parser.add_argument("ct", metavar="CT", help="NIfTI, NRRD or MHA file, DICOM folder or one file of it")
    add_reading_options(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the facts."""
    from ..io import scan_info

    info = scan_info(args.ct, **reading(args))
    if args.json:
        print(json.dumps(info))
        return 0
    for key, value in info.items():
        if value not in ("", None):
            print(f"{key.replace('_', ' '):12s} {_words(value)}")
    return 0


def _words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " x ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return str(value)
