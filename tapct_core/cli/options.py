"""Options that several commands share, and how they become an encoder and features."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from ..errors import UserError
from ..progress import Progress
from ..sliding_windows import OVERLAP


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """--encoder, --plan, --spacing, --overlap, --device and --series, as embed, match and probe take them."""
    group = parser.add_argument_group("features")
    group.add_argument(
        "--encoder", metavar="NAME|DIR|none", help="an encoder of `tapct encoders`, a folder, or none (HU alone)"
    )
    group.add_argument(
        "--plan",
        choices=("release", "spacing"),
        help="how the scan is laid out for the encoder (default: the encoder's)",
    )
    group.add_argument(
        "--spacing", nargs=3, type=positive, metavar=("Z", "Y", "X"), help="voxel spacing in mm for the spacing plan"
    )
    group.add_argument(
        "--overlap",
        type=fraction,
        default=OVERLAP,
        metavar="F",
        help=f"share of a window that the next one repeats (default {OVERLAP:g})",
    )
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_reading_options(parser)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """What a person has to say where a file leaves it open: which series, which phase, which values."""
    group = parser.add_argument_group("reading")
    group.add_argument("--series", metavar="UID", help="which series of a DICOM folder")
    group.add_argument("--phase", type=count, metavar="N", help="which phase of a 4D DICOM series, from 1")
    group.add_argument(
        "--resample", action="store_true", help="put slices that are uneven, or of a tilted gantry, on a regular grid"
    )
    group.add_argument(
        "--hu-offset",
        type=coordinate,
        metavar="HU",
        help="add this to the values: -1024 where a rescale intercept was lost, 0 to take them as they are",
    )


def reading(args: argparse.Namespace) -> dict[str, object]:
    """The keywords of ``load_ct`` that the person gave."""
    return {"series": args.series, "phase": args.phase, "hu_offset": args.hu_offset, "resample": args.resample}


def positive(text: str) -> float:
    """A finite number above zero."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def fraction(text: str) -> float:
    """A number from 0 up to, and without, 1."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return value


def coordinate(text: str) -> float:
    """A finite number, of millimetres or of HU."""
    return _number(text)


def count(text: str) -> int:
    """A whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above zero")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a number")
    return value


def encoder_from_args(args: argparse.Namespace):
    """The Encoder a person asked for; None for ``--encoder none``. Loaded once a run."""
    if args.encoder == "none":
        return None
    if not hasattr(args, "_encoder"):
        from ..encoders import load_encoder

        args._encoder = load_encoder(args.encoder, device=args.device)
    return args._encoder


def embed_from_args(path: str | Path, args: argparse.Namespace):
    """A CT file, a DICOM folder -> (CTVolume, FeatureMap); features come from the cache when they are there."""
    from ..io import load_ct

    volume = load_ct(path, **reading(args))
    return volume, features_of(volume, path, args)


def features_of(volume, path: str | Path, args: argparse.Namespace):
    """The features of a volume that was read from ``path``, from the cache when they are there -> FeatureMap."""
    from ..embedding import embed_cached
    from ..store import FeatureStore

    with progress_bar(f"embedding {Path(path).name}") as progress:
        return embed_cached(
            volume,
            encoder_from_args(args),
            plan=args.plan,
            spacing_mm=tuple(args.spacing) if args.spacing else None,
            overlap=args.overlap,
            store=FeatureStore(),
            progress=progress,
        )


def features_from_args(path: str | Path, args: argparse.Namespace):
    """As :func:`embed_from_args`, but a store that ``tapct embed`` wrote is taken as it is -> FeatureMap."""
    if (Path(path) / "zarr.json").is_file():
        from ..store import load_features

        return load_features(path)
    return embed_from_args(path, args)[1]


class progress_bar:
    """A tqdm bar behind the house's ``progress(done, total)`` callback; silent where stderr is no terminal."""

    def __init__(self, what: str, unit: str = "window") -> None:
        self.what, self.unit, self.bar = what, unit, None

    def __enter__(self) -> Progress:
        return self._update

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _update(self, done: int, total: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=self.what, unit=self.unit, disable=not sys.stderr.isatty(), leave=False)
        if self.bar.total != total or done < self.bar.n:  # the next scan of a list
            self.bar.reset(total)
        self.bar.update(done - self.bar.n)


def read_points(path: Path) -> list[tuple[str, tuple[float, float, float]]]:
    """A CSV with columns name, x, y, z (LPS mm) -> [(name, (x, y, z))]; a row without a name is called by its number.

    Raises UserError naming the line (see :func:`tapct_core.tables.read_table`).
    """
    from ..tables import read_table

    rows = read_table(path, ("x", "y", "z"), numbers="xyz", unique="name")
    if not rows:
        raise UserError(f"{path} has no rows; it needs name,x,y,z in LPS mm")
    names = [row.get("name") or str(number) for number, (_, row) in enumerate(rows, start=1)]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise UserError(f"{path}: {twice!r} is the name of a row and the number of another; name every row")
    return [(name, tuple(float(row[axis]) for axis in "xyz")) for name, (_, row) in zip(names, rows, strict=True)]
