"""Where the patient is: the mask that keeps air, table and blanket out of what is compared."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def body_mask(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The patient, lungs included: what is not room air, holes filled slice by slice -> bool (z, y, x).

    ``hu`` any real dtype, ``spacing_mm`` (z, y, x). Meant for coarse grids (2 to 4 mm). Lungs that the edge of
    the image cuts open are no holes; they are kept as what lies near tissue and is denser than room air.
    """
    smooth = ndimage.uniform_filter(np.asarray(hu, dtype=np.float32), [max(1, round(6 / s)) for s in spacing_mm])
    filled = np.stack([ndimage.binary_fill_holes(part) for part in smooth > -400])
    labels, count = ndimage.label(filled)
    if count > 1:  # table, blanket and noise lie beside the patient
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        filled = (sizes >= 0.1 * sizes.max())[labels]
    near = ndimage.binary_dilation(filled, iterations=max(1, round(9 / min(spacing_mm))))
    return filled | ((smooth > -930) & near)
