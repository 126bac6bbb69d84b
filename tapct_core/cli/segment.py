"""``tapct segment``: a mask of a whole scan from a few strokes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from .options import add_common_options, count, features_of, reading


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "segment",
        help="segment a scan from strokes",
        description="Segments all of a scan from strokes painted on some of its slices, on the scan's own grid.",
        epilog=(
            "example:\n  tapct segment scan.nii.gz strokes.nii.gz --out organs.nii.gz\n\n"
            "STROKES is a label map on the scan's grid: 0 = not painted; the class that is named background (in its\n"
            ".labels.json, or by --background) is 0 in SEG. Painted voxels keep their label."
        ),
    )
    parser.add_argument("ct", metavar="CT")
    parser.add_argument("strokes", type=Path, metavar="STROKES")
    parser.add_argument("--out", type=Path, required=True, metavar="SEG", help="a .nii.gz, .nii, .nrrd or .mha file")
    parser.add_argument(
        "--probe", type=Path, metavar="PROBE", help="a fitted probe says what places look like; strokes only correct it"
    )
    parser.add_argument("--background", type=count, metavar="N", help="the label of STROKES that is background")
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segments; strokes are read and checked before anything is embedded."""
    from ..delineation.grid import WorkGrid
    from ..delineation.marks import advice, read_marks, require_enough, with_background
    from ..delineation.segment import segment
    from ..io import load_ct, load_labels, save_labels
    from ..io.labels import with_suffix
    from ..probe import LinearProbe
    from .probe import use_encoder_of, warn_if_unlike

    args.out = with_suffix(args.out)
    strokes = load_labels(args.strokes)
    if args.background is not None:
        if not (strokes.labels == args.background).any():
            raise UserError(f"{args.strokes} holds no label {args.background}; give --background a painted one")
        strokes = with_background(strokes, args.background)
    probe = LinearProbe.load(args.probe) if args.probe else None
    volume = load_ct(args.ct, **reading(args))
    marks = read_marks(WorkGrid.of(volume), strokes)
    if probe is None:
        require_enough(marks, strokes.names)
    else:
        use_encoder_of(probe, args)
    features = features_of(volume, args.ct, args)
    if probe is not None and features is not None:
        warn_if_unlike(probe, features, args.ct)
    found = segment(volume, strokes, features, probe=probe)
    save_labels(found, args.out)
    if probe is None and advice(marks):
        print(f"tapct segment: {advice(marks)}", file=sys.stderr)
    print(f"tapct segment: {args.ct} -> {args.out}", file=sys.stderr)
    return 0
