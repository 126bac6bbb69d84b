"""What HU themselves say, as features a linear head can use beside the tokens.

A weight on HU can only say "brighter is more so"; tissue lies in a band. HU are therefore written in hat functions
(linear B-splines) on fixed knots, which makes any piecewise linear curve of HU a linear function of the features.
The knots are denser where soft tissues differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..features import FeatureMap
from ..geometry import Geometry
from .upsample import AxisLerp, axis_weights, used_span

KNOTS_HU = np.array([-1000, -800, -500, -200, -120, -80, -40, 0, 30, 60, 100, 150, 220, 350, 600, 1200], np.float32)
SCALES_MM = (1.5, 3.0, 6.0)
"""Standard deviations of the Gaussians of the voxel features."""
SLOPE_HU = 100.0
"""Gradients (HU a scale) and deviations are divided by this, which brings them to the size of the hats."""
TOKEN_CHANNELS = 2 * len(KNOTS_HU) + 1
VOXEL_CHANNELS = len(SCALES_MM) * (len(KNOTS_HU) + 2)
_BLOCK = 4
_TABLE_LOW, _TABLE_HIGH = -1024, 3072


def hats(hu: np.ndarray) -> np.ndarray:
    """HU (...) -> values of the hat functions (..., len(KNOTS_HU)), which sum to 1; beyond the ends they stay."""
    clipped = np.clip(hu, KNOTS_HU[0], KNOTS_HU[-1])[..., None]
    low = np.clip(np.searchsorted(KNOTS_HU, clipped, side="right") - 1, 0, len(KNOTS_HU) - 2)
    fraction = (clipped - KNOTS_HU[low]) / (KNOTS_HU[low + 1] - KNOTS_HU[low])
    knot = np.arange(len(KNOTS_HU))
    return np.where(knot == low, 1 - fraction, 0) + np.where(knot == low + 1, fraction, 0).astype(np.float32)


def token_hu(features: FeatureMap) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of HU within each token's own box, (Z, Y, X) float32 each."""
    bounds = [_token_bounds(features.hu_geometry, features.geometry, axis) for axis in range(3)]
    mean, square = np.empty(features.geometry.shape, np.float32), np.empty(features.geometry.shape, np.float32)
    for z, (start, stop) in enumerate(bounds[0]):
        slab = features.hu[start:stop].astype(np.float32)
        mean[z] = _box_means(slab.mean(axis=0), bounds[1], bounds[2])
        square[z] = _box_means(np.square(slab, out=slab).mean(axis=0), bounds[1], bounds[2])
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def token_channels(features: FeatureMap) -> np.ndarray:
    """(Z, Y, X, TOKEN_CHANNELS) float32: hats of a token's mean HU and its 3 x 3 x 3 neighbours', and its deviation."""
    from scipy.ndimage import uniform_filter

    mean, deviation = token_hu(features)
    return np.concatenate(
        [hats(mean), hats(uniform_filter(mean, 3, mode="nearest")), deviation[..., None] / SLOPE_HU], axis=-1
    ).astype(np.float32)


def _token_bounds(voxels: Geometry, tokens: Geometry, axis: int) -> list[tuple[int, int]]:
    """Voxels [start, stop) of each token along one axis; tokens over the border take the last voxel."""
    edges = np.zeros((tokens.shape[axis] + 1, 3))
    edges[:, axis] = np.arange(tokens.shape[axis] + 1) - 0.5
    index = np.rint(voxels.to_index(tokens.to_world(edges))[:, axis] + 0.5).astype(int)
    size = voxels.shape[axis]
    starts = index[:-1].clip(0, size - 1)
    return [(a, max(a + 1, min(b, size))) for a, b in zip(starts, index[1:], strict=True)]


def _box_means(plane: np.ndarray, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> np.ndarray:
    sums = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
    np.cumsum(np.cumsum(plane, axis=0, dtype=np.float64), axis=1, out=sums[1:, 1:])
    (r0, r1), (c0, c1) = np.array(rows).T, np.array(columns).T
    total = sums[np.ix_(r1, c1)] - sums[np.ix_(r0, c1)] - sums[np.ix_(r1, c0)] + sums[np.ix_(r0, c0)]
    return (total / np.outer(r1 - r0, c1 - c0)).astype(np.float32)


def voxel_maps(hu: np.ndarray, spacing_mm: tuple[float, float, float], start: int, stop: int) -> Iterator[tuple]:
    """For each of SCALES_MM the smoothed HU, gradient and Laplacian of slices [start, stop), each (n, H, W) float32.

    Gaussian derivatives by central differences of the smoothed HU, times the scale (Lindeberg's normalisation), so
    that an edge has the same strength at any spacing. Only the slices asked for are filtered.
    """
    for scale in SCALES_MM:
        smooth = _smooth_rows(hu, [scale / s for s in spacing_mm], start - 1, stop + 1)
        slopes, laplace = np.zeros_like(smooth[1:-1]), np.zeros_like(smooth[1:-1])
        for axis, step in enumerate(spacing_mm):
            before, here, after = _neighbours(smooth, axis)
            slopes += ((after - before) * (scale / (2 * step))) ** 2
            laplace += (after + before - 2 * here) * (scale / step) ** 2
        yield smooth[1:-1], np.sqrt(slopes), laplace


def voxel_channels(features: FeatureMap, points_lps_mm: np.ndarray) -> np.ndarray:
    """Voxel features (N, VOXEL_CHANNELS) float32 at LPS points (N, 3), interpolated linearly between voxels."""
    from scipy.ndimage import map_coordinates

    index = features.hu_geometry.to_index(points_lps_mm).clip(0, np.array(features.hu.shape) - 1)
    out = np.empty((len(index), VOXEL_CHANNELS), np.float32)
    block = (index[:, 0] // _BLOCK).astype(int)
    for number in np.unique(block):
        own = block == number
        start = int(number) * _BLOCK
        where = (index[own] - [start, 0, 0]).T
        parts = []
        for maps in voxel_maps(features.hu, features.hu_geometry.spacing_mm, start, start + _BLOCK + 1):
            smooth, slope, laplace = (map_coordinates(m, where, order=1, mode="nearest") for m in maps)
            parts += [hats(smooth), slope[:, None] / SLOPE_HU, laplace[:, None] / SLOPE_HU]
        out[own] = np.concatenate(parts, axis=1)
    return out


def _smooth_rows(hu: np.ndarray, sigma: list[float], start: int, stop: int) -> np.ndarray:
    """Gaussian of ``sigma`` voxels (z, y, x) of slices [start, stop), which may reach over the ends (edge repeated)."""
    from scipy.ndimage import gaussian_filter1d

    reach = max(1, int(3 * sigma[0] + 0.5))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma[0]) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    slices = np.arange(start - reach, stop + reach).clip(0, len(hu) - 1)
    first, last = slices.min(), slices.max() + 1
    matrix = np.zeros((stop - start, last - first), np.float32)
    for row in range(stop - start):
        np.add.at(matrix[row], slices[row : row + len(taps)] - first, taps)
    rows = np.tensordot(matrix, hu[first:last].astype(np.float32), axes=1)
    for axis in (1, 2):
        gaussian_filter1d(rows, sigma[axis], axis=axis, mode="nearest", truncate=3.0, output=rows)
    return rows


def _neighbours(smooth: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if axis == 0:
        return smooth[:-2], smooth[1:-1], smooth[2:]
    inner = smooth[1:-1]
    size = inner.shape[axis]
    before, after = np.arange(size) - 1, np.arange(size) + 1
    return inner.take(before.clip(0), axis), inner, inner.take(after.clip(0, size - 1), axis)


@dataclass(eq=False)
class VoxelScores:
    """Scores of the voxel features, computed a few slices at a time and read on a target grid (a ScoreField)."""

    features: FeatureMap
    table: np.ndarray  # (scales, K, HU values)
    slopes: np.ndarray  # (scales, 2, K)
    bounds: np.ndarray  # (low and high, scales, 2), of gradient and Laplacian in HU
    lerps: tuple[AxisLerp, AxisLerp, AxisLerp]
    needed: slice
    box: tuple[slice, slice]

    @classmethod
    def on(
        cls,
        features: FeatureMap,
        weights: np.ndarray,
        target: Geometry,
        limits: tuple[np.ndarray, np.ndarray] = (-np.inf, np.inf),
    ) -> VoxelScores:
        """``weights`` (VOXEL_CHANNELS, K) of :func:`voxel_channels`, to be read on ``target``; each channel is held
        within its ``limits`` (VOXEL_CHANNELS,) before."""
        count = weights.shape[1]
        split = weights.reshape(len(SCALES_MM), len(KNOTS_HU) + 2, count)
        hu = np.arange(_TABLE_LOW, _TABLE_HIGH)
        low, high = (np.broadcast_to(limit, len(weights)).reshape(split.shape[:2]) for limit in limits)
        curves = np.clip(hats(hu), low[:, None, : len(KNOTS_HU)], high[:, None, : len(KNOTS_HU)])  # (scales, HU, knots)
        table = np.einsum("shk,skc->sch", curves, split[:, : len(KNOTS_HU)]).astype(np.float32)
        along = axis_weights(features.hu_geometry, target)
        needed, *box = (used_span(rows) for rows in along)
        lerps = tuple(AxisLerp.of(rows) for rows in (along[0], along[1][:, box[0]], along[2][:, box[1]]))
        slopes = (split[:, len(KNOTS_HU) :] / SLOPE_HU).astype(np.float32)
        bounds = SLOPE_HU * np.stack([low, high])[..., len(KNOTS_HU) :].astype(np.float32)
        made = cls(features, table, slopes, bounds, lerps, needed, box)
        made._held = (-1, np.empty(0))
        return made

    def plane(self, z: int) -> np.ndarray:
        """Scores (K, ny, nx) of the target's slice ``z``."""
        along, rows, columns = self.lerps
        (left, right), low, high = along.weights[:, z], along.low[z], along.high[z]
        if not left:  # outside the embedded grid
            return np.zeros((self.table.shape[1], len(rows.low), len(columns.low)), np.float32)
        plane = left * self._slice(int(low))
        if right:
            plane += right * self._slice(int(high))
        return columns.along(rows.along(plane, 1), 2)

    def _slice(self, index: int) -> np.ndarray:
        """Scores (K, h, w) of slice ``index`` of the embedded grid. Blocks begin at the first slice that is needed."""
        number = (index - self.needed.start) // _BLOCK
        if self._held[0] != number:
            start = self.needed.start + number * _BLOCK
            self._held = (number, self._block(start, min(start + _BLOCK, self.needed.stop)))
        return self._held[1][:, index - self.needed.start - number * _BLOCK]

    def _block(self, start: int, stop: int) -> np.ndarray:
        reach = self._reach()
        hu = self.features.hu[:, reach[0], reach[1]]
        inner = tuple(slice(b.start - r.start, b.stop - r.start) for b, r in zip(self.box, reach, strict=True))
        total = None
        for s, maps in enumerate(voxel_maps(hu, self.features.hu_geometry.spacing_mm, start, stop)):
            smooth, slope, laplace = (m[:, inner[0], inner[1]] for m in maps)
            slope, laplace = (np.clip(m, *self.bounds[:, s, i]) for i, m in enumerate((slope, laplace)))
            place = np.clip(np.rint(smooth), _TABLE_LOW, _TABLE_HIGH - 1).astype(np.intp) - _TABLE_LOW
            total = np.zeros((self.table.shape[1], *place.shape), np.float32) if total is None else total
            for c in range(len(total)):
                total[c] += self.table[s, c].take(place)
                total[c] += self.slopes[s, 0, c] * slope
                total[c] += self.slopes[s, 1, c] * laplace
        return total

    def _reach(self) -> tuple[slice, slice]:
        """The box, and as much round it as the widest Gaussian sees."""
        spacing = self.features.hu_geometry.spacing_mm[1:]
        grown = []
        for part, step, size in zip(self.box, spacing, self.features.hu.shape[1:], strict=True):
            margin = int(3 * max(SCALES_MM) / step) + 3
            grown.append(slice(max(0, part.start - margin), min(size, part.stop + margin)))
        return tuple(grown)
