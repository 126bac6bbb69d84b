"""Conjugate gradients with a geometric multigrid cycle for graph Laplacians on masked voxel grids, many right sides.

Cells are merged in pairs along the axes whose steps are short (2 x 2 x 2 where all are alike), down to a system that is
solved directly. Interpolation is piecewise constant and the coarse systems are its own (Galerkin), which for a graph
means that edges between merged cells add up: the coarse step never goes too far, whatever the contrast of the weights.
Conductors in series, as cell-centred grids have them (Wesseling, "An Introduction to Multigrid Methods", 1992), do
overshoot in noise. What piecewise constants lack conjugate gradients make good (Notay 2010, ETNA 37:123).

Every level is scaled by the roots of its diagonal, which makes that 1; a fixed cell has scale 0 and thus takes no part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

Spacing = tuple[float, float, float]
Cancel = Callable[[], bool]

DAMPING = 0.8
"""Of the Jacobi smoother; 6/7 is best for an even grid in three directions."""
DIRECT = 1500
"""Cells that are few enough for a direct solution."""
ALIKE = 1.5
"""Axes whose step is at most this many times the shortest are merged."""
MOST_STEPS = 100
STRAY = 1e-3
"""Voxels that noise cuts off from all others settle late, and decide nothing."""


class WalkCancelled(Exception):
    """The cancel callback said so. Nothing is left behind."""


@dataclass(frozen=True, eq=False)
class Level:
    """``edges`` (n, n) float32 without a diagonal; ``degree`` (n,) its row sums; ``parent`` (n,) its merged cell."""

    edges: sparse.csr_array
    degree: np.ndarray
    parent: np.ndarray | None


def levels(weights: list[np.ndarray], mask: np.ndarray, spacing_mm: Spacing) -> list[Level]:
    """The grid and its coarser ones. ``weights``: for each axis those between neighbours, shape less one there."""
    found = []
    spacing = np.array(spacing_mm, float)
    while True:
        inside = [w * both(mask, axis) for axis, w in enumerate(weights)]
        edges = _matrix(inside, mask)
        merged = [
            bool(step <= ALIKE * spacing.min() and size > 1) for step, size in zip(spacing, mask.shape, strict=True)
        ]
        last = len(found) > 20 or edges.shape[0] <= DIRECT or not any(merged)
        coarse_mask = mask
        for axis in np.flatnonzero(merged):
            coarse_mask = _paired(coarse_mask, axis, np.logical_or)
        parent = None if last else _parents(mask, coarse_mask, merged)
        found.append(Level(edges, np.asarray(edges.sum(axis=1), np.float32).ravel(), parent))
        if last:
            return found
        weights = [_merged_edges(inside, axis, merged) for axis in range(3)]
        mask, spacing = coarse_mask, spacing * np.where(merged, 2, 1)


def both(mask: np.ndarray, axis: int) -> np.ndarray:
    """Which pairs of neighbours along an axis lie in the mask, both of them."""
    size = mask.shape[axis]
    return mask[along(axis, 0, size - 1)] & mask[along(axis, 1, size)]


def along(axis: int, start: int | None, stop: int | None, step: int | None = None) -> tuple[slice, slice, slice]:
    """Slices of a part along one axis."""
    return tuple(slice(start, stop, step) if a == axis else slice(None) for a in range(3))


def solve(
    grid: list[Level],
    tie: np.ndarray,
    fixed: np.ndarray,
    right: np.ndarray,
    x: np.ndarray,
    tolerance: float,
    cancel: Cancel | None = None,
) -> np.ndarray:
    """Solves (degree + tie - edges) x = right at the cells that are not ``fixed``; there x is 0 -> (n, K) float32.

    ``tie`` (n,) at least 0, ``right`` (n, K) with the fixed cells' part counted already, ``x`` (n, K) where to begin.
    Ends when a cycle would move no more than STRAY of the unknowns by over ``tolerance``, or after MOST_STEPS.
    """
    cycle = Cycle(grid, tie, fixed)
    x = x * cycle.back[:, None]
    residual = right * cycle.scale[:, None]
    if x.any():
        residual -= cycle.times(x)
    direction = np.zeros_like(x)
    last = 1.0
    for _ in range(MOST_STEPS):
        if cancel is not None and cancel():
            raise WalkCancelled
        step = cycle.apply(residual)
        moving = np.count_nonzero(np.abs(step) > (tolerance * cycle.back)[:, None])
        if moving <= STRAY * step.size:
            x += step
            break
        size = _product(residual, step)
        direction *= np.float32(size / last)
        direction += step
        moved = cycle.times(direction)
        length = np.float32(size / max(_product(direction, moved), 1e-30))
        x += length * direction
        moved *= length
        residual -= moved
        last = max(size, 1e-30)
    return x * cycle.scale[:, None]


class Cycle:
    """One V-cycle for given ties and fixed cells: a symmetric preconditioner of the scaled system."""

    def __init__(self, grid: list[Level], tie: np.ndarray, fixed: np.ndarray) -> None:
        self.edges: list[sparse.csr_array] = []
        self.down: list[sparse.csr_array] = []
        self.up: list[sparse.csr_array] = []
        free = ~fixed
        last_back, last_parent = None, None
        for level in grid:
            scale = np.where(free, 1 / np.sqrt(np.maximum(level.degree + tie, 1e-12)), 0).astype(np.float32)
            back = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
            if last_parent is None:
                self.scale, self.back = scale, back
            else:
                rows = np.arange(len(last_parent) + 1, dtype=np.int32)
                values = last_back * scale[last_parent]
                up = sparse.csr_array((values, last_parent, rows), shape=(len(last_parent), len(scale)))
                self.up.append(up)
                self.down.append(up.T.tocsr())
            self.edges.append(_scaled(level.edges, scale))
            if level.parent is not None:
                # A fixed cell holds its merged one as firmly as its own edges did.
                held = np.where(free, tie, level.degree)
                count = int(level.parent.max()) + 1
                tie = np.bincount(level.parent, held, count).astype(np.float32)
                free = np.bincount(level.parent, free, count) > 0
            last_back, last_parent = back, level.parent
        bottom = self.edges[-1]
        self.direct = None
        if bottom.shape[0] <= DIRECT:
            system = (sparse.eye_array(bottom.shape[0]) - bottom).tocsc().astype(np.float64)
            self.direct = sparse.linalg.splu(system + 1e-6 * sparse.eye_array(system.shape[0], format="csc"))

    def times(self, x: np.ndarray, number: int = 0) -> np.ndarray:
        """The scaled system times x."""
        return x - self.edges[number] @ x

    def apply(self, residual: np.ndarray, number: int = 0) -> np.ndarray:
        """About the solution for this residual."""
        if number == len(self.edges) - 1 and self.direct is not None:
            return self.direct.solve(residual.astype(np.float64)).astype(np.float32)
        x = DAMPING * residual
        if number < len(self.edges) - 1:
            rest = residual - self.times(x, number)
            x += self.up[number] @ self.apply(self.down[number] @ rest, number + 1)
        rest = residual - self.times(x, number)
        rest *= np.float32(DAMPING)
        x += rest
        return x


def _product(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a.reshape(-1), b.reshape(-1)))


def _scaled(edges: sparse.csr_array, scale: np.ndarray) -> sparse.csr_array:
    values = edges.data * scale[edges.indices]
    values *= np.repeat(scale, np.diff(edges.indptr))
    return sparse.csr_array((values, edges.indices, edges.indptr), shape=edges.shape)


def _matrix(weights: list[np.ndarray], mask: np.ndarray) -> sparse.csr_array:
    """Weights between neighbours in the mask, (n, n) float32, each row's columns in order."""
    number = np.full(np.array(mask.shape) + 2, -1, np.int32)
    size, shape = int(np.count_nonzero(mask)), list(enumerate(mask.shape))
    number[1:-1, 1:-1, 1:-1][mask] = np.arange(size, dtype=np.int32)
    column, value = np.empty((size, 6), np.int32), np.empty((size, 6), np.float32)
    for axis, weight in enumerate(weights):
        padded = np.pad(weight, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        # Columns in the order of the cells' numbers: -z, -y, -x, +x, +y, +z.
        for place, first in ((axis, 0), (5 - axis, 1)):
            near = tuple(slice(2 * first, 2 * first + n) if a == axis else slice(1, 1 + n) for a, n in shape)
            column[:, place] = number[near][mask]
            value[:, place] = padded[along(axis, first, first + mask.shape[axis])][mask]
    there = column >= 0
    starts = np.zeros(size + 1, np.int32)
    np.cumsum(there.sum(axis=1), out=starts[1:])
    return sparse.csr_array((value[there], column[there], starts), shape=(size, size))


def _parents(mask: np.ndarray, coarse: np.ndarray, merged: list[bool]) -> np.ndarray:
    """For each cell of the mask the number of the merged cell that it lies in."""
    number = np.cumsum(coarse.ravel()).reshape(coarse.shape) - 1
    for axis in np.flatnonzero(merged):
        number = number.repeat(2, axis=axis)[along(axis, None, mask.shape[axis])]
    return number[mask].astype(np.int32)


def _paired(array: np.ndarray, axis: int, join: Callable) -> np.ndarray:
    """Neighbours 0 and 1, 2 and 3, ... along an axis joined; the last of an odd number stays."""
    if array.shape[axis] % 2:
        array = np.pad(array, [(0, 1) if a == axis else (0, 0) for a in range(3)])
    return join(array[along(axis, 0, None, 2)], array[along(axis, 1, None, 2)])


def _merged_edges(weights: list[np.ndarray], axis: int, merged: list[bool]) -> np.ndarray:
    """Weights along an axis between merged cells: the sums of those between their cells."""
    weight = weights[axis]
    if merged[axis]:
        weight = weight[along(axis, 1, None, 2)]
    for other in range(3):
        if other != axis and merged[other]:
            weight = _paired(weight, other, np.add)
    return weight
