"""Class scores of a coarse grid, read on the scan's own grid slice by slice, without classes x voxels in memory.

A linear head commutes with trilinear interpolation, W (interpolated tokens) = interpolated (W tokens), so it is
the few scores of a token that are interpolated and never its hundreds of features; nothing is lost by it.
Interpolation is separable: one lerp along z and two small matrix products a slice. The winner is kept as a
running maximum, since ``argmax`` over a class axis costs about ten times as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import UserError
from ..geometry import Geometry

EMPTY = 1e-6
"""Summed weights of valid tokens under this mean that no token says anything about a voxel."""


class ScoreField(Protocol):
    """Something that has a score for each class at every voxel of a target grid."""

    def plane(self, z: int) -> np.ndarray:
        """Scores (K, ny, nx) float32 of the target's slice ``z``, counted within its region."""
        ...


def axis_weights(source: Geometry, target: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear interpolation from ``source`` onto ``target`` along z, y and x, each (n_target, n_source) float32.

    Rows sum to 1. Up to one source voxel outside the source's box the border value is continued; rows further
    out are zero. Raises UserError when the two grids' axes do not run in parallel.
    """
    if not parallel(source, target):
        raise UserError(
            "the features and the grid to predict on are turned against each other; predict on the grid of the scan "
            "that was embedded"
        )
    matrices = []
    for axis in range(3):
        index = np.zeros((target.shape[axis], 3))
        index[:, axis] = np.arange(target.shape[axis])
        positions = source.to_index(target.to_world(index))[:, axis]
        matrices.append(linear_rows(source.shape[axis], positions))
    return tuple(matrices)


def parallel(first: Geometry, second: Geometry) -> bool:
    """Whether the axes of two grids run in the same directions, to about a hundredth of a degree."""
    return bool(np.abs(first.direction - second.direction).max() < 2e-4)


def linear_rows(size: int, positions: np.ndarray) -> np.ndarray:
    """(n, size) float32: row i interpolates linearly at the fractional index ``positions[i]`` of ``size`` samples."""
    near = positions.clip(0, size - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(near[:, None] - np.arange(size)[None]))
    weights[(positions < -1.5) | (positions > size + 0.5)] = 0.0
    return weights.astype(np.float32)


def used_span(rows: np.ndarray) -> slice:
    """The source samples along one axis that interpolation ``rows`` (n, size) touch; the first if none."""
    columns = np.flatnonzero(rows.any(axis=0))
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 1)


@dataclass(frozen=True, eq=False)
class AxisLerp:
    """Interpolation rows along one axis as at most two neighbours each: for sources as fine as the target, where a
    product with the matrix would be nearly all zeros."""

    low: np.ndarray  # (n,) the left neighbour
    high: np.ndarray
    weights: np.ndarray  # (2, n) float32
    identity: bool

    @classmethod
    def of(cls, rows: np.ndarray) -> AxisLerp:
        """``rows`` (n, size) as :func:`linear_rows` makes them; rows of zeros stay zero."""
        count, size = rows.shape
        low = (rows > 0).argmax(axis=1)
        high = np.minimum(low + 1, size - 1)
        place = np.arange(count)
        weights = np.stack([rows[place, low], np.where(high > low, rows[place, high], np.float32(0))])
        identity = count == size and bool((low == place).all() and (weights[0] == 1).all())
        return cls(low, high, weights.astype(np.float32), identity)

    def at(self, index: int, source: np.ndarray) -> np.ndarray:
        """The interpolated slice ``index`` along the first axis of ``source``, float32."""
        left, right = self.weights[:, index]
        plane = left * source[self.low[index]].astype(np.float32)
        return plane if right == 0 else plane + right * source[self.high[index]].astype(np.float32)

    def along(self, source: np.ndarray, axis: int) -> np.ndarray:
        """``source`` with ``axis`` interpolated."""
        if self.identity:
            return source
        shape = [1] * source.ndim
        shape[axis] = -1
        left, right = (w.reshape(shape) for w in self.weights)
        return source.take(self.low, axis) * left + source.take(self.high, axis) * right


@dataclass(frozen=True, eq=False)
class GridScores:
    """Scores (Z, Y, X, K) of a coarse grid, interpolated onto a target grid; ``valid`` (Z, Y, X) bool.

    Between a valid and an invalid token only the valid one counts, as in :meth:`FeatureMap.sample`.
    """

    scores: np.ndarray
    valid: np.ndarray
    weights: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def on(cls, scores: np.ndarray, valid: np.ndarray, source: Geometry, target: Geometry) -> GridScores:
        """``scores`` on ``source``, to be read on ``target``. Scores of invalid tokens are not used."""
        planar = np.moveaxis(np.where(valid[..., None], scores, np.float32(0)), -1, 1)  # (Z, K, Y, X)
        return cls(np.ascontiguousarray(planar, dtype=np.float32), valid, axis_weights(source, target))

    def plane(self, z: int) -> np.ndarray:
        """Interpolated scores (K, ny, nx) of slice ``z``; 0 for every class where no valid token is near."""
        plane = self._upsample(self._between(self.scores, z))
        if self._all_valid:
            return plane
        cover = self.cover(z)
        return np.divide(plane, cover, out=plane, where=cover > EMPTY)

    def cover(self, z: int) -> np.ndarray:
        """Summed weight (ny, nx) of the valid tokens round each voxel of slice ``z``, 0 to 1."""
        return self._upsample(self._between(self.valid[:, None].astype(np.float32), z))[0]

    def holes(self, z: int) -> np.ndarray | None:
        """Voxels (ny, nx) of slice ``z`` that no valid token is near; None when there are none."""
        if self._all_valid:
            return None
        holes = self.cover(z) <= EMPTY
        return holes if holes.any() else None

    @property
    def _all_valid(self) -> bool:
        return bool(self.valid.all()) and all((rows.sum(axis=1) > 0.5).all() for rows in self.weights)

    def _between(self, field: np.ndarray, z: int) -> np.ndarray:
        row = self.weights[0][z]
        used = np.flatnonzero(row)
        if len(used) == 0:
            return np.zeros_like(field[0])
        return sum(row[i] * field[i] for i in used)

    def _upsample(self, plane: np.ndarray) -> np.ndarray:
        return self.weights[1] @ plane @ self.weights[2].T


def summed_plane(fields: list[ScoreField], z: int) -> np.ndarray:
    """Scores (K, ny, nx) of slice ``z``: those of all fields together."""
    return sum((field.plane(z) for field in fields[1:]), fields[0].plane(z))


def running_argmax(planes: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Index of the largest among ``planes`` (ny, nx), the first of equals, as uint8 (ny, nx).

    Compare, maximum and a byte-wise blend: each is one vectorised pass, which a masked copy is not.
    """
    winner = np.zeros(shape, np.uint8)
    best: np.ndarray | None = None
    for index, plane in enumerate(planes):
        if best is None:
            best = plane.copy()
            continue
        mask = np.greater(plane, best).view(np.uint8)
        np.maximum(best, plane, out=best)
        np.negative(mask, out=mask)  # 1 -> 0xFF
        winner ^= (winner ^ np.uint8(index)) & mask
    return winner


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities over the first axis of (K, ...), float32."""
    shifted = np.exp(scores - scores.max(axis=0))
    return shifted / shifted.sum(axis=0)
