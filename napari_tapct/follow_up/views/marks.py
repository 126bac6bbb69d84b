"""Marks that are seen on every slice: points layers in drawn mm that leave the viewer's slider alone.

napari draws a point on the slice through it alone, and takes the smallest scale of all layers as the slider's step.
With a scale of about a metre every slice lies within half a voxel of every point, no step gets finer, and a mark is
round in every plane. Who wants a mark to fade away from its slice says so by its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Points

METRE = 1024.0
"""Drawn mm a data unit; a power of two, so that nothing is rounded on the way."""


def marks_layer(name: str, **attributes: Any) -> Points:
    """An empty points layer for :func:`to_data`; ``size`` and other lengths are in mm / METRE, too."""
    layer = Points(
        np.zeros((0, 3)),
        ndim=3,
        name=name,
        scale=(METRE,) * 3,
        units=("mm",) * 3,
        axis_labels=("z", "y", "x"),
        **attributes,
    )
    layer.editable = False
    return layer


def to_data(drawn_mm: np.ndarray) -> np.ndarray:
    """Drawn positions (..., 3) as data of a marks layer."""
    return np.asarray(drawn_mm, dtype=float) / METRE
