"""What a stroke takes on a CT of 512 x 512 x 300 voxels: the slice, the slab round it and the whole scan.

    python -m benchmarks.segment                                 prints the table (a minute)
    python -m benchmarks.segment --out docs/results/segment.md   and writes it

The scan and its features are those of ``benchmarks.plugin``, without the window. Strokes of four classes and of
background are painted on three slices; then those of one more slice, which is what is measured. The rival is
scikit-image's random walker with conjugate gradients on the engine's own cells, in the same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.plugin import SHAPE, prepare

from benchmarks.common import markdown_table, write_page

SLICES, RADIUS_MM, TURNS = (100, 150, 200), 5.0, 3
TISSUES = {1: (-900, -700), 2: (-120, -80), 3: (30, 70), 4: (300, 900)}
COMMAND = "python -m benchmarks.segment --out docs/results/segment.md"
TARGETS_S = {"the slice": 0.25, "the slab": 1.0, "the whole": 8.0}


def main() -> None:
    """Prepares the scan, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    parser.add_argument("--turns", type=int, default=TURNS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        rows = measured(Path(folder), args.turns)
    best = {name: np.min(times, axis=0) for name, times in rows.items()}
    table = markdown_table(
        ["a stroke until", "to reach, s", "clock s", "processor s"],
        [[name, TARGETS_S.get(name, "-"), f"{clock:.2f}", f"{work:.2f}"] for name, (clock, work) in best.items()],
    )
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    peak = f"Peak memory of the process, the scan and its features in it: {gigabytes:.1f} GB."
    print(f"{table}\n{peak}")
    if args.out:
        what = [
            f"A CT of {SHAPE[2]} x {SHAPE[1]} x {SHAPE[0]} voxels, four classes and background; best of {args.turns} "
            f"strokes after the first answer. {peak} The machine is shared, so that the clock says less than the "
            "processor's time.",
            table,
        ]
        write_page(args.out, "From a stroke to labels", COMMAND, what)


def measured(folder: Path, turns: int) -> dict[str, list[tuple[float, float]]]:
    """Clock and processor seconds of each row."""
    from tapct_core.delineation import Delineation
    from tapct_core.io import load_ct
    from tapct_core.store import FeatureStore

    volume = load_ct(folder / "scan.nii")
    (entry,) = Path(os.environ["TAPCT_CACHE"]).rglob("*.zarr")
    features = FeatureStore().get(entry.stem)
    engine = Delineation(volume, features)
    rows: dict[str, list[tuple[float, float]]] = {"nothing yet: what the first one waits for": [timed(engine.warm_up)]}
    strokes = painted(volume, SLICES)
    engine.run(strokes)
    for turn in range(turns):
        strokes = painted(volume, (*SLICES, 120 + turn))
        parts = engine.update(strokes, view=120 + turn)
        total = np.zeros(2)
        for name in ("the slice", "the slab"):
            total += timed(partial(next, parts))
            rows.setdefault(name, []).append(tuple(total))
        total += timed(partial(list, parts))
        rows.setdefault("the whole", []).append(tuple(total))
    rows["scikit-image's random walker on the same cells"] = [timed(lambda: walker(engine, strokes))]
    return rows


def timed(what) -> tuple[float, float]:
    """Clock and processor seconds of a call."""
    clock, processor = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - clock, time.process_time() - processor


def painted(volume, slices):
    """A disc of each tissue in each slice, and of background, where the smoothed scan is that tissue."""
    from scipy import ndimage

    from tapct_core.volume import LabelMap

    labels = np.zeros(SHAPE, np.uint8)
    radius = int(RADIUS_MM / volume.geometry.spacing_mm[1])
    row, column = np.ogrid[:512, :512]
    for z in slices:
        smooth = ndimage.gaussian_filter(volume.hu[z].astype(np.float32), 2)
        for value, (low, high) in TISSUES.items():
            inside = ndimage.distance_transform_edt((smooth > low) & (smooth < high))
            y, x = np.unravel_index(inside.argmax(), inside.shape)
            if inside[y, x] >= 1:
                labels[z][(row - y) ** 2 + (column - x) ** 2 <= min(radius, inside[y, x]) ** 2] = value
    names = {1: "air", 2: "fat", 3: "organ", 4: "bone", 5: "background"}
    labels[slices[0]][labels[slices[0]] == 2] = 5  # fat of one slice speaks for all that is none of the four
    return LabelMap(labels, volume.geometry, names=names)


def walker(engine, strokes) -> None:
    """The rival, on the engine's cells and from its seeds."""
    import warnings

    from skimage.segmentation import random_walker

    from tapct_core.delineation.marks import read_marks

    grid, marks = engine.grid, read_marks(engine.grid, strokes)
    seeds = np.where(grid.body, 0, -1).astype(np.int32)
    inside = seeds[grid.body]
    inside[marks.cells] = marks.index + 1
    seeds[grid.body] = inside
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # probabilities beyond 0 and 1
        random_walker(np.clip(grid.hu, -1000, 400).astype(float), seeds, mode="cg_j", tol=1e-2)


if __name__ == "__main__":
    main()
