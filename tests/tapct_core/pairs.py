"""A small real pair: a piece of the packaged chest CT, and the same piece moved by a known whole number of voxels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from tapct_core.geometry import Geometry
from tapct_core.samples import load_sample
from tapct_core.volume import CTVolume

SHAPE = (36, 100, 84)
"""Voxels (z, y, x) of 2.5 x 2 x 2 mm."""
START = (36, 24, 50)
RADII_MM, RADII_LATER_MM = (7.0, 6.0, 6.5), (9.0, 6.0, 0.0)
"""Of the three lesions: one grows, one stays, one goes."""
SHIFT = (2, -3, 4)
"""The follow-up's piece begins so many voxels further on."""


@dataclass(frozen=True, eq=False)
class MovedPair:
    """Two scans of one patient: LPS mm of the baseline + ``shift_mm`` are LPS mm of the follow-up."""

    before: CTVolume
    after: CTVolume
    shift_mm: np.ndarray
    places: np.ndarray
    """LPS mm (3, 3) of the three lesions in the baseline."""


@cache
def moved_pair() -> MovedPair:
    """The follow-up shows the same patient, scanned again on a table that was moved, with other noise."""
    whole = load_sample("breathing_pair")["baseline"]
    grid = whole.geometry.cropped(START, SHAPE)
    moved = tuple(a + b for a, b in zip(START, SHIFT, strict=True))
    table_mm = np.array([6.0, -4.0, 5.0])
    affine = whole.geometry.cropped(moved, SHAPE).affine.copy()
    affine[:3, 3] += table_mm
    places = in_lung(_piece(whole, START), grid)
    before = with_balls(_piece(whole, START), grid, places, RADII_MM)
    after = with_balls(_piece(whole, moved), Geometry(SHAPE, affine), places + table_mm, RADII_LATER_MM)
    after = np.rint(after + np.random.default_rng(0).normal(0, 8, SHAPE)).astype(np.int16)
    return MovedPair(CTVolume(before, grid), CTVolume(after, Geometry(SHAPE, affine)), table_mm, places)


def _piece(volume: CTVolume, start: tuple[int, int, int]) -> np.ndarray:
    return volume.hu[tuple(slice(a, a + n) for a, n in zip(start, SHAPE, strict=True))].copy()


def in_lung(hu: np.ndarray, grid: Geometry) -> np.ndarray:
    """LPS mm (3, 3) of three voxels with nothing but lung within 10 mm, well apart."""
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), 1)
    lung = ndimage.binary_erosion((smooth < -600) & (smooth > -970), iterations=3)
    lung[:10] = lung[-10:] = lung[:, :14] = lung[:, -14:] = lung[:, :, :14] = lung[:, :, -14:] = False
    found: list[np.ndarray] = []
    for index in np.argwhere(lung):
        if all(np.linalg.norm((index - other) * grid.spacing_mm) > 26 for other in found):
            found.append(index)
    return grid.to_world(np.array(found[:3]))


def with_balls(hu: np.ndarray, grid: Geometry, places: np.ndarray, radii_mm: tuple[float, ...]) -> np.ndarray:
    """The scan with solid balls of 40 HU at LPS places."""
    at = np.moveaxis(np.indices(hu.shape), 0, -1)
    for place, radius in zip(places, radii_mm, strict=True):
        hu[np.linalg.norm(grid.to_world(at.reshape(-1, 3)) - place, axis=1).reshape(hu.shape) < radius] = 40
    return hu
