"""A made-up trunk with two organs and strokes on it, for the tests of delineation."""

from __future__ import annotations

import numpy as np

from tapct_core.geometry import Geometry
from tapct_core.volume import CTVolume, LabelMap

NAMES = {1: "liver", 2: "kidney", 9: "background"}


def trunk(spacing_mm=(5.0, 2.0, 2.0), shape=(16, 48, 56), noise=12.0) -> tuple[CTVolume, np.ndarray]:
    """HU of an elliptic trunk in air with a bright ball (label 1) and a dark one (label 2) in it, and the truth."""
    rng = np.random.default_rng(0)
    middle = (np.array(shape) - 1) / 2 * spacing_mm
    z, y, x = (np.indices(shape) * np.array(spacing_mm)[:, None, None, None]) - middle[:, None, None, None]
    half = np.array(shape) * spacing_mm / 2
    hu = np.where((y / (0.85 * half[1])) ** 2 + (x / (0.85 * half[2])) ** 2 < 1, 30.0, -1000.0)
    truth = np.zeros(shape, np.uint8)
    truth[z**2 + y**2 + (x + 0.35 * half[2]) ** 2 < (0.4 * half[1]) ** 2] = 1
    truth[z**2 + y**2 + (x - 0.4 * half[2]) ** 2 < (0.3 * half[1]) ** 2] = 2
    hu = hu + 80 * (truth == 1) - 60 * (truth == 2) + rng.normal(0, noise, shape)
    return CTVolume(hu.astype(np.int16), Geometry.from_spacing(shape, spacing_mm, (10.0, -20.0, 5.0))), truth


def painted(truth: np.ndarray, volume: CTVolume, slices=(0.4, 0.5, 0.6)) -> LabelMap:
    """A bar within each organ and on the trunk, in slices at these shares of the depth."""
    strokes = np.zeros(truth.shape, np.uint8)
    for share in slices:
        z = int(share * len(truth))
        for value in (1, 2):
            where = np.argwhere(truth[z] == value)
            if len(where):
                y, x = where.mean(axis=0).astype(int)
                strokes[z, y - 1 : y + 2, x - 3 : x + 4] = np.where(
                    truth[z, y - 1 : y + 2, x - 3 : x + 4] == value, value, 0
                )
        row = truth.shape[1] // 6
        bar = (slice(row, row + 2), slice(truth.shape[2] // 3, 2 * truth.shape[2] // 3))
        strokes[z][bar] = np.where(volume.hu[z][bar] > -300, 9, 0)
    return LabelMap(strokes, volume.geometry, names=dict(NAMES))


def dice(found: np.ndarray, truth: np.ndarray, value: int) -> float:
    """Overlap of one label."""
    return float(2 * ((found == value) & (truth == value)).sum() / ((found == value).sum() + (truth == value).sum()))
