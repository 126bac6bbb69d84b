"""From the work grid to the scan's own voxels: borders are walked once more there, in a band round the coarse ones."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

from .grid import WorkGrid
from .multigrid import Cancel, Level
from .walker import FLOOR, Lattice, certainty, edge_hu

TILE_CELLS = 12
"""Cells along z of a tile, the part that is walked at a time; fixed, so that it is the same tile in whatever order."""
ELL_MM = 3.0
"""How far borders may move from where the coarse grid has them: about a cell."""
TOLERANCE = 3e-2


def tiles(grid: WorkGrid) -> list[slice]:
    """Cells along z of each tile; all of them at once where voxels are cells."""
    depth = grid.body.shape[0]
    size = depth if grid.block == (1, 1, 1) else TILE_CELLS
    return [slice(z, min(z + size, depth)) for z in range(0, depth, size)]


def fine_labels(
    grid: WorkGrid,
    labels: np.ndarray,
    probabilities: np.ndarray,
    painted: np.ndarray,
    tile: slice,
    cancel: Cancel | None = None,
) -> np.ndarray:
    """Class + 1 of the scan's voxels in a ``tile`` of cells along z, uint8 (z, y, x); 0 outside the body.

    ``labels`` (z, y, x) class of each cell, -1 outside; ``probabilities`` (n, K) of the body's cells;
    ``painted`` (z, y, x) uint8 of the tile's voxels and those of one cell beside it: 0, or the painted class + 1.
    """
    first, last = max(0, tile.start - 1), min(labels.shape[0], tile.stop + 1)
    voxels = slice(first * grid.block[0], min(last * grid.block[0], grid.volume.hu.shape[0]))
    part = labels[first:last]
    out = grid.up(labels[first:last] + 1, first).astype(np.uint8)
    if grid.block != (1, 1, 1):
        band = _band(part, painted, grid) & grid.body[first:last]
        if band.any():
            _walk(grid, out, part, band, probabilities, painted, first, voxels.start, cancel)
    keep = slice(tile.start * grid.block[0] - voxels.start, min(tile.stop * grid.block[0], voxels.stop) - voxels.start)
    return out[keep]


def _band(labels: np.ndarray, painted: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """Cells at a border of two classes, the body's surface being none, and round strokes that the coarse grid does not
    follow."""
    cross = ndimage.generate_binary_structure(3, 1)
    lowest = np.where(labels < 0, np.iinfo(labels.dtype).max, labels)
    band = ndimage.maximum_filter(labels, footprint=cross) > ndimage.minimum_filter(lowest, footprint=cross)
    voxel = np.argwhere(painted)
    if len(voxel):
        cell = tuple((voxel // grid.block).T)
        other = painted[tuple(voxel.T)] - 1 != labels[cell]
        odd = np.zeros(labels.shape, bool)
        odd[tuple(c[other] for c in cell)] = True
        band |= ndimage.binary_dilation(odd, np.ones((3, 3, 3)))
    return band


def _walk(
    grid: WorkGrid,
    out: np.ndarray,
    labels: np.ndarray,
    band: np.ndarray,
    probabilities: np.ndarray,
    painted: np.ndarray,
    first: int,
    first_voxel: int,
    cancel: Cancel | None,
) -> None:
    """Labels of the band's voxels into ``out``, in place."""
    box = ndimage.find_objects(band.view(np.uint8))[0]
    start = [part.start * b for part, b in zip(box, grid.block, strict=True)]
    stop = [min(part.stop * b, n) for part, b, n in zip(box, grid.block, out.shape, strict=True)]
    inner = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    mask = band[box]
    for axis, times in enumerate(grid.block):
        mask = mask.repeat(times, axis=axis)
    mask = mask[tuple(slice(b - a) for a, b in zip(start, stop, strict=True))]
    scan = (slice(first_voxel + start[0], first_voxel + stop[0]), *inner[1:])
    spacing = grid.volume.geometry.spacing_mm
    hu = edge_hu(grid.volume.hu[scan], spacing)
    index = np.nonzero(mask)
    seeds = painted[inner][index].astype(np.int32)
    near = np.unique(labels[tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)])
    classes = np.union1d(near[near >= 0], np.unique(seeds[seeds > 0]) - 1).astype(int)
    if len(classes) < 2:
        return
    lookup = np.zeros(probabilities.shape[1] + 1, np.int32)
    lookup[classes + 1] = np.arange(1, len(classes) + 1)
    prior = _interpolated(grid, labels, probabilities, first, classes, index, start)
    lattice = band_lattice(hu, spacing, grid.fine_beta, mask, index)
    tie = (lattice.step_mm / ELL_MM) ** 2 * (0.1 + 0.9 * certainty(prior.T))
    found = lattice.solve(lookup[seeds], len(classes), prior, tie.astype(np.float32), None, TOLERANCE, cancel)
    part = out[inner]
    part[index] = (classes[found.argmax(axis=1)] + 1).astype(np.uint8)


def _interpolated(
    grid: WorkGrid,
    labels: np.ndarray,
    probabilities: np.ndarray,
    first: int,
    classes: np.ndarray,
    index: tuple[np.ndarray, ...],
    start: list[int],
) -> np.ndarray:
    """Probabilities (m, len(classes)) at the voxels ``index`` of a box, interpolated linearly between cells.

    A cell whose label is not the likeliest, being tidied away, counts as sure of its label; one outside the body says
    nothing.
    """
    own = grid.cells[first : first + len(labels)].ravel()
    flat = labels.ravel()
    body = own >= 0
    fields = (flat[:, None] == classes).astype(np.float32)
    rows = probabilities[own[body]]
    kept = rows.argmax(axis=1) == flat[body]
    fields[np.flatnonzero(body)[kept]] = rows[kept][:, classes]
    low, high, share = [], [], []
    for i, s, b, n in zip(index, start, grid.block, labels.shape, strict=True):
        at = np.clip((np.arange(i.max() + 1) + s + 0.5) / b - 0.5, 0, n - 1)
        below = np.minimum(at.astype(np.int32), max(n - 2, 0))
        low.append(below[i])
        high.append(np.minimum(below + 1, n - 1)[i])
        share.append((at - below).astype(np.float32)[i])
    out = np.zeros((len(index[0]), len(classes)), np.float32)
    for corner in range(8):
        sides = [corner >> axis & 1 for axis in range(3)]
        z, y, x = (high[a] if side else low[a] for a, side in enumerate(sides))
        weight = np.prod([share[a] if side else 1 - share[a] for a, side in enumerate(sides)], axis=0)
        cell = (z * labels.shape[1] + y) * labels.shape[2] + x
        out += weight[:, None] * fields[cell]
    total = out.sum(axis=1, keepdims=True)
    return np.divide(out, total, out=np.full_like(out, 1 / len(classes)), where=total > 1e-6)


def band_lattice(
    hu: np.ndarray, spacing_mm: tuple[float, float, float], beta: float, mask: np.ndarray, index: tuple[np.ndarray, ...]
) -> Lattice:
    """As :meth:`Lattice.of`, for a mask that fills little of its box: HU are compared at its voxels only, ``index`` (z,
    y, x), and one level is enough where borders move by a cell."""
    shape = np.array(mask.shape) + 2
    stride = np.array([shape[1] * shape[2], shape[2], 1])
    place = (index[0] + 1) * stride[0] + (index[1] + 1) * stride[1] + index[2] + 1
    size = len(place)
    number = np.full(int(shape.prod()), -1, np.int32)
    number[place] = np.arange(size, dtype=np.int32)
    values = hu[index]
    column, weight = np.empty((size, 6), np.int32), np.empty((size, 6), np.float32)
    for axis, spacing in enumerate(spacing_mm):
        after, before = number[place + stride[axis]], number[place - stride[axis]]
        forward = np.exp(np.abs(values - values[after]) * np.float32(-1 / beta)) + np.float32(FLOOR)
        forward *= np.float32((min(spacing_mm) / spacing) ** 2)
        column[:, 5 - axis], weight[:, 5 - axis] = after, forward
        column[:, axis], weight[:, axis] = before, forward[before]
    there = column >= 0
    starts = np.zeros(size + 1, np.int32)
    np.cumsum(there.sum(axis=1), out=starts[1:])
    edges = sparse.csr_array((weight[there], column[there], starts), shape=(size, size))
    degree = np.where(there, weight, 0).sum(axis=1)
    return Lattice(mask, [Level(edges, degree, None)], float(min(spacing_mm)))
