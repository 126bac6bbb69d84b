"""``tapct doctor``: what this machine has, for a person who looks for a fault and for the report of one."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "doctor",
        help="versions, device, cache, encoders, DICOM decoders and display of this machine",
        description="Says what this machine has and what it lacks. Names no scan, patient or person: fit for a report.",
        epilog="example:\n  tapct doctor\n  tapct doctor --json",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a line for each fact, and under it what to do where something is missing."""
    from ..doctor import examine

    facts = examine()
    if args.json:
        print(json.dumps([asdict(fact) for fact in facts]))
        return 0
    for fact in facts:
        print(f"{'!' if fact.remedy else ' '} {fact.name:16s} {fact.found}")
        if fact.remedy:
            print(f"{'':19s}{fact.remedy}")
    return 0
