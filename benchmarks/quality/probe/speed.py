"""Seconds and memory of a probe on a map of 307,200 tokens x 768, the size of a 512 x 512 x 300 CT at patch 4 x 8 x 8.

Rivals in the same run: all scores upsampled by torch and argmax over the class axis; the guided filter written with
scipy's box filter on a whole slab at once; a random forest on the tokens.
Run by `python -m benchmarks.probe --speed`.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import markdown_table, ratio, write_page
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe import LinearProbe
from tapct_core.probe.channels import statistics
from tapct_core.probe.guided import EPSILON, GuidedScores, filter_radius
from tapct_core.probe.upsample import GridScores
from tapct_core.volume import LabelMap

GRID, SHAPE, DIM, CLASSES = (75, 64, 64), (300, 512, 512), 768, 5
TURNS = 2
SLAB = 24
VOXELS = Geometry.from_spacing(SHAPE, (1.0, 0.8, 0.8))


def synthetic() -> tuple[FeatureMap, LabelMap]:
    """Smooth random tokens, and strokes of five classes in the middle slice where the field says so."""
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((*GRID, DIM), dtype=np.float32).astype(np.float16)
    coarse = rng.standard_normal((15, 13, 13, CLASSES), dtype=np.float32)
    smooth = coarse.repeat(5, 0).repeat(5, 1).repeat(5, 2)[: GRID[0], : GRID[1], : GRID[2]]
    tokens[..., :CLASSES] += (4 * smooth).astype(np.float16)
    hu = rng.integers(-100, 200, SHAPE, dtype=np.int16)
    features = FeatureMap(
        tokens, np.ones(GRID, bool), VOXELS.pooled((4, 8, 8)), hu, VOXELS, np.zeros((0, DIM), np.float16)
    )
    painted = np.zeros(SHAPE, np.uint8)
    winner = smooth.argmax(axis=-1)[SHAPE[0] // 8].repeat(8, 0).repeat(8, 1)
    for c in range(CLASSES):
        places = np.argwhere(winner == c)
        for y, x in places[rng.choice(len(places), 4, replace=False)]:
            patch = winner[y : y + 5, x : x + 40] == c
            painted[SHAPE[0] // 2, y : y + 5, x : x + 40][patch] = c + 1
    return features, LabelMap(painted, VOXELS)


def peak_above(work: Callable[[], object]) -> float:
    """GB that the process holds at most during ``work`` above what it held before, sampled every 5 ms."""
    page = 4096

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    before, most, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], resident() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return most[0] / 1e9


def torch_rival(probe: LinearProbe, features: FeatureMap) -> np.ndarray:
    """Scores of all tokens, F.interpolate to the voxels class by class, argmax: classes x voxels in memory."""
    import torch

    tokens = torch.from_numpy(features.tokens)
    found = statistics(features, None)  # the probe's scores are of each scan's standardised tokens
    weights = probe.weights / found.std[:, None]
    constants = torch.from_numpy((probe.constants - found.mean @ weights).astype(np.float32))
    weights = torch.from_numpy(weights.astype(np.float32))
    scores = torch.stack([plane.float() @ weights + constants for plane in tokens])
    scores = scores.permute(3, 0, 1, 2)[None]
    return torch.nn.functional.interpolate(scores, size=SHAPE, mode="trilinear")[0].argmax(dim=0).numpy()


def guided_rival(features: FeatureMap) -> tuple[float, float, float]:
    """Processor seconds of our guided filter and of scipy's boxes on SLAB slices, and the largest difference."""
    from scipy.ndimage import uniform_filter

    target = VOXELS.cropped((0, 0, 0), (SLAB, *SHAPE[1:]))
    tokens = features.geometry.cropped((0, 0, 0), (SLAB // 4, *GRID[1:]))
    field = GridScores.on(features.tokens[: SLAB // 4, ..., :CLASSES], features.valid[: SLAB // 4], tokens, target)
    begin = time.process_time()
    guided = GuidedScores.on([field], features, target)
    ours = np.stack([guided.plane(z) for z in range(SLAB)])
    middle = time.process_time()
    size = [2 * r + 1 for r in filter_radius(features, target)]
    image = np.clip((features.hu[:SLAB] + 160) / np.float32(400), 0, 1)
    scores = np.stack([field.plane(z) for z in range(SLAB)])
    mean = uniform_filter(image, size, mode="nearest")
    spread = uniform_filter(image * image, size, mode="nearest") - mean * mean + EPSILON
    gap, first = 0.0, None
    for k in range(CLASSES):
        own = uniform_filter(scores[:, k], size, mode="nearest")
        slope = (uniform_filter(image * scores[:, k], size, mode="nearest") - mean * own) / spread
        offset = uniform_filter(own - slope * mean, size, mode="nearest")
        theirs = uniform_filter(slope, size, mode="nearest") * image + offset
        first = theirs if first is None else first
        gap = max(gap, float(np.abs(theirs - first - ours[:, k]).max()))
    return middle - begin, time.process_time() - middle, gap


def run(args: argparse.Namespace, data: Path) -> None:
    """Measures and writes docs/results/probe_speed.md."""
    features, labels = synthetic()
    middle = SHAPE[0] // 2
    region = (slice(middle, middle + 1), slice(0, SHAPE[1]), slice(0, SHAPE[2]))
    probe = LinearProbe.fit([(features, labels)])
    stroke = LabelMap(np.full((1, 4, 40), 2, np.uint8), VOXELS.cropped((middle, 100, 200), (1, 4, 40)))

    def stroke_to_slice() -> None:
        probe.extend([(features, stroke)]).predict(features, VOXELS, region=region)

    joined = LinearProbe.fit([(features, labels)], hu_features="voxel")

    def joined_stroke_to_slice() -> None:
        joined.extend([(features, stroke)]).predict(features, VOXELS, region=region)

    kept: dict[str, np.ndarray] = {}
    works = {
        "fit from strokes, ridge": lambda: LinearProbe.fit([(features, labels)]),
        "fit from strokes, logistic": lambda: LinearProbe.fit([(features, labels)], head="logistic"),
        "a stroke to its visible slice": stroke_to_slice,
        "the visible slice, guided filter": lambda: probe.predict(features, VOXELS, region=region, guided=True),
        "a stroke to its visible slice, tokens + HU per voxel": joined_stroke_to_slice,
        "whole scan, 5 classes": lambda: kept.update(ours=probe.predict(features, VOXELS).labels),
        "rival: torch interpolate + argmax": lambda: kept.update(torch=torch_rival(probe, features)),
    }
    once = {
        "whole scan, guided filter": lambda: probe.predict(features, VOXELS, guided=True),
        "whole scan, tokens + HU per voxel": lambda: joined.predict(features, VOXELS),
    }
    memory = {name: peak_above(work) for name, work in works.items()}  # also warms up
    processor: dict[str, list[float]] = {name: [] for name in [*works, *once]}
    times: dict[str, list[float]] = {name: [] for name in [*works, *once]}
    for _ in range(TURNS):
        for name, work in works.items():
            times[name].append(_once(_counted(work, processor[name])))
    for name, work in once.items():
        counted = _counted(work, processor[name])
        memory[name] = peak_above(lambda name=name, counted=counted: times[name].append(_once(counted)))
    filtered, scipys, gap = guided_rival(features)
    rows = [
        [
            name,
            f"{np.median(found):.2f}",
            f"{min(found):.2f}",
            f"{np.median(processor[name]):.2f}",
            f"{memory[name]:.2f}",
        ]
        for name, found in times.items()
    ]
    factor = ratio(times["rival: torch interpolate + argmax"], times["whole scan, 5 classes"])
    rows += _forest(probe, features, times)
    same = (kept["torch"] == kept["ours"] - 1).mean()
    text = (
        f"307,200 tokens x 768, {len(probe.memory.x)} labelled voxels, {CLASSES} classes. Memory is the peak above "
        f"volume and features. The whole scan takes 1/{factor:.1f} of torch's time, and {100 * same:.2f} % of the "
        f"voxels agree. The guided filter takes 1/{scipys / filtered:.1f} of the processor time of scipy's box filters "
        f"on a slab of {SLAB} slices at once (largest difference of a score {gap:.0e}), and filters a region as it "
        "would filter the whole. The machine is shared: ratios count, seconds are upper bounds."
    )
    table = markdown_table(["work", "median s", "best s", "processor s", "peak GB"], rows)
    write_page(args.out / "probe_speed.md", "Speed of the probe", "python -m benchmarks.probe --speed", [text, table])
    print(text, table, sep="\n\n")


def _forest(probe: LinearProbe, features: FeatureMap, times: dict) -> list:
    """A forest on the same samples: fit, and its predictions for all tokens (no upsampling)."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(100, n_jobs=2, random_state=0)
    fit = _once(lambda: model.fit(probe.memory.x, probe.memory.index))
    flat = features.tokens.reshape(-1, DIM)
    some = flat[::20].astype(np.float32)
    predict = 20 * _once(lambda: model.predict_proba(some))
    return [
        ["rival: random forest, fit", f"{fit:.2f}", f"{fit:.2f}", "-", "-"],
        ["rival: random forest, all tokens (from a twentieth)", f"{predict:.2f}", f"{predict:.2f}", "-", "-"],
    ]


def _counted(work: Callable[[], object], seconds: list[float]) -> Callable[[], object]:
    """``work``, noting the processor time of all its threads: what it would take on a machine of its own, or more."""

    def counted() -> None:
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)

    return counted


def _once(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
