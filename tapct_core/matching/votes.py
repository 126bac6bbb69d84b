"""A place found by many: points round the click are matched too, and a robust affine of their votes decides.

One match may fall on a lookalike; 27 points that keep their arrangement do not. Each vote is matched back,
and counts the less the further from its start the way back ends (fixed-point inference of UAE, Bai et al.
2023, arXiv 2311.15111).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .affine import local_affines
from .peaks import parabolic_peaks
from .similarity import NOWHERE, Box, Keys, score

STAR_MM = 10.0
"""Distance between neighbouring query points."""
PULL = 0.05
PULL_MM = 20.0
"""What a position loses at ``PULL_MM`` times the square root of two from where it was expected."""


@dataclass(frozen=True, eq=False)
class Vote:
    """What the votes say: ``place`` (3,) LPS mm, ``linear`` (3, 3), ``spread_mm`` of the votes about it, and
    ``cycle_mm``, the weighted mean distance by which the votes miss their start on the way back."""

    place: np.ndarray
    linear: np.ndarray
    spread_mm: float
    cycle_mm: float


def gated_search(
    keys: Sequence[Keys],
    queries: Sequence[torch.Tensor],
    weights: Sequence[float],
    expected_mm: np.ndarray,
    radius_mm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Each query's best place near where it is expected (Q, 3) -> places (Q, 3), scores (Q,), soft gate included.

    A place that cannot be searched (outside the grid) stays where it was expected, with score NOWHERE.
    """
    grid = keys[0].grid
    box = _common_box(grid, expected_mm, radius_mm)
    if box is None:
        return expected_mm.copy(), np.full(len(expected_mm), NOWHERE)
    values = score(keys, queries, weights, box)
    values -= gate(grid, box, expected_mm)
    index, heights = parabolic_peaks(values.numpy())
    return grid.to_world(index + [b.start for b in box]), heights


def gate(grid, box: Box, expected_mm: np.ndarray) -> torch.Tensor:
    """What positions of a box lose for their distance from the expected ones -> (Q, z, y, x) float32."""
    total = 0.0
    middle = grid.to_index(expected_mm)
    for axis, (part, step) in enumerate(zip(box, grid.spacing_mm, strict=True)):
        ticks = np.arange(part.start, part.stop)
        squared = ((ticks[None] - middle[:, axis : axis + 1]) * step) ** 2
        shape = [len(expected_mm), 1, 1, 1]
        shape[axis + 1] = -1
        total = total + torch.from_numpy((PULL * squared / (2 * PULL_MM**2)).astype(np.float32)).view(shape)
    return total


def _common_box(grid, points: np.ndarray, radius_mm: float) -> Box | None:
    index = grid.to_index(points)
    reach = radius_mm / np.array(grid.spacing_mm)
    low = np.maximum(np.ceil(index.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.floor(index.max(axis=0) + reach), np.array(grid.shape) - 1).astype(int)
    return None if (high < low).any() else tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))


def star(count: int) -> np.ndarray:
    """Offsets (count, 3) mm of 1, 27 or 125 query points round a click, which comes in the middle."""
    side = round(count ** (1 / 3))
    ticks = (np.arange(side) - side // 2) * STAR_MM * (2 / (side - 1) if side > 1 else 0)
    return np.array(np.meshgrid(ticks, ticks, ticks, indexing="ij")).reshape(3, -1).T


def vote(
    keys_a: Sequence[Keys],
    keys_b: Sequence[Keys],
    weights: Sequence[float],
    point: np.ndarray,
    place: np.ndarray,
    linear: np.ndarray,
    *,
    count: int = 27,
    way_back: bool = True,
    radius_mm: float = 20.0,
) -> Vote:
    """Votes for where ``point`` of a lies in b near ``place``, ``linear`` (3, 3) taking offsets in a to b."""
    starts = point + star(count)
    queries = [field.sample(starts) for field in keys_a]
    usable = torch.stack([torch.linalg.vector_norm(q, dim=1) > 1e-6 for q in queries]).all(dim=0)
    if int(usable.sum()) < 4:
        return Vote(place, linear, np.inf, np.inf)
    starts, queries = starts[usable.numpy()], [q[usable] for q in queries]
    expected = place + (starts - point) @ linear.T
    found, heights = gated_search(keys_b, queries, weights, expected, radius_mm)
    counts = np.maximum(heights, 0.0) ** 2 + 1e-3
    token = float(np.mean(keys_a[0].geometry.spacing_mm))
    misses = np.zeros(len(starts))
    if way_back:
        returns, _ = gated_search(keys_a, [field.sample(found) for field in keys_b], weights, starts, radius_mm)
        misses = np.linalg.norm(returns - starts, axis=1)
        counts = counts / (1 + (misses / min(token, 6.0)) ** 2)
    base = np.column_stack([linear, place - linear @ point])
    moved, turned, spread = local_affines(point[None], starts, found, counts[None], base[None], 4.0, stiffness=0.5)
    return Vote(moved[0], turned[0], float(spread[0]), float(np.average(misses, weights=counts)))
