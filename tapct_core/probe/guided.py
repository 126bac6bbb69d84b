"""Borders that follow the image: a guided filter on scores, with windowed HU as the guide.

He, Sun and Tang, "Guided image filtering", ECCV 2010 / PAMI 2013: within each box the output is a linear function of
the guide, a*I + b, fitted to the input with penalty eps on a. It is linear in its input for a given guide, so filtered
scores of the classes can be compared one by one; and it costs box means only.

The scan is read slice by slice. Box sums within a slice come from sums of doubled length (five additions for a box of
13), sums along z are kept up to date by the slice that enters and the one that leaves, and only the slices under the
box are held. Since only differences of scores decide, the first class is taken off the others and never filtered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..features import FeatureMap
from ..geometry import Geometry
from .upsample import AxisLerp, ScoreField, axis_weights, summed_plane

WINDOW_HU = (-160.0, 240.0)
"""The soft-tissue window (width 400, level 40): where organs differ, and lung, air and bone saturate."""
RADIUS_TOKENS = 0.75
EPSILON = 0.003
"""Variance of the guide, in windows squared, under which a box is flat: a deviation of 22 HU. Radius and this were
chosen on dev patients, whose tissues are partly defined by HU, so a little less greedily than they ask for."""


def filter_radius(features: FeatureMap, target: Geometry) -> tuple[int, int, int]:
    """Half width (z, y, x) of the filter's boxes in voxels of ``target``; a result depends on voxels twice as far."""
    pitches = zip(features.pitch_mm, target.spacing_mm, strict=True)
    return tuple(max(1, round(RADIUS_TOKENS * pitch / step)) for pitch, step in pitches)


class BoxAlongZ:
    """Sums over the 2 * ``radius`` + 1 slices round a slice; beyond the ends of ``depth`` the last one is repeated.

    ``make(z)`` gives the planes of slice z. Asked for slices in order, each is made once and added and taken off once.
    """

    def __init__(self, make: Callable[[int], np.ndarray], radius: int, depth: int) -> None:
        self._make, self._radius, self._last = make, radius, depth - 1
        self._planes: dict[int, np.ndarray] = {}
        self._centre: int | None = None
        self._total = np.empty(0)

    def around(self, z: int) -> np.ndarray:
        """The sums round slice ``z``: an array that the next call overwrites."""
        if self._centre is not None and z == self._centre + 1:
            self._total += self._plane(z + self._radius)
            self._total -= self._plane(z - 1 - self._radius)
        elif z != self._centre:
            self._planes.clear()
            self._total = self._plane(z - self._radius).copy()
            for other in range(z - self._radius + 1, z + self._radius + 1):
                self._total += self._plane(other)
        self._centre = z
        for old in [key for key in self._planes if key < z - self._radius]:
            del self._planes[old]
        return self._total

    def _plane(self, z: int) -> np.ndarray:
        z = min(max(z, 0), self._last)
        if z not in self._planes:
            self._planes[z] = self._make(z)
        return self._planes[z]


@dataclass(eq=False)
class GuidedScores:
    """Scores filtered along HU (a ScoreField), fastest when slices are read in order. The first class's are 0."""

    fields: list[ScoreField]
    guide: np.ndarray  # int16 HU of the embedded grid
    lerps: tuple[AxisLerp, AxisLerp, AxisLerp]
    radius: tuple[int, int, int]
    depth: int
    _moments: BoxAlongZ = field(init=False)
    _lines: BoxAlongZ = field(init=False)

    def __post_init__(self) -> None:
        self._moments = BoxAlongZ(self._moment_sums, self.radius[0], self.depth)
        self._lines = BoxAlongZ(self._line_sums, self.radius[0], self.depth)
        self._guides: dict[int, np.ndarray] = {}

    @classmethod
    def on(cls, fields: list[ScoreField], features: FeatureMap, target: Geometry) -> GuidedScores:
        """Filters ``fields``, which are read on ``target``, with the HU of ``features`` as the guide."""
        lerps = tuple(AxisLerp.of(rows) for rows in axis_weights(features.hu_geometry, target))
        return cls(fields, features.hu, lerps, filter_radius(features, target), target.shape[0])

    def plane(self, z: int) -> np.ndarray:
        """Filtered scores (K, ny, nx) of the target's slice ``z``, less those of the first class."""
        lines = self._lines.around(z)  # (2, K - 1, ny, nx): sums of slopes and of offsets
        out = np.zeros((lines.shape[1] + 1, *lines.shape[2:]), np.float32)
        np.multiply(lines[0], self._guide(z), out=out[1:])
        out[1:] += lines[1]
        out[1:] *= np.float32(1 / self._voxels)
        return out

    @property
    def _voxels(self) -> int:
        return int(np.prod([2 * r + 1 for r in self.radius]))

    def _moment_sums(self, z: int) -> np.ndarray:
        """Box sums (2K, ny, nx) within slice ``z``: of the guide and its square, of the scores and their products."""
        guide = self._guide(z)
        scores = summed_plane(self.fields, z)
        count = len(scores) - 1
        sums = np.empty((2 + 2 * count, *guide.shape), np.float32)
        sums[0] = self._box(guide)
        sums[1] = self._box(guide * guide)
        for k in range(count):
            score = scores[k + 1] - scores[0]
            sums[2 + k] = self._box(score)
            sums[2 + count + k] = self._box(np.multiply(score, guide, out=score))
        return sums

    def _line_sums(self, z: int) -> np.ndarray:
        """Sums (2, K - 1, ny, nx) over boxes within slice ``z`` of each box's slope and offset."""
        means = self._moments.around(z) * np.float32(1 / self._voxels)
        guide, square = means[:2]
        count = len(means) // 2 - 1
        gain = 1 / (square - guide * guide + np.float32(EPSILON))
        out = np.empty((2, count, *guide.shape), np.float32)
        for k in range(count):
            score, product = means[2 + k], means[2 + count + k]
            product -= guide * score
            product *= gain
            out[0, k] = self._box(product)
            score -= np.multiply(product, guide, out=product)
            out[1, k] = self._box(score)
        return out

    def _guide(self, z: int) -> np.ndarray:
        """Windowed HU (ny, nx) of slice ``z``, 0 to 1; kept while the boxes still ask for it."""
        if z not in self._guides:
            low, high = WINDOW_HU
            hu = self.lerps[2].along(self.lerps[1].along(self.lerps[0].at(z, self.guide), 0), 1)
            self._guides[z] = np.clip((hu - low) / np.float32(high - low), 0, 1).astype(np.float32)
            for old in [key for key in self._guides if abs(key - z) > 2 * self.radius[0]]:
                del self._guides[old]
        return self._guides[z]

    def _box(self, plane: np.ndarray) -> np.ndarray:
        rows, columns = self.radius[1:]
        padded = np.pad(plane, ((rows, rows), (columns, columns)), mode="edge")
        return running_sums(running_sums(padded, 2 * rows + 1, 0), 2 * columns + 1, 1)


def running_sums(plane: np.ndarray, width: int, axis: int) -> np.ndarray:
    """Sums of ``width`` neighbours along ``axis`` of (y, x), which becomes ``width`` - 1 shorter.

    By sums of 1, 2, 4, ... neighbours, those of the binary digits of ``width`` put side by side: log2(width) whole
    additions, and no running total that would gather rounding errors.
    """
    length = plane.shape[axis] - width + 1

    def part(start: int, stop: int) -> tuple[slice, slice]:
        return (slice(start, stop), slice(None)) if axis == 0 else (slice(None), slice(start, stop))

    total, begin, span = None, 0, 1
    while True:
        if width & span:
            piece = plane[part(begin, begin + length)]
            total = piece if total is None else total + piece
            begin += span
        span *= 2
        if span > width:
            return total
        plane = plane[part(0, plane.shape[axis] - span // 2)] + plane[part(span // 2, plane.shape[axis])]
