"""Strokes of a scan as a label map, and what is still to be painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapct_core.volume import CTVolume, LabelMap

from ..painting import LabelClass

if TYPE_CHECKING:
    from tapct_core.features import FeatureMap

BORDER_MM = 12.0
"""A stroke this near to one of another class says where the border runs: about one token of the packaged encoder."""
HINT_POINTS = 2_000
"""Painted voxels of a class that are looked at for the hint."""


@dataclass(frozen=True)
class Painted:
    """One scan to learn from: its volume, features and the strokes' array, which may still be painted on."""

    volume: CTVolume
    features: FeatureMap | None
    strokes: np.ndarray


def stroke_labels(painted: Painted, classes: Sequence[LabelClass]) -> LabelMap | None:
    """The strokes cut down to their bounding box, as a copy with the classes' names and colours; None without any."""
    box = []
    part = painted.strokes
    for axis in range(3):
        filled = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(filled):
            return None
        span = slice(int(filled[0]), int(filled[-1]) + 1)
        box.append(span)
        part = part[tuple(slice(None) if a != axis else span for a in range(3))]
    geometry = painted.volume.geometry.cropped(tuple(span.start for span in box), part.shape)
    names = {one.value: one.name for one in classes}
    colours = {one.value: one.colour for one in classes}
    return LabelMap(part.copy(), geometry, painted.volume.source, names, colours)


def unpainted(maps: Sequence[LabelMap], classes: Sequence[LabelClass]) -> str:
    """Which classes have no stroke, in words; "" if none."""
    values = {int(value) for labels in maps for value in np.unique(labels.labels)}
    names = [one.name for one in classes if one.value not in values]
    return f"Not painted yet: {', '.join(names)}." if names else ""


def missing_strokes(maps: Sequence[LabelMap], classes: Sequence[LabelClass]) -> str:
    """What a probe alone wants next: a class without a stroke, or with none near another class; "" if nothing."""
    missing = unpainted(maps, classes)
    if missing:
        return missing
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    near: dict[int, float] = {}
    for labels in maps:
        points = {}
        for value in np.unique(labels.labels[labels.labels > 0]):
            index = np.argwhere(labels.labels == value)
            index = index[rng.permutation(len(index))[:HINT_POINTS]]
            points[int(value)] = labels.geometry.to_world(index)
        for value, own in points.items():
            others = [other for key, other in points.items() if key != value]
            distance = cKDTree(np.concatenate(others)).query(own)[0].min() if others else np.inf
            near[value] = min(near.get(value, np.inf), float(distance))
    far = [one.name for one in classes if near.get(one.value, np.inf) > BORDER_MM]
    if far:
        return f"No stroke of {' or '.join(far)} lies near another class. Paint one along its border."
    return ""
