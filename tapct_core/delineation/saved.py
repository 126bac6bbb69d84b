"""A saved probe as the prior: its probabilities on the work grid, and the cells that it is surest of as seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..probe.predicting import probability_planes
from .grid import WorkGrid
from .marks import Marks
from .walker import certainty

if TYPE_CHECKING:
    from ..probe import LinearProbe

SURE = 0.8
"""Certainty from which on a cell that the probe ranks first stands for a stroke."""
CORRECTED_MM = 40.0
"""Within this of a stroke of another class the probe's sure cells stand for nothing: a person has looked there."""


def probe_values(probe: LinearProbe) -> tuple[int, ...]:
    """The probe's labels, background first where it has one."""
    return tuple(sorted(probe.classes, key=lambda value: (value != probe.background, value)))


def probe_prior(probe: LinearProbe, features: FeatureMap | None, grid: WorkGrid) -> np.ndarray:
    """Probabilities (n, K) of the body's cells, class by class of :func:`probe_values`; background without features.

    Raises UserError for features of another encoder or plan, or none.
    """
    if features is None:
        raise UserError("a probe reads features; embed the scan with the probe's encoder and give them")
    order = [probe.classes.index(value) for value in probe_values(probe)]
    out = []
    for body, (planes, holes) in zip(grid.body, probability_planes(probe, features, grid.geometry), strict=True):
        if holes is not None:
            planes[:, holes] = np.eye(len(order), dtype=np.float32)[order[0]][:, None]
        out.append(planes[order][:, body].T)
    return np.concatenate(out)


def sure_marks(grid: WorkGrid, prior: np.ndarray, probe: LinearProbe, marks: Marks | None) -> Marks:
    """The strokes, if any, and the cells that the probe is sure of away from strokes of other classes.

    Raises UserError for strokes of a class that the probe does not know.
    """
    values = probe_values(probe)
    background = probe.background if probe.background in values else None
    best = prior.argmax(axis=1)
    sure = certainty(prior.T) >= SURE
    if marks is None or not marks.values:
        cells = np.flatnonzero(sure)
        start, labels = (0, 0, 0), np.zeros((0, 0, 0), np.uint8)
        return Marks(values, background, cells, best[cells], np.arange(len(cells)), labels, start)
    unknown = [value for value in marks.values if value not in values and value != marks.background]
    if unknown:
        raise UserError(
            f"the probe has no class {unknown[0]}; it knows {', '.join(map(str, values))}: paint those, or segment "
            "without the probe"
        )
    return _with_strokes(grid, values, background, best, sure, marks)


def _with_strokes(
    grid: WorkGrid, values: tuple[int, ...], background: int | None, best: np.ndarray, sure: np.ndarray, marks: Marks
) -> Marks:
    from scipy import ndimage

    known = [background if value == marks.background else value for value in marks.values]
    index = np.array([values.index(value) for value in known], int)[marks.index]
    seeds = np.zeros(grid.size, np.int32)
    for k in np.unique(index):
        apart = np.ones(grid.body.shape, bool)
        apart[tuple(grid.places(marks.cells[index == k]).T)] = False
        near = ndimage.distance_transform_edt(apart, sampling=grid.geometry.spacing_mm)[grid.body] <= CORRECTED_MM
        sure = sure & ~(near & (best != k))
    seeds[sure] = best[sure] + 1
    seeds[marks.cells] = index + 1
    cells = np.flatnonzero(seeds)
    return Marks(values, marks.background, cells, seeds[cells] - 1, np.arange(len(cells)), marks.labels, marks.start)
