"""Where the patient is: the mask that keeps air, table and blanket out of what is compared.

Lungs are the patient's in every scan, also where the edge of the image cuts them open or the wall of the chest is as
thin as a couch's shell. They are told from room air by what they hold, and from a couch's foam by being denser or
uneven.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

Spacing = tuple[float, float, float]

TISSUE_HU, NEAR_HU, ROOM_HU = -400.0, -930.0, -960.0
"""Above the first is tissue; beside tissue, what is above the second is the patient still; below the third, averaged
over some millimetres, is air of the room or of the gut."""
SHELL_MM = 12.0
"""Thicker than a couch's shell. A chest wall may be thinner: then what it encloses decides."""
SKIN_MM = 10.0
"""Between tissue and room air lies a border of mixed HU; what holds air and is thicker than this is no border."""
LEAST_ML = 100.0
"""Smaller regions that hold air are folds of clothes, or lie so near to tissue that they are the patient's anyway."""
LUNG_HU, AIRIEST_HU, UNEVEN_HU = -900.0, -925.0, 20.0
"""Median deep inside: from the first on a region is lung. Down to the second it is where it is as uneven (between
quartiles) as vessels make it. Foam and mattresses are lighter: on train and dev patients -932 or less, lungs -914 or
more."""
CLOSED = 0.25
"""Least share of a lung's border, the image's edge aside, that is no room air: clothes and blankets are more open."""


def body_mask(hu: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """The patient, lungs included: what is not room air, holes filled slice by slice -> bool (z, y, x).

    ``hu`` any real dtype, ``spacing_mm`` (z, y, x). Meant for coarse grids (2 to 4 mm).
    """
    smooth = _smooth(hu, spacing_mm)
    # Table, blanket and noise lie beside the patient.
    filled = _large_parts(_holes_filled(smooth > TISSUE_HU))
    near = ndimage.binary_dilation(filled, iterations=max(1, round(9 / min(spacing_mm))))
    lungs = _lungs(hu, smooth, filled, near, spacing_mm)
    return _holes_filled(filled | lungs) | (near & (smooth > NEAR_HU))


def inside_skin(hu: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Where lesions can be: the patient without the couch and its foam, which may look like lung -> bool (z, y, x).

    As :func:`body_mask`, but what is thinner than ``SHELL_MM``, as a couch's shell is, holds nothing together, and
    encloses nothing but lung.
    """
    smooth = _smooth(hu, spacing_mm)
    thick = _large_parts(_opened(smooth > TISSUE_HU, SHELL_MM, spacing_mm))
    near = _grown(thick, 9.0, spacing_mm)
    return _holes_filled(thick | _lungs(hu, smooth, smooth > TISSUE_HU, near, spacing_mm))


def _lungs(hu: np.ndarray, smooth: np.ndarray, tissue: np.ndarray, near: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Lung, to its border of mixed HU -> bool (z, y, x)."""
    found = [region for region, closed in _airy(smooth, tissue, near, spacing_mm) if _is_lung(hu, region, closed)]
    lungs = np.logical_or.reduce([np.zeros(hu.shape, bool), *found])
    return _grown(lungs, 6.0, spacing_mm) & (smooth > ROOM_HU) if found else lungs


def _airy(
    smooth: np.ndarray, tissue: np.ndarray, near: np.ndarray, spacing_mm: Spacing
) -> Iterator[tuple[np.ndarray, float]]:
    """Regions beside the patient (``near``) that hold air and are no room air, and what share of their border is none.

    Thinner ones than a border between tissue and air are left out, and small ones.
    """
    labels, _ = ndimage.label(_opened((smooth > ROOM_HU) & (smooth <= TISSUE_HU), SKIN_MM, spacing_mm))
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        box = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
        region = labels[box] == number
        if region.sum() * voxel_ml < LEAST_ML or not (region & near[box]).any():
            continue
        rim = ndimage.binary_dilation(region, iterations=2) & ~region  # past the border of mixed HU
        if not (tissue[box] & rim).any():
            continue
        whole = np.zeros(smooth.shape, bool)
        whole[box] = region
        yield whole, float((smooth[box][rim] > ROOM_HU).mean())


def _is_lung(hu: np.ndarray, region: np.ndarray, closed: float) -> bool:
    """Whether a region that holds air is lung, and no foam, by what it is deep inside."""
    deep = ndimage.binary_erosion(region, iterations=2)
    low, middle, high = np.percentile(hu[deep if deep.any() else region], (25, 50, 75))
    return closed >= CLOSED and bool(middle >= LUNG_HU or (middle >= AIRIEST_HU and high - low >= UNEVEN_HU))


def _opened(mask: np.ndarray, width_mm: float, spacing_mm: Spacing) -> np.ndarray:
    """Without what is thinner than a cube of this width; the edge of the image makes nothing thinner."""
    width = [max(1, int(np.ceil(width_mm / s))) for s in spacing_mm]
    padded = np.pad(mask.view(np.uint8), [(w, w) for w in width], mode="edge")
    return ndimage.grey_opening(padded, width)[tuple(slice(w, -w) for w in width)] > 0


def _grown(mask: np.ndarray, by_mm: float, spacing_mm: Spacing) -> np.ndarray:
    """The mask and what lies within ``by_mm`` of it along the axes."""
    width = [2 * max(1, round(by_mm / s)) + 1 for s in spacing_mm]
    return ndimage.maximum_filter(mask.view(np.uint8), width) > 0


def _holes_filled(mask: np.ndarray) -> np.ndarray:
    """With the holes of each axial slice."""
    return np.stack([ndimage.binary_fill_holes(part) for part in mask])


def _smooth(hu: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    return ndimage.uniform_filter(np.asarray(hu, dtype=np.float32), [max(1, round(6 / s)) for s in spacing_mm])


def _large_parts(mask: np.ndarray) -> np.ndarray:
    """The largest connected part and those of at least a tenth of its size."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= 0.1 * sizes.max())[labels]
