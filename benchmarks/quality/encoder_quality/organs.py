"""Organs told apart by a linear probe on frozen tokens: within one scan, slab by slab.

Test: the abdomen that the data came with, whose labels are TotalSegmentator's output. Dev: an abdomen and a chest,
whose labels were drawn for this benchmark (drawn/README.md); rough, but right enough to choose by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.probe.tasks import Task, abdomen
from scipy import ndimage

from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct, load_labels
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.volume import CTVolume, LabelMap

from .rows import Embed

SLAB_MM, GAP_MM = 40.0, 10.0
ORGANS = {
    "liver": ("liver",), "spleen": ("spleen",), "kidneys": ("kidneys",), "bowel": ("stomach", "bowel"),
    "bone": ("spine", "pelvis and femurs", "ribs"), "muscle": ("muscles",), "lung": ("lungs",), "bladder": ("bladder",),
}  # fmt: skip
"""The eight classes of the table, by the main organs of benchmarks/quality/probe/tasks.py."""
DRAWN = Path(__file__).parent / "drawn"
DRAWN_NAMES = (*list(ORGANS)[:7], "heart", "great vessels")
"""Their labels from 1 on."""
HEADS = {f"{head}{' + HU' if hu else ''}": (head, hu) for head in ("ridge", "logistic") for hu in (False, True)}


def probe_scores(features: Embed, data: Path, split: str, heads: Sequence[str] = tuple(HEADS)) -> dict[str, float]:
    """Mean Dice of each of ``heads`` (see HEADS) over the scans of a split, and "oracle": what the pitch allows."""
    scores: dict[str, list[float]] = {}
    for task in tasks(data, split):
        found = features(task.volume)
        for name in heads:
            scores.setdefault(name, []).append(probe_dice(found, task.volume, task.truth, *HEADS[name]))
        scores.setdefault("oracle", []).append(oracle_dice(found.geometry, task.truth))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def tasks(data: Path, split: str) -> list[Task]:
    """The labelled scans of a split."""
    if split == "test":
        return [eight_organs(data)]
    return [drawn(data, "crlm_ct_1006"), drawn(data, "pyradiomics_lung2")]


def eight_organs(data: Path) -> Task:
    """The abdomen with its labels merged to the table's eight classes."""
    task = abdomen(data)
    by_name = {name: value for value, name in task.truth.names.items()}
    table = np.zeros(max(by_name.values()) + 1, np.uint8)
    for value, parts in enumerate(ORGANS.values(), start=1):
        table[[by_name[part] for part in parts]] = value
    names = dict(enumerate(ORGANS, start=1))
    return Task(task.name, task.volume, LabelMap(table[task.truth.labels], task.truth.geometry, names=names))


def drawn(data: Path, name: str) -> Task:
    """A dev scan with the organs drawn for it; see drawn/README.md."""
    truth = load_labels(DRAWN / f"{name}_organs.nii.gz")
    present = {value: organ for value, organ in enumerate(DRAWN_NAMES, start=1) if (truth.labels == value).any()}
    return Task(name, load_ct(data / "ct" / f"{name}_ct.nii.gz"), LabelMap(truth.labels, truth.geometry, names=present))


def probe_dice(features: FeatureMap, volume: CTVolume, truth: LabelMap, head: str, hu: bool) -> float:
    """Mean Dice over the classes, both folds: fitted on every second slab, tested on the others less the gap."""
    position = np.arange(truth.geometry.shape[0]) * truth.geometry.spacing_mm[0]
    slab, depth = (position // SLAB_MM).astype(int), position % SLAB_MM
    kept = (depth >= GAP_MM / 2) & (depth < SLAB_MM - GAP_MM / 2)
    scores = []
    for fold in (0, 1):
        learn = np.zeros_like(truth.labels)
        for value in np.unique(slab[(slab % 2 == fold) & kept]):
            rows = (slab == value) & kept
            learn[rows] = np.where(truth.labels[rows] == 0, 255, truth.labels[rows])
        labels = LabelMap(learn, truth.geometry, names={**truth.names, 255: "background"})
        probe = LinearProbe.fit([(features, labels)], head=head, hu_features="voxel" if hu else None, zero="unlabelled")
        predicted = probe.predict(features, like=volume).labels.copy()
        predicted[predicted == 255] = 0
        test = (slab % 2 != fold) & kept
        report = dice_report(_rows(predicted, truth, test), _rows(truth.labels, truth, test), tuple(truth.names))
        scores.append(report["mean_dice"])
    return float(np.mean(scores))


def oracle_dice(tokens: Geometry, truth: LabelMap) -> float:
    """Mean Dice of true class fractions per token, upsampled trilinearly: what this pitch allows."""
    where = np.moveaxis(
        tokens.to_index(truth.geometry.to_world(np.moveaxis(np.indices(truth.labels.shape), 0, -1))), -1, 0
    )
    nearest = np.rint(where).astype(int)
    for axis, size in enumerate(tokens.shape):
        nearest[axis] = nearest[axis].clip(0, size - 1)
    flat = np.ravel_multi_index(tuple(nearest), tokens.shape)
    counts = np.bincount(flat.ravel(), minlength=int(np.prod(tokens.shape)))
    best, winner = np.full(truth.labels.shape, -1.0, np.float32), np.zeros(truth.labels.shape, np.uint8)
    for value in (0, *truth.names):
        share = np.bincount(flat.ravel(), (truth.labels == value).ravel(), minlength=len(counts)) / np.maximum(
            counts, 1
        )
        map_ = ndimage.map_coordinates(share.reshape(tokens.shape).astype(np.float32), where, order=1, mode="nearest")
        winner[map_ > best] = value
        best = np.maximum(best, map_)
    return float(dice_report(replace(truth, labels=winner), truth, tuple(truth.names))["mean_dice"])


def _rows(labels: np.ndarray, like: LabelMap, rows: np.ndarray) -> LabelMap:
    part = np.ascontiguousarray(labels[rows])
    return LabelMap(part, like.geometry.cropped((0, 0, 0), part.shape), names=like.names)
