"""``tapct demo``: the whole job on the packaged samples, with pictures."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from .options import encoder_from_args, progress_bar


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "demo",
        help="the whole job on the packaged samples, with pictures",
        description="Embeds two packaged chest CTs of one patient and finds points of one in the other.",
        epilog="example:\n  tapct demo --out demo-output",
    )
    parser.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR", help="default: demo-output")
    parser.add_argument("--encoder", metavar="NAME|DIR|none", help="default: the packaged encoder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the demo and says what it found."""
    from ..demo import run_demo

    encoder = encoder_from_args(args)
    print("Two chest CTs of one patient (breathing phases, plastimatch test data, BSD-3). For research only.")
    if encoder is not None and not encoder.trained:
        print(
            f"The encoder {encoder.name} is untrained: its weights are random, so its features tell places apart "
            "poorly. What is found below is found mostly by comparing HU."
        )
    bars = []

    def progress(role: str):
        bars.append(progress_bar(f"embedding {role}"))
        return bars[-1].__enter__()

    try:
        result = run_demo(encoder, args.out, progress)
    finally:
        for bar in bars:
            bar.__exit__()
    errors = result.errors_mm
    print(f"{len(errors)} points that breathing moved by {result.moved_mm.mean():.1f} mm on average:")
    print(f"found within {errors.mean():.1f} mm on average, {(errors <= 5).sum()} of {len(errors)} within 5 mm.")
    for path in result.files:
        print(f"  {path}")
    if find_spec("napari") is not None:
        print("The napari plugin on the same samples: python -m napari_tapct.demo")
    return 0
