"""One click followed through all steps: proposals, votes, correlation. What :mod:`matching` reports comes from here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import UserError
from ..geometry import Geometry
from .correlation import correlate, peaks
from .limits import GATE_MM
from .prepared import Prepared
from .prior import Prior, find_prior
from .similarity import (
    NOWHERE,
    Box,
    Keys,
    box_round,
    climb,
    full_box,
    local_maxima,
    scan_cell,
    score,
    score_at,
    suppress,
)
from .votes import Vote, gate, gated_search, vote

EVIDENCE = ("tokens", "surroundings", "hu")
STEPS = (*EVIDENCE, "trilinear", "subtoken", "prior", "blocks", "votes", "way_back", "ncc")
"""What matching may use: evidence from tokens, from their surroundings, from the HU round the point; queries
interpolated between tokens; peaks found between tokens; the coarse motion as a gate; its refinement by block
matching on the images; votes of points round the click, weighted by their way back; the last step by correlation."""

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
LEAST_SPREAD_MM = 1.0
"""A coarse motion is never surer than this."""


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A baseline and a follow-up, ready for any number of clicks; ``priors`` by what made them."""

    a: Prepared
    b: Prepared
    priors: dict[tuple[tuple[str, ...], bool], Prior]

    def evidence(self, steps: Collection[str]) -> tuple[str, ...]:
        """The kinds of evidence that both scans have among ``steps``; raises UserError if there is none."""
        names = tuple(name for name in EVIDENCE if name in steps and name in self.a.keys and name in self.b.keys)
        if not names:
            raise UserError("no evidence to match on: these scans have no tokens, and HU was switched off")
        return names

    def prior(self, steps: Collection[str]) -> Prior | None:
        """The coarse motion that these steps allow, found on first use; None if they leave it out."""
        if "prior" not in steps:
            return None
        key = self.evidence(steps), "blocks" in steps
        if key not in self.priors:
            self.priors[key] = find_prior(self.a, self.b, key[0], refine=key[1])
        return self.priors[key]


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
        """Places in the follow-up for one point (3,) LPS mm of the baseline.

        With ``region`` (N, 3) LPS mm, places round the point, what is looked for is their mean, not the point alone.
        """
        queries = self._queries(self.a, point[None])
        if region is not None:
            queries = [part.mean(dim=0, keepdim=True) for part in self._queries(self.a, region)]
        grid = self.b[0].grid
        expected = self._expect(point)
        box = box_round(grid, expected.place, GATE_MM) if expected else None
        found = None
        if box is not None:
            places, heights = self._proposals(queries, box, expected.place, top_k)
            found = self._judge(point, queries, places, heights, expected)
        near = -np.inf if found is None else _support(found)
        if found is None or ("ncc" in self.steps and near < OPEN_BELOW and not self._trusted(expected)):
            places, heights = self._proposals(queries, full_box(grid), None, top_k)
            wide = self._judge(point, queries, places, heights, None)
            if wide.scores[0] > max(near + BETTER_BY, OPEN_BELOW) or found is None:
                found = replace(wide, searched="whole scan")
        return replace(found, expectation=expected)

    def way_back(self, point: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Where each place is found again in the baseline: near the click when there is a gate, else anywhere."""
        queries = self._queries(self.b, places)
        if self.prior is not None:
            clicks = np.repeat(point[None], len(places), axis=0)
            starts, _ = gated_search(self.a, queries, self.weights, clicks, GATE_MM)
        else:
            values = score(self.a, queries, self.weights, full_box(self.a[0].grid))
            starts = np.array([self.a[0].grid.to_world(local_maxima(v, 1)[0]) for v in values])
        return climb(self.a, queries, self.weights, starts, rounds=8)[0]

    def _trusted(self, expected: Expectation) -> bool:
        return self.prior.agreement >= TRUSTED_AGREEMENT and expected.spread_mm <= TRUSTED_SPREAD_MM

    def _expect(self, point: np.ndarray) -> Expectation | None:
        if self.prior is None:
            return None
        place, linear, spread = (part[0] for part in self.prior.at(point[None]))
        grid = self.pair.b.scanned
        index = grid.to_index(place)
        inside = np.minimum(index + 0.5, np.array(grid.shape) - 0.5 - index) * grid.spacing_mm
        return Expectation(place, linear, max(float(spread), LEAST_SPREAD_MM), float(inside.min()))

    def _queries(self, keys: list[Keys], points: np.ndarray) -> list[torch.Tensor]:
        """Query vectors at points (N, 3): interpolated, or of the nearest lattice point."""
        return [k.sample(points if "trilinear" in self.steps else _snapped(k.geometry, points)) for k in keys]

    def _proposals(
        self, queries: list[torch.Tensor], box: Box, expected: np.ndarray | None, top_k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best places for one query in a box -> points (k, 3) and similarities (k,), best first, k >= 1."""
        grid = self.b[0].grid
        values = score(self.b, queries, self.weights, box)
        if expected is not None:
            values = values - gate(grid, box, expected[None])
        index = local_maxima(values[0], PEAKS if expected is None else 4 * top_k)
        if len(index) == 0:
            if expected is None:
                raise UserError("the follow-up holds nothing to compare with; check that it is a CT in HU")
            return expected[None], np.array([-1.0])
        points = grid.to_world(index + [part.start for part in box])
        if "subtoken" in self.steps:
            points, heights = self._tops(queries, points, max(8, 3 * top_k) if expected is None else 0)
        else:
            points = _snapped(self.b[0].geometry, points)
            heights = score_at(self.b, queries, self.weights, points[None])[0].numpy()
        kept = [i for i, _ in zip(suppress(points, heights, self.apart_mm), range(top_k), strict=False)]
        return points[kept], heights[kept]

    def _tops(self, queries: list[torch.Tensor], starts: np.ndarray, exact: int) -> tuple[np.ndarray, np.ndarray]:
        """Peaks followed between the grid's steps; the best ``exact`` of them by an exhaustive look round."""
        repeated = [q.expand(len(starts), -1) for q in queries]
        points, heights = climb(self.b, repeated, self.weights, starts)
        if not exact:
            return points, heights
        first = np.argsort(-heights, kind="stable")[:exact]
        repeated = [q[: len(first)] for q in repeated]
        nearer = scan_cell(self.b, repeated, self.weights, points[first])
        return climb(self.b, repeated, self.weights, nearer, rounds=10)

    def _judge(
        self,
        point: np.ndarray,
        queries: list[torch.Tensor],
        places: np.ndarray,
        heights: np.ndarray,
        expected: Expectation | None,
    ) -> Found:
        """Adds what the votes or the coarse motion propose, polishes all by correlation, and ranks them."""
        linear = expected.linear if expected else np.eye(3)
        linears = np.repeat(linear[None], len(places), axis=0)
        ballot, extra = None, []
        if "votes" in self.steps:
            ballot = vote(
                self.a, self.b, self.weights, point, expected.place if expected else places[0], linear,
                count=self.votes, way_back="way_back" in self.steps,
            )  # fmt: skip
            extra.append((ballot.place, ballot.linear))
        if expected and "ncc" in self.steps:
            extra.append((expected.place, linear))
        if extra:
            places = np.concatenate([[place for place, _ in extra], places])
            linears = np.concatenate([[turn for _, turn in extra], linears])
        ncc = np.full(len(places), np.nan)
        if "ncc" in self.steps:
            places, ncc = self._polish(point, places, linears, expected)
        if extra or "ncc" in self.steps:
            heights = score_at(self.b, queries, self.weights, places[None])[0].numpy()
        scores = heights + np.nan_to_num(ncc)
        if expected:
            scores = scores - OFF_PRIOR * ((places - expected.place) ** 2).sum(axis=1) / expected.spread_mm**2
        if ballot is not None and "ncc" not in self.steps:
            scores[0] = max(scores[0], scores.max() + 1e-6)  # the votes decide, unless correlation does
        order = list(suppress(places, scores, self.apart_mm))
        return Found(places[order], scores[order], heights[order], ncc[order], linears[order], ballot)

    def _polish(
        self, point: np.ndarray, places: np.ndarray, linears: np.ndarray, expected: Expectation | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The last millimetres by correlation of the warped baseline patch -> places (k, 3), correlations (k,)."""
        points = np.repeat(point[None], len(places), axis=0)
        images = (self.pair.a.image, self.pair.b.image)
        found = correlate(*images, points, places, linears, NCC_STEP_MM, PATCH_MM, REACH_MM)
        if expected is None:
            shift, height = peaks(found, NCC_STEP_MM)
        else:
            shift, height = peaks(found, NCC_STEP_MM, expected.place - places, STAY / expected.spread_mm**2)
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
