"""One click followed through all steps: proposals, votes, correlation. What :mod:`matching` reports comes from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError
from ..geometry import Geometry
from .climbing import Products, climb, scan_cell, score_of
from .correlation import correlate, peaks
from .limits import GATE_MM
from .pair import PreparedPair
from .peaks import parabolic_peaks
from .similarity import (
    NOWHERE,
    Box,
    Keys,
    box_round,
    full_box,
    local_maxima,
    score,
    score_at,
    suppress,
)
from .votes import Vote, gated, vote

WEIGHTS = {"tokens": 0.25, "surroundings": 0.15, "hu": 1.0}
"""Chosen on dev patients; with the coarse motion as it is now, up to four times as much for tokens does as well."""
PEAKS = 64
"""Local maxima of a whole scan that are followed to their exact top."""
PATCH_MM, REACH_MM, NCC_STEP_MM = 24.0, 8.0, 2.0
"""The last step: side of the patch, how far it may move, distance of its samples."""
OPEN_BELOW = 1.2
"""Joint score (similarity + correlation) below which the rest of the scan is searched too, and which a place there
must have: the best of a whole scan reaches 1.0 by chance."""
BETTER_BY = 0.4
"""How much better a place outside the gate must be: far away there are many more chances to be lucky."""
TRUSTED_AGREEMENT, TRUSTED_SPREAD_MM = 0.5, 6.0
"""From this agreement on, and up to this spread, the coarse motion is believed: a place beyond the gate is then a
lookalike, a lesion of the other lung say, and what is not found near by has changed or gone."""
OFF_PRIOR, STAY = 0.04, 0.04
"""What a place loses in score, and the last step in correlation, at one spread of the coarse motion from where that
expects it, growing with the square; chosen on train and dev patients."""
CLIMB_ROUNDS, WAY_BACK_ROUNDS = 6, 8
LEAST_SPREAD_MM = 1.0
"""A coarse motion is never surer than this."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """Where the coarse motion says the point went: ``place`` (3,) LPS mm, ``linear`` (3, 3), ``spread_mm`` of the
    pairs that say so, and how far inside the follow-up's field of view that is (negative: outside)."""

    place: np.ndarray
    linear: np.ndarray
    spread_mm: float
    inside_mm: float


@dataclass(frozen=True, eq=False)
class Found:
    """Places for one click, best first: (k, 3) LPS mm with their joint ``scores``, similarities ``heights``,
    correlations ``ncc`` (NaN without that step) and ``linears`` (k, 3, 3); ``ballot`` if there was a vote."""

    places: np.ndarray
    scores: np.ndarray
    heights: np.ndarray
    ncc: np.ndarray
    linears: np.ndarray
    ballot: Vote | None
    searched: str = "gate"
    expectation: Expectation | None = None


class Matcher:
    """One pair and one choice of steps, applied to any number of points."""

    def __init__(self, pair: PreparedPair, steps: frozenset[str], apart_mm: float, votes: int) -> None:
        self.pair, self.steps, self.apart_mm, self.votes = pair, steps, apart_mm, votes
        names = pair.evidence(steps)
        self.weights = [WEIGHTS[name] for name in names]
        self.a: list[Keys] = [pair.a.keys[name] for name in names]
        self.b: list[Keys] = [pair.b.keys[name] for name in names]
        self.prior = pair.prior(steps)

    def find(self, point: np.ndarray, top_k: int, region: np.ndarray | None = None) -> Found:
        """Up to ``top_k`` places or more, best first, for a point (3,) LPS mm of scan a; see :meth:`find_each`."""
        return self.find_each(point[None], top_k, None if region is None else [region])[0]

    def find_each(self, points: np.ndarray, top_k: int, regions: Sequence[np.ndarray] | None = None) -> list[Found]:
        """For each of points (N, 3) LPS mm of scan a up to ``top_k`` places or more, best first.

        With ``regions``, points (M, 3) all over what lies round each point, what is looked for is their mean, not the
        point alone. Everything that can be is done for all points at once, so a few hundred are a good number.
        """
        queries = self._queries(self.a, points)
        if regions is not None:
            means = [[part.mean(dim=0) for part in self._queries(self.a, region)] for region in regions]
            queries = [torch.stack(kind) for kind in zip(*means, strict=True)]
        grid = self.b[0].grid
        expected = self._expect(points)
        boxes = [box_round(grid, one.place, GATE_MM) if one else None for one in expected]
        found: list[Found | None] = [None] * len(points)
        gated_ = [n for n, box in enumerate(boxes) if box is not None]
        if gated_:
            near = [expected[n] for n in gated_]
            proposed = self._near([q[gated_] for q in queries], [boxes[n] for n in gated_], near, top_k)
            judged = self._judge(points[gated_], [q[gated_] for q in queries], proposed, near)
            for n, one in zip(gated_, judged, strict=True):
                found[n] = one
        for n, here in enumerate(found):
            support = -np.inf if here is None else _support(here)
            if here is None or ("ncc" in self.steps and support < OPEN_BELOW and not self._trusted(expected[n])):
                own = [q[n : n + 1] for q in queries]
                (wide,) = self._judge(points[n : n + 1], own, [self._everywhere(own, top_k)], [None])
                if here is None or wide.scores[0] > max(support + BETTER_BY, OPEN_BELOW):
                    found[n] = replace(wide, searched="whole scan")
        return [replace(one, expectation=there) for one, there in zip(found, expected, strict=True)]

    def way_back(self, points: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Where the places of each point, (k, 3) each, are found again in the baseline: near the click when there is a
        gate, else anywhere -> (k, 3) each."""
        counts = [len(part) for part in places]
        ends = np.cumsum(counts)
        queries = [F.normalize(q, dim=1) for q in self._queries(self.b, np.concatenate(places))]
        grid = self.a[0].grid
        of = np.repeat(np.arange(len(points)), counts)
        boxes = [box_round(grid, point, GATE_MM) if self.prior is not None else full_box(grid) for point in points]
        clicks = np.repeat(points, counts, axis=0)
        inside = [box or tuple(slice(0, 1) for _ in range(3)) for box in boxes]  # beyond the grid nothing is found
        products = Products.near(self.a, queries, inside, of, WAY_BACK_ROUNDS)
        starts = clicks.copy()
        for row, n in enumerate(of):
            if boxes[n] is None:
                continue
            values = score_of(products, row, self.weights, boxes[n])
            if self.prior is not None:
                index, _ = parabolic_peaks(gated(values, grid, boxes[n], clicks[row : row + 1]).numpy())
                starts[row] = grid.to_world(index[0] + [part.start for part in boxes[n]])
            else:
                starts[row] = grid.to_world(local_maxima(values[0], 1)[0])
        found, _ = climb(products, self.weights, starts, np.arange(len(of)), WAY_BACK_ROUNDS)
        return np.split(found, ends[:-1])

    def _trusted(self, expected: Expectation) -> bool:
        return self.prior.agreement >= TRUSTED_AGREEMENT and expected.spread_mm <= TRUSTED_SPREAD_MM

    def _expect(self, points: np.ndarray) -> list[Expectation | None]:
        if self.prior is None:
            return [None] * len(points)
        places, linears, spreads = self.prior.at(points)
        grid = self.pair.b.scanned
        index = grid.to_index(places)
        inside = (np.minimum(index + 0.5, np.array(grid.shape) - 0.5 - index) * grid.spacing_mm).min(axis=1)
        spreads = np.maximum(spreads, LEAST_SPREAD_MM)
        return [
            Expectation(places[n], linears[n], float(spreads[n]), float(inside[n])) for n in range(len(points))
        ]

    def _queries(self, keys: list[Keys], points: np.ndarray) -> list[torch.Tensor]:
        """Query vectors at points (N, 3): interpolated, or of the nearest lattice point."""
        return [k.sample(points if "trilinear" in self.steps else _snapped(k.geometry, points)) for k in keys]

    def _near(
        self, queries: list[torch.Tensor], boxes: list[Box], expected: list[Expectation], top_k: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Best places in each query's box -> points (k, 3) and similarities (k,), best first, k >= 1."""
        grid = self.b[0].grid
        units = [F.normalize(q, dim=1) for q in queries]
        products = Products.near(self.b, units, boxes, np.arange(len(boxes)), CLIMB_ROUNDS)
        starts = []
        for n, (box, there) in enumerate(zip(boxes, expected, strict=True)):
            values = gated(score_of(products, n, self.weights, box), grid, box, there.place[None])
            index = local_maxima(values[0], 4 * top_k)
            starts.append(grid.to_world(index + [part.start for part in box]) if len(index) else np.zeros((0, 3)))
        of = np.repeat(np.arange(len(starts)), [len(part) for part in starts])
        points, heights = np.concatenate(starts), np.zeros(0)
        if len(points):
            points, heights = self._tops(products, queries, points, of)
        found = []
        for n, there in enumerate(expected):
            own = of == n
            if not own.any():
                found.append((there.place[None], np.array([-1.0])))
                continue
            found.append(self._apart(points[own], heights[own], top_k))
        return found

    def _everywhere(self, queries: list[torch.Tensor], top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Best places of the whole follow-up for one query, as :meth:`_near` gives them."""
        grid = self.b[0].grid
        index = local_maxima(score(self.b, queries, self.weights, full_box(grid))[0], PEAKS)
        if len(index) == 0:
            raise UserError("the follow-up holds nothing to compare with; check that it is a CT in HU")
        products = [Products.with_all(field, q) for field, q in zip(self.b, queries, strict=True)]
        of = np.zeros(len(index), int)
        points, heights = self._tops(products, queries, grid.to_world(index), of)
        if "subtoken" in self.steps:
            first = np.argsort(-heights, kind="stable")[: max(8, 3 * top_k)]
            nearer = scan_cell(products, self.weights, points[first], of[first])
            points, heights = climb(products, self.weights, nearer, of[first], 10)
        return self._apart(points, heights, top_k)

    def _tops(
        self, products: list[Products], queries: list[torch.Tensor], starts: np.ndarray, of: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Peaks by the starts (S, 3) of queries ``of`` (S,), followed between the grid's steps if that is wanted."""
        if "subtoken" in self.steps:
            return climb(products, self.weights, starts, of, CLIMB_ROUNDS)
        points = _snapped(self.b[0].geometry, starts)
        return points, score_at(self.b, [q[of] for q in queries], self.weights, points[:, None])[:, 0].numpy()

    def _apart(self, points: np.ndarray, heights: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        kept = [i for i, _ in zip(suppress(points, heights, self.apart_mm), range(top_k), strict=False)]
        return points[kept], heights[kept]

    def _judge(
        self,
        points: np.ndarray,
        queries: list[torch.Tensor],
        proposed: list[tuple[np.ndarray, np.ndarray]],
        expected: list[Expectation | None],
    ) -> list[Found]:
        """Adds what the votes or the coarse motion propose, polishes all by correlation, and ranks them."""
        turns = np.stack([one.linear if one else np.eye(3) for one in expected])
        ballots: list[Vote | None] = [None] * len(points)
        if "votes" in self.steps:
            towards = np.stack([one.place if one else own[0] for one, (own, _) in zip(expected, proposed, strict=True)])
            ballots = vote(
                self.a, self.b, self.weights, points, towards, turns,
                count=self.votes, way_back="way_back" in self.steps,
            )  # fmt: skip
        places, linears = [], []
        for ballot, one, (own, _), turn in zip(ballots, expected, proposed, turns, strict=True):
            extra = [(ballot.place, ballot.linear)] if ballot else []
            if one and "ncc" in self.steps:
                extra.append((one.place, turn))
            places.append(np.concatenate([np.array([place for place, _ in extra]).reshape(-1, 3), own]))
            linears.append(np.concatenate([np.array([t for _, t in extra]).reshape(-1, 3, 3), [turn] * len(own)]))
        of = np.repeat(np.arange(len(points)), [len(part) for part in places])
        all_places, ncc = np.concatenate(places), np.full(len(of), np.nan)
        if "ncc" in self.steps:
            all_places, ncc = self._polish(points, all_places, np.concatenate(linears), of, expected)
        heights = score_at(self.b, [q[of] for q in queries], self.weights, all_places[:, None])[:, 0].numpy()
        return [
            self._ranked(all_places[of == n], heights[of == n], ncc[of == n], linears[n], ballots[n], expected[n])
            for n in range(len(points))
        ]

    def _ranked(
        self,
        places: np.ndarray,
        heights: np.ndarray,
        ncc: np.ndarray,
        linears: np.ndarray,
        ballot: Vote | None,
        expected: Expectation | None,
    ) -> Found:
        scores = heights + np.nan_to_num(ncc)
        if expected:
            scores = scores - OFF_PRIOR * ((places - expected.place) ** 2).sum(axis=1) / expected.spread_mm**2
        if ballot is not None and "ncc" not in self.steps:
            scores[0] = max(scores[0], scores.max() + 1e-6)  # the votes decide, unless correlation does
        order = list(suppress(places, scores, self.apart_mm))
        return Found(places[order], scores[order], heights[order], ncc[order], linears[order], ballot)

    def _polish(
        self,
        points: np.ndarray,
        places: np.ndarray,
        linears: np.ndarray,
        of: np.ndarray,
        expected: list[Expectation | None],
    ) -> tuple[np.ndarray, np.ndarray]:
        """The last millimetres by correlation of the warped baseline patch -> places (k, 3), correlations (k,)."""
        images = (self.pair.a.image, self.pair.b.image)
        found = correlate(*images, points[of], places, linears, NCC_STEP_MM, PATCH_MM, REACH_MM)
        drawn = [(one.place, STAY / one.spread_mm**2) if one else (places[0], 0.0) for one in expected]
        towards = np.stack([place for place, _ in drawn])[of] - places
        shift, height = peaks(found, NCC_STEP_MM, towards, np.array([pull for _, pull in drawn])[of])
        grid = self.pair.b.scanned
        inside = grid.to_world(grid.to_index(places + shift).clip(-0.5, np.array(grid.shape) - 0.5))
        return inside, height


def _support(found: Found) -> float:
    """The best joint score; where there is nothing to compare with, at the skin say, correlation stands in."""
    unknown = found.heights <= NOWHERE + 1e-6
    return float((found.scores + np.where(unknown, np.nan_to_num(found.ncc) - found.heights, 0.0)).max())


def _snapped(geometry: Geometry, points_lps_mm: np.ndarray) -> np.ndarray:
    """The nearest lattice points of LPS points (N, 3)."""
    return geometry.to_world(np.rint(geometry.to_index(points_lps_mm)).clip(0, np.array(geometry.shape) - 1))
