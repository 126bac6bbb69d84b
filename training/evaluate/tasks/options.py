"""Options that every task shares, and how a task begins."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tapct_core.cli.options import count, fraction, positive
from tapct_core.errors import UserError
from tapct_core.sliding_windows import OVERLAP

from ...run import distributed
from ..embeddings.embed_cases import open_store
from ..embeddings.rows import LoadedRow, Row, load_rows
from ..runs.run_folder import RunFolder


def add_run_options(parser: argparse.ArgumentParser, layouts: Sequence[str]) -> None:
    """--dataset, --root, --encoder, --out, --features, --seed, --device, and the input plan."""
    parser.add_argument("--dataset", required=True, choices=layouts, help="in which layout the data lie")
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="the folder as it was distributed")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the run's folder; again to go on")
    parser.add_argument(
        "--encoder", nargs="+", required=True, metavar="NAME|DIR",
        help="one row of the table each: a name of `tapct encoders`, a folder, untrained:NAME for its twin with "
        "random weights, or none for Hounsfield units alone",
    )  # fmt: skip
    parser.add_argument(
        "--features", type=Path, metavar="DIR", help="where embeddings are kept (default: features in --out)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of splits and heads (default 0)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """--plan, --spacing, --overlap, --block, --in-plane and --window, the same for every encoder."""
    group = parser.add_argument_group("input, the same for every encoder (default: each encoder's own)")
    group.add_argument("--plan", choices=("release", "spacing"))
    group.add_argument("--spacing", nargs=3, type=positive, metavar=("Z", "Y", "X"), help="mm, for the spacing plan")
    group.add_argument("--in-plane", type=count, metavar="N", help="the release plan with N x N pixels, not 224 x 224")
    group.add_argument("--window", nargs=3, type=count, metavar=("Z", "Y", "X"), help="sliding window in voxels")
    group.add_argument("--overlap", type=fraction, default=OVERLAP, metavar="F", help="share of a window (default 0)")
    group.add_argument("--block", type=int, metavar="N", help="features of this block, from 0 (default: the last)")


def rows_from_args(args: argparse.Namespace) -> list[LoadedRow]:
    """One loaded row for each --encoder, on the device of this rank. Raises UserError."""
    rows = [
        Row(
            encoder,
            plan=args.plan,
            spacing_mm=tuple(args.spacing) if args.spacing else None,
            overlap=args.overlap,
            block=args.block,
            in_plane=args.in_plane,
            window=tuple(args.window) if args.window else None,
        )
        for encoder in args.encoder
    ]
    return load_rows(rows, args.device)


@contextmanager
def begun(args: argparse.Namespace) -> Iterator[tuple[RunFolder, object]]:
    """The run folder and the feature store of a command; joins torchrun's other ranks, and leaves them at the end.

    Sets ``args.device`` to this rank's own device.
    """
    try:
        device = distributed.init(args.device)
    except ValueError as error:
        raise UserError(f"{error}") from None
    args.device = str(device)
    try:
        yield RunFolder(args.out), open_store(args.features or args.out / "features")
    finally:
        distributed.shut_down()
