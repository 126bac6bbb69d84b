"""Sliding windows that start on whole tokens, and how their tokens are put together into one grid.

Windows are planned on the token grid, never on voxels, so that no token is ever rounded into place
(a window pulled back by half a patch is how sliding-window inferers come to be up to one patch off).

Where windows share tokens:

- without overlap only the last window of an axis, pulled back to end with the grid, does: every token then
  belongs to the window in which it lies deeper, so each token is written exactly once;
- with overlap all windows that hold a token are averaged, weighted by a Gaussian about the window's centre.

All triples are (z, y, x) in tokens.
"""

from __future__ import annotations

import numpy as np

from .errors import UserError
from .geometry import Shape

OVERLAP = 0.0
"""Share of a window that the next one repeats unless somebody says otherwise: in the library, on the command line and
in the window alike, so that all three find the same features in the cache. Published figures were measured with it."""

SIGMA = 0.125
"""Standard deviation of the Gaussian as a share of the window: that of MONAI's sliding-window inferer."""


def fitted_window(grid: Shape, window: Shape) -> Shape:
    """The window, cut down to the grid where the grid is smaller."""
    return tuple(min(w, g) for w, g in zip(window, grid, strict=True))


def plan_windows(grid: Shape, window: Shape, overlap: float = 0.0) -> np.ndarray:
    """First tokens of the windows that cover ``grid`` to its last token -> (n, 3) int32, z slowest.

    ``overlap`` is the share of a window that the next one repeats, at least: strides are whole
    tokens, rounded down, and never under one. Raises UserError unless 0 <= overlap < 1.
    """
    axes = [axis_starts(g, w, overlap) for g, w in zip(grid, window, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)


def axis_starts(length: int, window: int, overlap: float) -> np.ndarray:
    """First tokens of the windows along one axis of ``length`` tokens, ascending, without repeats."""
    if not 0 <= overlap < 1:
        raise UserError(f"overlap is {overlap}; it must be at least 0 and below 1")
    window = min(window, length)
    stride = max(1, int(window * (1 - overlap) + 1e-9))  # 3 tokens at overlap 2/3 give 1, not 0.9999
    return np.append(np.arange(0, length - window, stride), length - window)


def axis_owners(length: int, window: int, overlap: float) -> np.ndarray:
    """For every token of an axis the first token of the window in which it lies deepest -> (length,) int64.

    Two neighbouring windows part in the middle of what they share; an odd token goes to the first.
    """
    window = min(window, length)
    starts = axis_starts(length, window, overlap)
    parts = (starts[:-1] + window + starts[1:] + 1) // 2  # where the next window takes over
    return starts[np.searchsorted(parts, np.arange(length), side="right")]


def owned_region(start: np.ndarray, grid: Shape, window: Shape) -> tuple[slice, slice, slice]:
    """The box of the grid whose tokens belong to the window at ``start`` when windows do not overlap."""
    region = []
    for first, length, size in zip(start, grid, window, strict=True):
        tokens = np.flatnonzero(axis_owners(length, size, 0.0) == first)
        region.append(slice(int(tokens[0]), int(tokens[-1]) + 1))
    return tuple(region)


def places_in_window(grid: Shape, window: Shape, overlap: float = 0.0) -> np.ndarray:
    """Where each token lies in the window that owns it -> (Z, Y, X, 3) int16.

    Along an axis that one window covers, the place is 0 throughout: there, place in the window is
    place in the body, which is no artefact.
    """
    axes = []
    for length, size in zip(grid, window, strict=True):
        alone = len(axis_starts(length, size, overlap)) == 1
        axes.append(np.zeros(length, int) if alone else np.arange(length) - axis_owners(length, size, overlap))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.int16)


def token_weights(window: Shape) -> np.ndarray:
    """Gaussian weights of a window's tokens, taken at their centres, 1 in the middle -> (z, y, x) float32."""
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (SIGMA * n)) ** 2) for n in window]
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)
