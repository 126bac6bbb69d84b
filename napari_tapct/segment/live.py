"""From strokes to a segmentation, on a worker's thread: fit, the slice on screen, then the whole scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapct_core.errors import UserError
from tapct_core.volume import CTVolume, LabelMap

from ..jobs import Job
from ..one_core import libraries, one_core
from ..painting import LabelClass

if TYPE_CHECKING:
    from tapct_core.features import FeatureMap
    from tapct_core.probe import LinearProbe

BORDER_MM = 12.0
"""A stroke this near to one of another class says where the border runs: about one token of the packaged encoder."""
HINT_POINTS = 2_000
"""Painted voxels of a class that are looked at for the hint."""
Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Painted:
    """One scan to learn from: its volume, features and the strokes' array, which may still be painted on."""

    volume: CTVolume
    features: FeatureMap
    strokes: np.ndarray


@dataclass(frozen=True)
class Part:
    """Labels of a part of the scan. ``probe`` comes with the first one, the slice on screen; the others cover the scan
    once and bring how many voxels each label has in them (256,), the first of those the ``hint`` as well."""

    region: Region
    labels: np.ndarray
    probe: LinearProbe | None = None
    hint: str | None = None
    counts: np.ndarray | None = None


def segment(
    job: Job,
    painted: Sequence[Painted],
    target: tuple[CTVolume, FeatureMap],
    classes: Sequence[LabelClass],
    view: Region,
    guided: bool,
    use_hu: bool = False,
    probe: LinearProbe | None = None,
) -> LinearProbe:
    """Sends Parts: first ``view``, the slice on screen, then the scan from there outwards; returns the probe.

    ``guided``: edges of HU pull the borders; ``use_hu``: HU round each voxel are learned from as well.
    ``probe`` given (a loaded one): nothing is fitted. Raises UserError with what to paint next.
    """
    from tapct_core.probe import LinearProbe

    pairs = []
    volume, features = target
    with one_core():
        if probe is None:
            pairs = [(one.features, stroke_labels(one, classes)) for one in painted if one.strokes.any()]
            present = {int(v) for _, labels in pairs for v in np.unique(labels.labels) if v}
            if len(present) < 2:
                hint = missing_strokes([labels for _, labels in pairs], classes)
                raise UserError(hint or "paint a stroke of at least two classes")
            hu = "voxel" if use_hu else None
            probe = LinearProbe.fit(pairs, zero="unlabelled", hu_features=hu, cancel=job.cancelled)
        # Without the edges: they take ten times as long, and come with the whole scan a moment later.
        first = probe.predict(features, volume, region=view).labels
    job.send(Part(view, shown(first, probe), probe))
    hint = missing_strokes([labels for _, labels in pairs], classes) if pairs else ""
    depth, height, width = volume.hu.shape
    done = 0
    start = view[0].start if view[0].stop - view[0].start == 1 else depth // 2
    for span, labels in probe.predict_slabs(features, volume, first=start, guided=guided, cancel=job.cancelled):
        drawn = shown(labels, probe)
        job.send(Part((span, slice(0, height), slice(0, width)), drawn, None, hint, _counted(drawn)))
        hint = None
        done += span.stop - span.start
        job.report(done, depth)
    return probe


def shown(labels: np.ndarray, probe: LinearProbe) -> np.ndarray:
    """Labels as they are drawn and exported: background is 0, whatever its class is called. uint8."""
    return np.where(labels == probe.background, 0, labels).astype(np.uint8)


def whole_part(labels: np.ndarray, probe: LinearProbe) -> Part:
    """Labels of a whole scan."""
    drawn = shown(labels, probe)
    return Part(tuple(slice(0, n) for n in labels.shape), drawn, counts=_counted(drawn))


def _counted(labels: np.ndarray) -> np.ndarray:
    """Voxels of each value, plane by plane: numpy counts through a copy of eight bytes a voxel."""
    return sum((np.bincount(plane.reshape(-1), minlength=256) for plane in labels), np.zeros(256, np.int64))


def stroke_labels(painted: Painted, classes: Sequence[LabelClass]) -> LabelMap:
    """The strokes cut down to their bounding box, as a copy with the classes' names and colours."""
    box = []
    part = painted.strokes
    for axis in range(3):
        filled = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
        span = slice(int(filled[0]), int(filled[-1]) + 1)
        box.append(span)
        part = part[tuple(slice(None) if a != axis else span for a in range(3))]
    geometry = painted.volume.geometry.cropped(tuple(span.start for span in box), part.shape)
    names = {one.value: one.name for one in classes}
    colours = {one.value: one.colour for one in classes}
    return LabelMap(part.copy(), geometry, painted.volume.source, names, colours)


def missing_strokes(maps: Sequence[LabelMap], classes: Sequence[LabelClass]) -> str:
    """What to paint next: a class without a stroke, or one of which no stroke lies near another class; "" if none."""
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
    unpainted = [one.name for one in classes if one.value not in near]
    if unpainted:
        return f"Not painted yet: {', '.join(unpainted)}."
    far = [one.name for one in classes if near.get(one.value, np.inf) > BORDER_MM]
    if far:
        return f"No stroke of {' or '.join(far)} lies near another class. Paint one along its border."
    return ""


def warm_up(features: FeatureMap) -> None:
    """Loads and computes what a first stroke would otherwise wait for."""
    from tapct_core.probe import fitting, guided, predicting
    from tapct_core.probe.channels import statistics

    assert fitting and guided and predicting
    statistics(features, None)
    libraries()
