"""Windows of HU in which people look at a CT: width and level, as radiologists name them.

Sliding windows, in which a network sees it, are in ``sliding_windows.py``.
"""

from __future__ import annotations

import numpy as np

from .volume import CTVolume

LUNG, SOFT_TISSUE = (1500.0, -600.0), (400.0, 40.0)
"""(width, level) in HU."""

PRESETS = (
    ("Soft tissue", *SOFT_TISSUE, "S"),
    ("Lung", *LUNG, "G"),
    ("Liver", 150.0, 90.0, "H"),
    ("Bone", 2500.0, 480.0, "B"),
    ("Brain", 80.0, 40.0, "N"),
)
"""Name, width and level in HU (the defaults of OHIF's viewer), letter to press with Shift, "" for none."""

_NEAR_MM = 15.0
_AERATED_HU = -300


def grey_levels(hu: np.ndarray, window: tuple[float, float] = SOFT_TISSUE) -> np.ndarray:
    """HU of any shape as grey levels 0 to 255, uint8."""
    width, level = window
    return np.clip((hu - level + width / 2) / width * 255, 0, 255).astype(np.uint8)


def suggested_window(volume: CTVolume, point: np.ndarray) -> tuple[float, float]:
    """(width, level) at a point in LPS mm: lung where its 15 mm neighbourhood is mostly aerated, else soft tissue."""
    index = np.rint(volume.geometry.to_index(point)).astype(int)
    reach = np.maximum(1, np.rint(_NEAR_MM / np.array(volume.geometry.spacing_mm))).astype(int)
    box = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(index, reach, strict=True))
    near = volume.hu[box]
    return LUNG if near.size and np.median(near) < _AERATED_HU else SOFT_TISSUE
