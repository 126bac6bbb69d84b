"""Where the patient is: the mask that keeps air, table and blanket out of what is compared."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_SHELL_MM = 12.0
"""Thicker than a couch's shell, thinner than the wall of a chest."""


def body_mask(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The patient, lungs included: what is not room air, holes filled slice by slice -> bool (z, y, x).

    ``hu`` any real dtype, ``spacing_mm`` (z, y, x). Meant for coarse grids (2 to 4 mm). Lungs that the edge of
    the image cuts open are no holes; they are kept as what lies near tissue and is denser than room air.
    """
    smooth = _smooth(hu, spacing_mm)
    # Table, blanket and noise lie beside the patient.
    filled = _large_parts(np.stack([ndimage.binary_fill_holes(part) for part in smooth > -400]))
    near = ndimage.binary_dilation(filled, iterations=max(1, round(9 / min(spacing_mm))))
    return filled | ((smooth > -930) & near)


def inside_skin(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Where lesions can be: the patient without the couch and its foam, which may look like lung -> bool (z, y, x).

    As :func:`body_mask`, but what is thinner than ``_SHELL_MM``, as a couch's shell is, holds nothing together and
    encloses nothing. Lungs that the edge of the image cuts open may be left out.
    """
    radius = _SHELL_MM / 2 / np.array(spacing_mm)
    reach = np.floor(radius).astype(int)
    offsets = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    ball = sum((offset / r) ** 2 for offset, r in zip(offsets, radius, strict=True)) <= 1
    tissue = np.pad(_smooth(hu, spacing_mm) > -400, [(r + 1, r + 1) for r in reach], mode="edge")
    thick = ndimage.binary_opening(tissue, ball)[tuple(slice(r + 1, -r - 1) for r in reach)]
    return np.stack([ndimage.binary_fill_holes(part) for part in _large_parts(thick)])


def _smooth(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    return ndimage.uniform_filter(np.asarray(hu, dtype=np.float32), [max(1, round(6 / s)) for s in spacing_mm])


def _large_parts(mask: np.ndarray) -> np.ndarray:
    """The largest connected part and those of at least a tenth of its size."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= 0.1 * sizes.max())[labels]
