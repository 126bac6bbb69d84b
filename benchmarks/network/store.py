"""Loading features from the store against making them again.

    python -m benchmarks.store                       measures and prints the table (a few minutes on a CPU)
    python -m benchmarks.store --out docs/results/store.md

A map of 307,200 tokens (75 x 64 x 64: a CT of 512 x 512 x 300 at patch 4 x 8 x 8) is written and loaded, with
every byte checked, for the widths of S (384) and B (768). Making it again takes 225 windows of 12 x 224 x 224:
a few are measured and the rest extrapolated. Other ways of keeping the tokens are measured in the same run.
"Warm" means that the files are in the page cache, as they are when a scan is opened again.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr
from zarr.codecs import BloscCodec

from tapct_core.embedding import embed
from tapct_core.encoders import Encoder, untrained_encoder
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec
from tapct_core.sliding_windows import plan_windows
from tapct_core.store import load_features, save_features
from tapct_core.vit import ViTConfig
from tapct_core.volume import CTVolume

GRID, WINDOW = (75, 64, 64), (3, 28, 28)
SHAPE = (300, 512, 512)
SPACING = (1.0, 0.8, 0.8)
ENCODERS = {"S": (384, 6), "B": (768, 12)}
LIKE_STORE = {
    "as stored: not compressed": None,
    "zstd 1, bytes shuffled": BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
    "lz4 1, bytes shuffled": BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"),
    "zstd 3, bits shuffled": BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
}


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time; the first run, which warms the page cache, does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def encoder_of(dim: int, heads: int) -> Encoder:
    """Random weights in the release's shape: speed does not depend on them."""
    return untrained_encoder(ViTConfig(embed_dim=dim, num_heads=heads), InputSpec(plan="spacing", spacing_mm=SPACING))


def embed_seconds(encoder: Encoder, windows: int) -> tuple[float, float, FeatureMap]:
    """(seconds a window, seconds for the whole scan by extrapolation, the small map): from ``windows`` windows in z."""
    shape = (12 * windows, 224, 224)
    hu = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    scan = CTVolume(hu, Geometry.from_spacing(shape, SPACING))
    embed(scan, encoder, batch_size=1)
    start = time.perf_counter()
    features = embed(scan, encoder, batch_size=1)
    each = (time.perf_counter() - start) / windows
    return each, each * len(plan_windows(GRID, WINDOW)), features


def whole_map(like: FeatureMap) -> FeatureMap:
    """A full-size map whose tokens have the values of real ones: the small map's, in random order, with noise."""
    rng = np.random.default_rng(0)
    pool = like.tokens.reshape(-1, like.dim)
    tokens = pool[rng.integers(0, len(pool), int(np.prod(GRID)))].reshape(*GRID, like.dim)
    tokens *= (1 + 0.01 * rng.standard_normal(GRID)).astype(np.float16)[..., None]
    geometry = Geometry.from_spacing(SHAPE, SPACING)
    hu = np.rint(rng.normal(0, 20, SHAPE)).astype(np.int16)
    return FeatureMap(
        tokens=tokens,
        valid=np.ones(GRID, bool),
        geometry=geometry.pooled((4, 8, 8)),
        hu=hu,
        hu_geometry=geometry,
        cls=np.zeros((225, like.dim), np.float16),
        provenance=like.provenance,
        windows=plan_windows(GRID, WINDOW),
        window_tokens=WINDOW,
    )


def codec_row(name: str, codec: BloscCodec | None, tokens: np.ndarray, folder: Path) -> str:
    """One line of the table of ways to keep the tokens."""
    path = folder / "codec.zarr"

    def write() -> None:
        shutil.rmtree(path, ignore_errors=True)
        array = zarr.create_array(
            str(path), shape=tokens.shape, dtype=tokens.dtype, chunks=(4, *tokens.shape[1:]), compressors=codec
        )
        array[...] = tokens

    write_s = median_seconds(write, 3)
    read_s = median_seconds(lambda: zarr.open_array(str(path), mode="r")[...], 3)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"| {name} | {size / 1e6:.0f} | {size / tokens.nbytes:.2f} | {write_s:.2f} | {read_s:.2f} |"


def report(windows: int) -> str:
    """The page of results as Markdown."""
    lines = [
        "# Feature store: loading against embedding again",
        "",
        f"`python -m benchmarks.store`, {torch.get_num_threads()} CPU threads, PyTorch {torch.__version__}, "
        f"zarr {zarr.__version__}. A map of {np.prod(GRID):,} tokens with the int16 HU of its 512 x 512 x 300 grid.",
        f"Embedding again is 225 windows, extrapolated from {windows} measured ones (random weights).",
        "",
        "| encoder | store MB | save s | warm load s, all bytes checked | embed again s | load is faster by |",
        "|---|---|---|---|---|---|",
    ]
    codecs = ["| tokens of B, in zarr | MB | of raw | write s | read s |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, (dim, heads) in ENCODERS.items():
            _, again, small = embed_seconds(encoder_of(dim, heads), windows)
            features = whole_map(small)
            path = folder / f"{label}.zarr"
            save = median_seconds(lambda p=path, f=features: save_features(p, f, replace=True), 3)
            load = median_seconds(lambda p=path: load_features(p))
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            lines.append(
                f"| {label} | {size / 1e6:.0f} | {save:.2f} | {load:.2f} | {again:.0f} | {again / load:,.0f} x |"
            )
            shutil.rmtree(path)
        codecs += [codec_row(kind, codec, features.tokens, folder) for kind, codec in LIKE_STORE.items()]
    return "\n".join([*lines, "", *codecs, ""])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the page here as well")
    parser.add_argument("--windows", type=int, default=3, help="windows to measure (default 3)")
    args = parser.parse_args()
    page = report(args.windows)
    print(page)
    if args.out:
        args.out.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
