"""``tapct encoders``: which encoders there are, where their weights lie and under which licence."""

from __future__ import annotations

import argparse
import json


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "encoders",
        help="the encoders, their weights and licences",
        description="Lists what --encoder takes by name; a folder with config.json and model.safetensors works too.",
        epilog="example:\n  tapct encoders --json",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    from ..encoders import list_encoders

    encoders = list_encoders()
    if args.json:
        print(json.dumps(encoders))
        return 0
    for encoder in encoders:
        patch = "x".join(map(str, encoder["patch_size"])) if encoder["patch_size"] else "?"
        mark = "*" if encoder["default"] else "+" if encoder["available"] else " "
        length = encoder["embed_dim"] or "?"
        print(f"{mark} {encoder['name']:16s} {length:>4}-d  patch {patch:6s}  {encoder['where']}")
        print(f"{'':35s}licence: {encoder['licence']}")
    print("* default   + usable without a network")
    return 0
