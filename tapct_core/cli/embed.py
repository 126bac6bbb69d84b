"""``tapct embed``: features of one scan, of many, or of one shard of an archive."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from ..tables import read_text
from .options import add_common_options, encoder_from_args, progress_bar, reading


def add_parser(commands) -> None:
    """Adds the command to ``tapct``."""
    parser = commands.add_parser(
        "embed",
        help="write the features of CTs, one zarr store a scan",
        description="Embeds CTs and writes one zarr store a scan into DIR. Run it again to continue where it stopped.",
        epilog=(
            "example:\n  tapct embed scan.nii.gz --out features\n"
            "  tapct embed --list archive.txt --out features --shard 3/64    (I counts from 0)\n\n"
            "A list holds one path a line; empty lines and lines that begin with # are passed over."
        ),
    )
    parser.add_argument("ct", nargs="*", metavar="CT")
    parser.add_argument("--list", type=Path, metavar="FILE", help="a text file of paths, one a line")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--shard", type=shard, default=(0, 1), metavar="I/N", help="embed only every N-th scan, from the I-th"
    )
    parser.add_argument("--rebuild", action="store_true", help="embed again what is there, damaged stores too")
    add_common_options(parser)
    parser.set_defaults(run=run)


def shard(text: str) -> tuple[int, int]:
    """ "3/64" -> (3, 64); I counts from 0."""
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        index, count = 0, 0
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 0 to N-1, such as 3/64")
    return index, count


def run(args: argparse.Namespace) -> int:
    """Embeds; 2 when a scan failed, after the others have been embedded."""
    from ..archive import embed_many

    paths = [Path(path) for path in args.ct] + (read_list(args.list) if args.list else [])
    if not paths:
        raise UserError("no CT was given; name files or DICOM folders, or a text file of paths with --list")
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"{args.out} is a file; --out takes a folder")
    results = []
    with progress_bar("embedding") as progress:
        for result in embed_many(
            paths,
            args.out,
            encoder_from_args(args),
            plan=args.plan,
            spacing_mm=tuple(args.spacing) if args.spacing else None,
            overlap=args.overlap,
            how=reading(args),
            shard=args.shard,
            rebuild=args.rebuild,
            progress=progress,
        ):
            results.append(result)
            print(f"tapct embed: {result.message}", file=sys.stderr)
    failed = sum(not result.ok for result in results)
    if failed and len(results) > 1:
        print(f"tapct embed: {failed} of {len(results)} scans failed, each is named above", file=sys.stderr)
    return 2 if failed else 0


def read_list(path: Path) -> list[Path]:
    """Paths of a text file; a relative one is taken from the list's own folder."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; --list takes a text file with one path a line")
    lines = read_text(path, "a text file with one path a line").splitlines()
    if any("\0" in line for line in lines):
        raise UserError(f"{path} is not a text file; --list takes one path a line")
    named = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not named:
        raise UserError(f"{path} names no scan; write one path a line")
    return [path.parent / name for name in named]
