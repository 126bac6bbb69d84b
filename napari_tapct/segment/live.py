"""From strokes to a segmentation, on a worker's thread: the slice on screen, the slab round it, then the whole scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapct_core.volume import CTVolume, LabelMap

from ..jobs import Job
from ..one_core import libraries, one_core
from ..painting import LabelClass
from .strokes import Painted, missing_strokes, stroke_labels, unpainted

if TYPE_CHECKING:
    from tapct_core.delineation.engine import Delineation
    from tapct_core.features import FeatureMap
    from tapct_core.probe import LinearProbe

Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Part:
    """Labels of whole slices, background 0. Those that are ``final`` cover the scan once, and bring how many voxels
    each label has in them (256,); others are previews. ``hint``: what to paint next, None where nothing is said."""

    region: Region
    labels: np.ndarray
    final: bool
    hint: str | None = None
    counts: np.ndarray | None = None


def delineate(
    job: Job, delineation: Delineation, strokes: LabelMap | None, classes: Sequence[LabelClass], view: int | None
) -> None:
    """Sends Parts: the slice ``view`` along z, a slab round it, and the whole scan from there outwards.

    The whole is what ``tapct_core.segment`` makes of the same strokes. Raises UserError with what to paint next.
    """
    hint = unpainted([strokes], classes) if strokes is not None and delineation.probe is None else ""
    depth, done = delineation.volume.hu.shape[0], 0
    parts = delineation.update(strokes, view, cancel=job.cancelled)
    with one_core():  # what a person waits for
        first = next(parts)
    job.send(Part(first.region, first.labels, final=False, hint=hint))
    for part in parts:
        job.send(Part(part.region, part.labels, part.final, None, counted(part.labels) if part.final else None))
        if part.final:
            done += part.region[0].stop - part.region[0].start
            job.report(done, depth)
    advice = delineation.answer.advice or _unlike(delineation)
    if advice and not hint:
        job.send(Part((slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), np.uint8), False, advice))


def predict(
    job: Job, probe: LinearProbe, volume: CTVolume, features: FeatureMap, strokes: LabelMap | None, view: int | None
) -> None:
    """Sends Parts of what a linear probe says alone, as papers evaluate it; painted voxels keep their label."""
    depth, done = volume.hu.shape[0], 0
    for span, labels in probe.predict_slabs(features, volume, first=view, strokes=strokes, cancel=job.cancelled):
        drawn = shown(labels, probe)
        job.send(Part((span, *(slice(0, n) for n in volume.hu.shape[1:])), drawn, True, None, counted(drawn)))
        done += span.stop - span.start
        job.report(done, depth)


def fitted(job: Job, painted: Sequence[Painted], classes: Sequence[LabelClass]) -> LinearProbe:
    """A probe of all strokes on scans that have features. Raises UserError where they are of fewer than two classes."""
    from tapct_core.errors import UserError
    from tapct_core.probe import LinearProbe

    maps = [(one.features, stroke_labels(one, classes)) for one in painted if _has_tokens(one.features)]
    pairs = [(features, labels) for features, labels in maps if labels is not None]
    present = {int(v) for _, labels in pairs for v in np.unique(labels.labels) if v}
    if len(present) < 2:
        hint = missing_strokes([labels for _, labels in pairs], classes) if pairs else ""
        raise UserError(hint or "a probe learns from strokes of two classes, on a scan with features: paint them")
    return LinearProbe.fit(pairs, zero="unlabelled", cancel=job.cancelled)


def whole_part(labels: np.ndarray) -> Part:
    """Labels of a whole scan, background 0."""
    return Part(tuple(slice(0, n) for n in labels.shape), labels, True, counts=counted(labels))


def shown(labels: np.ndarray, probe: LinearProbe) -> np.ndarray:
    """A probe's labels as they are drawn and exported: background is 0, whatever its class is called. uint8."""
    return np.where(labels == probe.background, 0, labels).astype(np.uint8)


def counted(labels: np.ndarray) -> np.ndarray:
    """Voxels of each value, plane by plane: numpy counts through a copy of eight bytes a voxel."""
    return sum((np.bincount(plane.reshape(-1), minlength=256) for plane in labels), np.zeros(256, np.int64))


def probability(delineation: Delineation, value: int) -> np.ndarray:
    """How likely label ``value`` is, float16 (z, y, x); 0 outside the patient and where it is no class."""
    answer, grid = delineation.answer, delineation.grid
    cells = np.zeros(grid.body.shape, np.float16)
    if answer is not None and value in answer.marks.values:
        cells[grid.body] = answer.probabilities[:, answer.marks.values.index(value)]
    return grid.up(cells)


def warm_up(delineation: Delineation) -> None:
    """Loads and computes what a first stroke would otherwise wait for."""
    delineation.warm_up()
    libraries()


def _unlike(delineation: Delineation) -> str:
    """A warning where a probe meets a scan unlike those it learned from."""
    if delineation.probe is None:
        return ""
    from tapct_core.probe.likeness import warning_if_unlike

    said = warning_if_unlike(delineation.probe, delineation.features)
    return f"⚠ {said[:1].upper()}{said[1:]}." if said else ""


def _has_tokens(features: FeatureMap | None) -> bool:
    return features is not None and features.dim > 0
