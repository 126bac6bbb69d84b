"""The top of a peak between the search grid's steps, for many queries at once.

Near a query's place the score is asked at hundreds of positions, each a mix of eight tokens. None of them needs to be
mixed: the dot product with the query mixes as the tokens do, so the products with the lattice points, once a query, are
all that is looked up; and the squared length of a mix is itself an interpolation, on a lattice twice as fine
(:attr:`~tapct_core.matching.similarity.Keys.doubled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .similarity import NEIGHBOURS, NOWHERE, Box, Keys, score_from

_SMALLEST = 1e-18
"""Squared length from which a mix is a direction at all."""


@dataclass(frozen=True, eq=False)
class Products:
    """Dot products of Q queries with the lattice points of a box each, of one kind of evidence.

    ``values`` holds the boxes one after the other; that of query q begins at ``start[q]``, its first lattice point is
    ``low[q]`` (z, y, x), and it has ``shape[q]`` of them.
    """

    keys: Keys
    values: np.ndarray
    start: np.ndarray
    low: np.ndarray
    shape: np.ndarray

    @classmethod
    def join(cls, keys: Keys, boxes: Sequence[Box], parts: Sequence[torch.Tensor]) -> Products:
        """From each query's lattice box and its products there, (z, y, x) float32."""
        sizes = np.array([part.numel() for part in parts])
        low = np.array([[side.start for side in box] for box in boxes])
        values = torch.cat([part.reshape(-1) for part in parts]).numpy()
        return cls(keys, values, np.cumsum(sizes) - sizes, low, np.array([tuple(part.shape) for part in parts]))

    @classmethod
    def near(
        cls, keys: Sequence[Keys], queries: Sequence[torch.Tensor], boxes: Sequence[Box], of: np.ndarray, rounds: int
    ) -> list[Products]:
        """Of unit queries (Q, K) by kind, each with as much round ``boxes[of[q]]`` of the search grid as a climb of so
        many rounds from there may need. ``of`` (Q,) rises. What one box gets does not depend on the others."""
        parts: list[list] = [[] for _ in keys]
        held: list[list] = [[] for _ in keys]
        for n, box in enumerate(boxes):
            rows = slice(*np.searchsorted(of, (n, n + 1)))
            for kind, (field, query) in enumerate(zip(keys, queries, strict=True)):
                part = field.lattice_box(box, 0.5 * rounds + 1)
                parts[kind].extend(field.dots(query[rows], part))
                held[kind].extend([part] * (rows.stop - rows.start))
        return [cls.join(*one) for one in zip(keys, held, parts, strict=True)]

    def of(self, query: int, box: Box) -> tuple[torch.Tensor, Box]:
        """One query's products with the lattice points that a box of the search grid needs (1, z, y, x), and which."""
        part = self.keys.lattice_box(box)
        size = self.shape[query]
        whole = self.values[self.start[query] : self.start[query] + int(np.prod(size))].reshape(size)
        own = tuple(slice(s.start - low, s.stop - low) for s, low in zip(part, self.low[query], strict=True))
        return torch.from_numpy(whole[own])[None], part

    @classmethod
    def with_all(cls, keys: Keys, queries: torch.Tensor) -> Products:
        """Of queries (Q, K) with the whole lattice."""
        whole = tuple(slice(0, n) for n in keys.geometry.shape)
        return cls.join(keys, [whole] * len(queries), list(keys.dots(F.normalize(queries, dim=1), whole)))


def score_of(products: Sequence[Products], query: int, weights: Sequence[float], box: Box) -> torch.Tensor:
    """One query's score at every position of a box of the search grid -> (1, z, y, x)."""
    dots, parts = zip(*(part.of(query, box) for part in products), strict=True)
    return score_from([part.keys for part in products], dots, parts, weights, box)


def climb(
    products: Sequence[Products], weights: Sequence[float], starts_lps_mm: np.ndarray, of: np.ndarray, rounds: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """The peak by each start (S, 3), for query ``of`` (S,) -> points (S, 3), scores (S,).

    A pattern search over the 26 neighbours, from half a grid step, which is halved whenever no neighbour is better;
    the score is exact at every position it visits. It goes at most half a grid step a round.
    """
    grid = products[0].keys.grid
    at = grid.to_index(starts_lps_mm)
    best = np.full(len(at), -np.inf)
    step = np.full(len(at), 0.5)
    rows = np.arange(len(at))
    for _ in range(rounds):
        values = _scores(products, weights, at, np.array((-1, 0, 1))[:, None] * step, of)
        pick = np.where(values.max(axis=0) > values[13], values.argmax(axis=0), 13)
        at, best = at + NEIGHBOURS[pick] * step[:, None], values[pick, rows]
        step = np.where(pick == 13, step / 2, step)
    return grid.to_world(at), best


def scan_cell(
    products: Sequence[Products], weights: Sequence[float], starts_lps_mm: np.ndarray, of: np.ndarray
) -> np.ndarray:
    """The best of 7 x 7 x 7 positions within one grid step of each start -> points (S, 3).

    Where neighbouring tokens differ much the score has curved ridges on which a climb stops early.
    """
    grid = products[0].keys.grid
    at, ticks = grid.to_index(starts_lps_mm), np.arange(-3, 4) / 3
    values = _scores(products, weights, at, np.repeat(ticks[:, None], len(at), axis=1), of)
    z, y, x = np.unravel_index(values.argmax(axis=0), (7, 7, 7))
    return grid.to_world(at + np.stack([ticks[z], ticks[y], ticks[x]], axis=1))


def _scores(
    products: Sequence[Products], weights: Sequence[float], at: np.ndarray, offsets: np.ndarray, of: np.ndarray
) -> np.ndarray:
    """Scores of queries ``of`` (S,) at grid indices ``at`` (S, 3) plus ``offsets`` (T, S) on each axis -> (T^3, S)."""
    total = np.zeros((len(offsets) ** 3, len(at)), np.float32)
    share = np.array(weights, np.float32) / np.float32(sum(weights))
    for part, weight in zip(products, share, strict=True):
        total += weight * _cosines(part, at, offsets, of)
    return total


def _cosines(part: Products, at: np.ndarray, offsets: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Cosines of one kind as :func:`_scores` wants them; NOWHERE where there is nothing."""
    keys = part.keys
    nodes, mixes, edges, squares = [], [], [], []
    nothing = np.zeros((1, len(at)), bool)
    for axis, size in enumerate(keys.geometry.shape):
        scale, shift = keys.along[axis]
        along = scale * (at[:, axis] + offsets) + shift  # (T, S) in lattice points
        nothing = _outer(nothing, (along < -0.5) | (along > size - 0.5))
        along = along.clip(0, size - 1)
        low = np.minimum(along.astype(np.int64), max(size - 2, 0))
        t = (along - low).astype(np.float32)
        first, beyond = low[0], low - low[0]
        count = int(beyond[-1].max()) + 2
        mixes.append(_weights(beyond, count, (1 - t, t)))
        squares.append(_weights(2 * beyond, 2 * count - 1, ((1 - t) ** 2, t * (1 - t), t**2)))
        place = first + np.arange(count)[:, None] - part.low[of, axis]
        nodes.append(place.clip(0, part.shape[of, axis] - 1))
        edges.append((2 * first + np.arange(2 * count - 1)[:, None]).clip(0, 2 * size - 2))
    rows, columns = part.shape[of, 1], part.shape[of, 2]
    dots = _mixed(part.values, part.start[of] + nodes[0] * rows * columns, nodes[1] * columns, nodes[2], mixes)
    doubled = keys.doubled
    deep, wide = doubled.shape[1] * doubled.shape[2], doubled.shape[2]
    squared = _mixed(doubled.reshape(-1), edges[0] * deep, edges[1] * wide, edges[2], squares)
    nothing |= squared <= _SMALLEST
    return np.where(nothing, np.float32(NOWHERE), dots / np.sqrt(np.where(nothing, np.float32(1), squared)))


def _outer(before: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(n, S) or (T, S) -> (n T, S): true where either is."""
    return (before[:, None] | mask[None]).reshape(-1, mask.shape[1])


def _weights(first: np.ndarray, count: int, parts: Sequence[np.ndarray]) -> np.ndarray:
    """(T, count, S): from ``first`` (T, S) on the ``parts``, else 0."""
    ticks = np.arange(count)[:, None]
    out = np.zeros((len(first), count, first.shape[1]), np.float32)
    for number, part in enumerate(parts):
        out += (ticks == first[:, None] + number) * part[:, None]
    return out


def _mixed(
    values: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, weights: Sequence[np.ndarray]
) -> np.ndarray:
    """Sum of values at flat places z + y + x, each (n, S), under weights (T, n, S) an axis -> (T^3, S)."""
    near = values[z[:, None, None] + y[None, :, None] + x[None, None]]
    along_x = _contract(near, weights[2])  # (z, y, T, S)
    along_y = _contract(along_x.swapaxes(1, 2), weights[1])  # (z, T of x, T of y, S)
    along_z = _contract(along_y.transpose(1, 2, 0, 3), weights[0])  # (T of x, T of y, T of z, S)
    return along_z.transpose(2, 1, 0, 3).reshape(-1, near.shape[-1])


def _contract(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(a, b, n, S) under (T, n, S) -> (a, b, T, S)."""
    out = values[:, :, 0, None] * weights[None, None, :, 0]
    for k in range(1, weights.shape[1]):
        out += values[:, :, k, None] * weights[None, None, :, k]
    return out
