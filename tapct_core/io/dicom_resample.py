"""Slices that are uneven, or lean as of a tilted gantry, put on a rectangular grid by linear interpolation; and back.

The grid has the slices' own pixels and the smallest distance of two slices, and holds all of every slice. Each slice is
moved within its plane to where it stands; between slices values are interpolated along the normal, at the same place of
the patient. Labels go back by the nearest voxel, so what was drawn on the grid can refer to the slices themselves.
"""

from __future__ import annotations

import numpy as np

from ..volume import AIR_HU, Native


def native_grid(affine: np.ndarray, positions: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Native]:
    """(affine of the grid, where the slices lie in it) for slices of ``size`` (rows, columns) at ``positions`` (n, 3).

    ``affine`` has the steps (column, row, slice) of the grid -> LPS mm; its origin is found here.
    """
    steps = np.linalg.inv(affine[:3, :3])
    at = (positions - positions[0]) @ steps.T  # (column, row, slice) of each slice's first pixel
    low = np.floor(at.min(axis=0) + 1e-3)
    affine = affine.copy()
    affine[:3, 3] = positions[0] + affine[:3, :3] @ low
    at = (at - low)[:, ::-1]
    extent = np.floor(at.max(axis=0) + 1e-3 + (0, *(n - 1 for n in size)))
    extent[1:] = np.ceil(at[:, 1:].max(axis=0) - 1e-3) + np.array(size) - 1
    return affine, Native(at, size, tuple(int(n) + 1 for n in extent))


def resampled_slices(hu: np.ndarray, native: Native) -> np.ndarray:
    """HU of the slices (n, row, column) -> int16 on the grid (slice, row, column); what no slice covers is air."""
    from scipy import ndimage

    out = np.full(native.grid, AIR_HU, np.int16)

    def moved(k: int) -> np.ndarray:
        whole = np.full(native.grid[1:], AIR_HU, np.float32)
        rows, columns = np.floor(native.at[k, 1:] + 1e-3).astype(int)
        rows, columns = max(rows, 0), max(columns, 0)
        whole[rows : rows + native.size[0], columns : columns + native.size[1]] = hu[k]
        rest = native.at[k, 1:] - (rows, columns)
        return ndimage.shift(whole, rest, order=1, cval=AIR_HU) if np.abs(rest).max() > 1e-3 else whole

    heights = native.at[:, 0]
    last: tuple[int, np.ndarray, np.ndarray] | None = None
    for z in range(native.grid[0]):
        k = int(np.clip(np.searchsorted(heights, z, side="right") - 1, 0, len(heights) - 2))
        if last is None or last[0] != k:
            last = k, (last[2] if last is not None and last[0] == k - 1 else moved(k)), moved(k + 1)
        share = np.clip((z - heights[k]) / (heights[k + 1] - heights[k]), 0.0, 1.0)
        out[z] = np.rint((1 - share) * last[1] + share * last[2])
    return out


def onto_slices(grid: np.ndarray, native: Native) -> np.ndarray:
    """Labels on the grid (slice, row, column) -> on the slices (n, row, column), from the nearest voxels."""
    out = np.zeros((len(native.at), *native.size), grid.dtype)
    for k, (z, row, column) in enumerate(np.rint(native.at).astype(int)):
        z = min(z, native.grid[0] - 1)
        part = grid[z, row : row + native.size[0], column : column + native.size[1]]
        out[k, : part.shape[0], : part.shape[1]] = part
    return out
