"""How large a lesion at a click may be: balls of all sizes near it that differ from their shells, in all directions.

A blob detector by means in balls and in the shells round them (as differences of boxes are, but with the scatter of
both), by Fourier transform for all middles at once; an octave of radii shares one grid. The best ball of every
radius is then looked at closely: how many sectors of its shell differ, which tells a lesion from an organ's border.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import fft

from ..volume import CTVolume
from .field import Field

SMALLEST_MM, OCTAVES, IN_OCTAVE = 3.0, 4, 4
RADII_MM = SMALLEST_MM * 2.0 ** (np.arange(OCTAVES * IN_OCTAVE) / IN_OCTAVE)
PER_RADIUS = 5.0
"""Voxels along the smallest radius of an octave, as far as the scan has them."""
CORE, SHELL = 0.85, (1.15, 1.6)
"""Relative radii of what is compared: the border itself belongs to neither."""
OFF = 0.5
"""How far from the click the middle may lie, as a share of the radius."""
HU_RANGE = (-1000.0, 400.0)
LEAST_SPREAD_HU = 10.0
WEIGHTS = np.array([0.82, -0.30, 4.98, 2.32, -4.0])
"""Of a ball's looks in its score (see :func:`_looks`), fitted on made-up and drawn lesions of train and dev patients so
that the best ball overlaps most with the truth; but for the last, as people click less in the middle than they do."""
ROOM = 1.25
"""A reach of this many radii holds a ball and the beginning of what is round it."""


class Ball(NamedTuple):
    """Its middle (LPS mm) and radius (mm); by how much it differs from its shell, in the scatter of both (``effect``);
    how likely it is the lesion, on a scale of its own (``score``)."""

    middle_lps_mm: np.ndarray
    radius_mm: float
    effect: float
    score: float


def balls_at(volume: CTVolume, point_lps_mm: np.ndarray, reach_mm: float) -> list[Ball]:
    """The balls that a click at an LPS point may mean, the likeliest first, one of each size in reach."""
    found = _best_of_each_size(volume, np.asarray(point_lps_mm, float), reach_mm)
    return sorted(found, key=lambda ball: -ball.score)


def _best_of_each_size(volume: CTVolume, point: np.ndarray, reach_mm: float) -> Iterator[Ball]:
    """The ball of every radius that differs most from its shell, with its middle near the point."""
    for octave in RADII_MM.reshape(OCTAVES, IN_OCTAVE):
        radii = octave[octave * ROOM <= reach_mm]
        if not len(radii):
            return
        field = Field.around(volume, point, (SHELL[1] + OFF) * radii[-1], radii[0] / PER_RADIUS)
        hu = np.clip(field.hu, *HU_RANGE).astype(np.float32)
        apart = np.sqrt(sum(np.square(side) for side in _sides(field, field.grid.to_index(point))))
        sums = _Sums(hu, (SHELL[1] * radii[-1]) / np.array(field.grid.spacing_mm))
        for radius in radii:
            _, core, scatter = sums.within(_kernel(field, 0, CORE * radius))
            _, shell, around = sums.within(_kernel(field, SHELL[0] * radius, SHELL[1] * radius))
            contrast, spread = core - shell, np.sqrt(scatter + around + LEAST_SPREAD_HU**2)
            effect = np.where(apart <= max(OFF * radius, float(apart.min())), np.abs(contrast) / spread, -1)
            best = np.unravel_index(effect.argmax(), effect.shape)
            weakest = _weak_sectors(hu, field, best, radius, core[best], contrast[best]) / spread[best]
            size = np.log(radius)
            looks = np.array([size, size**2, effect[best], weakest, apart[best] / radius])
            yield Ball(field.grid.to_world(np.array(best)), float(radius), float(effect[best]), float(looks @ WEIGHTS))


def _weak_sectors(hu: np.ndarray, field: Field, middle, radius: float, core: float, contrast: float) -> float:
    """By how many HU the core differs from the lower quarter of its shell's sectors: eight octants and six faces."""
    sides = _sides(field, middle)
    away = np.sqrt(sum(np.square(side) for side in sides))
    shell = (away > SHELL[0] * radius) & (away <= SHELL[1] * radius)
    if not shell.any():
        return 0.0
    places = np.stack([np.broadcast_to(side, hu.shape)[shell] for side in sides])
    octant = (places > 0).T @ np.array([4, 2, 1])
    along = np.abs(places).argmax(axis=0)
    face = 2 * along + (np.take_along_axis(places, along[None], 0)[0] > 0)
    found = []
    for sector, number in ((octant, 8), (face, 6)):
        count = np.bincount(sector, minlength=number)
        found.append((np.bincount(sector, hu[shell], minlength=number) / np.maximum(count, 1))[count > 0])
    differ = np.sort(np.sign(contrast) * (core - np.concatenate(found)))
    return float(differ[len(differ) // 4])


class _Sums:
    """Counts, means and variances within a kernel at every voxel of an array."""

    def __init__(self, hu: np.ndarray, reach: np.ndarray) -> None:
        self.shape = hu.shape
        wanted = [int(n + 2 * np.ceil(r)) for n, r in zip(hu.shape, reach, strict=True)]
        self.size = [fft.next_fast_len(n, real=True) for n in wanted]
        self.level = float(np.median(hu))
        centred = hu - self.level
        self.spectra = [fft.rfftn(part, self.size) for part in (np.ones_like(hu), centred, centred**2)]

    def within(self, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``kernel`` (z, y, x) bool with odd sides, symmetric."""
        turned = fft.rfftn(kernel.astype(np.float32), self.size)
        first = [(k - 1) // 2 for k in kernel.shape]
        parts = tuple(slice(f, f + n) for f, n in zip(first, self.shape, strict=True))
        count, total, squares = (fft.irfftn(one * turned, self.size)[parts] for one in self.spectra)
        count = np.maximum(count, 0.5)
        mean = total / count
        return count, mean + self.level, np.maximum(squares / count - mean**2, 0)


def _kernel(field: Field, least_mm: float, most_mm: float) -> np.ndarray:
    """Voxels from ``least_mm`` (0: the middle too) to ``most_mm`` from the middle, bool with odd sides."""
    sides = [np.arange(-int(most_mm / s), int(most_mm / s) + 1) * s for s in field.grid.spacing_mm]
    away = np.sqrt(sides[0][:, None, None] ** 2 + sides[1][:, None] ** 2 + sides[2] ** 2)
    return (away <= most_mm) & ((away > least_mm) | (least_mm == 0))


def _sides(field: Field, index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mm from an index along each axis, of shapes that spread to (z, y, x)."""
    z, y, x = ((np.arange(n) - i) * s for n, i, s in zip(field.grid.shape, index, field.grid.spacing_mm, strict=True))
    return z[:, None, None], y[:, None], x
