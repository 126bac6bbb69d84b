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

from ..geometry import Geometry
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
    values = gated(score(keys, queries, weights, box), grid, box, expected_mm)
    index, heights = parabolic_peaks(values.numpy())
    return grid.to_world(index + [b.start for b in box]), heights


def gated(values: torch.Tensor, grid: Geometry, box: Box, expected_mm: np.ndarray) -> torch.Tensor:
    """Scores (Q, z, y, x) of a box less what its positions lose for their distance from the expected ones, in place."""
    z, y, x = _losses(grid, box, expected_mm)
    return values.sub_((z[:, :, None] + y[:, None])[..., None]).sub_(x[:, None, None])


def gate(grid: Geometry, box: Box, expected_mm: np.ndarray) -> torch.Tensor:
    """What positions of a box lose for their distance from the expected ones -> (Q, z, y, x) float32."""
    z, y, x = _losses(grid, box, expected_mm)
    return (z[:, :, None] + y[:, None])[..., None] + x[:, None, None]


def _losses(grid: Geometry, box: Box, expected_mm: np.ndarray) -> list[torch.Tensor]:
    """The same axis by axis, (Q, n) each: squared distances add up."""
    middle = grid.to_index(expected_mm)
    parts = []
    for axis, (part, step) in enumerate(zip(box, grid.spacing_mm, strict=True)):
        off = np.arange(part.start, part.stop) - middle[:, axis, None]
        parts.append(torch.from_numpy((off * off * (PULL * step**2 / (2 * PULL_MM**2))).astype(np.float32)))
    return parts


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
    points: np.ndarray,
    places: np.ndarray,
    linears: np.ndarray,
    *,
    count: int = 27,
    way_back: bool = True,
    radius_mm: float = 20.0,
) -> list[Vote]:
    """Votes for where each of ``points`` (N, 3) lies in b near ``places``; ``linears`` (N, 3, 3) take offsets there."""
    starts = points[:, None] + star(count)
    expected = places[:, None] + np.einsum("nmj,nij->nmi", starts - points[:, None], linears)
    queries = [field.sample(starts.reshape(-1, 3)).view(*starts.shape[:2], -1) for field in keys_a]
    usable = torch.stack([torch.linalg.vector_norm(q, dim=2) > 1e-6 for q in queries]).all(dim=0)
    enough = usable.sum(dim=1).numpy() >= 4
    found, counts = expected.copy(), np.zeros(starts.shape[:2])
    for n in np.flatnonzero(enough):
        use = usable[n]
        own = [q[n, use] for q in queries]
        found[n, use], heights = gated_search(keys_b, own, weights, expected[n, use], radius_mm)
        counts[n, use] = np.maximum(heights, 0.0) ** 2 + 1e-3
    misses = np.zeros(starts.shape[:2])
    if way_back:
        back = [field.sample(found.reshape(-1, 3)).view(*starts.shape[:2], -1) for field in keys_b]
        for n in np.flatnonzero(enough):
            use = usable[n]
            returns, _ = gated_search(keys_a, [q[n, use] for q in back], weights, starts[n, use], radius_mm)
            misses[n, use] = np.linalg.norm(returns - starts[n, use], axis=1)
        token = float(np.mean(keys_a[0].geometry.spacing_mm))
        counts = counts / (1 + (misses / min(token, 6.0)) ** 2)
    base = np.concatenate([linears, (places - np.einsum("nij,nj->ni", linears, points))[..., None]], axis=2)
    moved, turned, spread = local_affines(points, starts, found, counts, base, 4.0, stiffness=0.5)
    missed = (misses * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1e-9)
    return [
        Vote(moved[n], turned[n], float(spread[n]), float(missed[n])) if enough[n]
        else Vote(places[n], linears[n], np.inf, np.inf)
        for n in range(len(points))
    ]  # fmt: skip
