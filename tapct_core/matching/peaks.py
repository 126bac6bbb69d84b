"""The highest place of a map, between its samples."""

from __future__ import annotations

import numpy as np


def parabolic_peaks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest place of each map (N, z, y, x) -> fractional indices (N, 3), heights (N,) of the highest sample.

    A parabola through the peak and its two neighbours along each axis; at a border the sample itself.
    """
    flat = values.reshape(len(values), -1)
    top = flat.argmax(axis=1)
    rows = np.arange(len(values))
    index = np.stack(np.unravel_index(top, values.shape[1:]), axis=1)
    heights = flat[rows, top]
    place = index.astype(np.float64)
    for axis, size in enumerate(values.shape[1:]):
        before, after = index.copy(), index.copy()
        before[:, axis] = np.maximum(index[:, axis] - 1, 0)
        after[:, axis] = np.minimum(index[:, axis] + 1, size - 1)
        low, high = values[rows, *before.T], values[rows, *after.T]
        curvature = low - 2 * heights + high
        inner = (index[:, axis] > 0) & (index[:, axis] < size - 1) & (curvature < -1e-9)
        place[:, axis] += np.where(inner, 0.5 * (low - high) / np.minimum(curvature, -1e-9), 0.0)
    return place, heights
