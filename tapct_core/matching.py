"""The same point in another scan: ranked proposals for points of a baseline in a follow-up.

Every step has a name and can be left out (``steps``), for the ablation in benchmarks/matching.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F

from .errors import UserError
from .features import FeatureMap
from .geometry import Geometry
from .prepared import Prepared, prepare
from .similarity import (
    Keys,
    climb,
    full_box,
    local_maxima,
    require_same_encoder,
    scan_cell,
    score,
    score_at,
    suppress,
)

STEPS = ("tokens", "pooled", "hu", "trilinear", "subtoken")
"""What the search may use: evidence from tokens, from their surroundings, from HU; queries interpolated
between tokens; peaks found between tokens."""

WEIGHTS = {"tokens": 1.0, "pooled": 1.0, "hu": 1.0}
PEAKS = 64
"""Local maxima of the search grid that are followed to their exact top."""


@dataclass(frozen=True)
class Match:
    """A proposal: where, how alike, how far from the click the way back ends, and how sure.

    ``point_lps_mm`` (x, y, z); ``similarity`` -1 to 1; ``confidence`` the probability that the place is
    right within 10 mm, None where it was not calibrated for these steps.
    """

    rank: int
    point_lps_mm: tuple[float, float, float]
    similarity: float
    cycle_error_mm: float
    confidence: float | None = None


@dataclass(frozen=True)
class PointMatch:
    """All that was found for one point of the baseline, best first."""

    query_lps_mm: tuple[float, float, float]
    matches: tuple[Match, ...]

    @property
    def best(self) -> Match:
        """The first proposal."""
        return self.matches[0]


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A baseline and a follow-up, ready for any number of clicks."""

    a: Prepared
    b: Prepared


_PREPARED: WeakKeyDictionary[FeatureMap, Prepared] = WeakKeyDictionary()
_PAIRS: WeakKeyDictionary[FeatureMap, WeakKeyDictionary[FeatureMap, PreparedPair]] = WeakKeyDictionary()


def prepare_pair(features_a: FeatureMap, features_b: FeatureMap) -> PreparedPair:
    """Prepare two scans for matching from a to b; done once and kept as long as the maps live.

    Raises UserError for maps that cannot be compared (another encoder, weights or plan) or are empty.
    """
    require_same_encoder(features_a.provenance, features_b.provenance, (features_a.dim, features_b.dim))
    pairs = _PAIRS.setdefault(features_a, WeakKeyDictionary())
    if features_b not in pairs:
        if features_a not in _PREPARED:
            _PREPARED[features_a] = prepare(features_a)
        a = _PREPARED[features_a]
        b = a if features_b is features_a else prepare(features_b, like=a)
        pairs[features_b] = PreparedPair(a, b)
    return pairs[features_b]


def match_points(
    features_a: FeatureMap,
    features_b: FeatureMap,
    points_lps_mm: np.ndarray,
    top_k: int = 3,
    *,
    steps: Collection[str] = STEPS,
    apart_mm: float = 15.0,
) -> list[PointMatch]:
    """Points (N, 3) LPS mm of scan a -> one PointMatch each, with up to ``top_k`` places in scan b.

    Proposals of one point lie at least ``apart_mm`` from each other. Raises UserError for points outside
    the baseline or in air, and for maps that cannot be compared.
    """
    unknown = set(steps) - set(STEPS)
    if unknown or top_k < 1:
        raise UserError(f"unknown matching step {sorted(unknown)}" if unknown else "top_k must be at least 1")
    points = np.atleast_2d(np.asarray(points_lps_mm, dtype=np.float64))
    if points.shape[-1] != 3 or not np.isfinite(points).all():
        raise UserError("points must be three finite numbers each, x y z in LPS mm")
    pair = prepare_pair(features_a, features_b)
    require_in_scan(pair.a, points)
    return [_match_point(pair, point, top_k, frozenset(steps), apart_mm) for point in points]


def similarity_map(features: FeatureMap, query: np.ndarray) -> np.ndarray:
    """Cosine of a query vector (C,), as :meth:`FeatureMap.sample` gives it, with every token, for display.

    -> (Z, Y, X) float32 on ``features.geometry``; NaN where there is no token. Tokens and query are centred
    on the scan's mean first: what all tokens share says nothing about the place.
    """
    if features.dim == 0:
        raise UserError("this map holds no tokens, so it has no token similarity; embed with an encoder")
    tokens = torch.from_numpy(features.tokens[features.valid]).float()
    mean = tokens.mean(dim=0)
    vector = torch.as_tensor(np.asarray(query, dtype=np.float32)) - mean
    cosine = F.normalize(tokens - mean, dim=1) @ F.normalize(vector, dim=0)
    out = np.full(features.geometry.shape, np.nan, dtype=np.float32)
    out[features.valid] = cosine.numpy()
    return out


def require_in_scan(prepared: Prepared, points_lps_mm: np.ndarray) -> None:
    """Raise UserError, naming the first point that lies outside the scan or in the air round the patient."""
    inside = prepared.features.hu_geometry.contains(points_lps_mm)
    if not inside.all():
        raise UserError(f"the point {_words(points_lps_mm[~inside][0])} lies outside the baseline scan; points are x y z in LPS mm")
    body = prepared.in_body(points_lps_mm)
    if not body.all():
        raise UserError(f"the point {_words(points_lps_mm[~body][0])} lies in the air round the patient; click inside the body")


def _words(point: np.ndarray) -> str:
    return "({:.1f}, {:.1f}, {:.1f})".format(*point)


def _evidence(pair: PreparedPair, steps: frozenset[str]) -> list[str]:
    names = [name for name in pair.a.keys if name in steps and name in pair.b.keys]
    if not names:
        raise UserError("no evidence to match on: these scans have no tokens, and HU was switched off")
    return names


def _match_point(pair: PreparedPair, point: np.ndarray, top_k: int, steps: frozenset[str], apart_mm: float) -> PointMatch:
    names = _evidence(pair, steps)
    weights = [WEIGHTS[name] for name in names]
    there, back = [pair.b.keys[n] for n in names], [pair.a.keys[n] for n in names]
    found, heights = _search(there, [_query(k, point[None], steps) for k in back], weights, steps, top_k, apart_mm)
    returns = [_search(back, [_query(k, p[None], steps) for k in there], weights, steps, 1, apart_mm)[0][0] for p in found]
    matches = tuple(
        Match(rank + 1, tuple(float(c) for c in p), float(h), float(np.linalg.norm(r - point)))
        for rank, (p, h, r) in enumerate(zip(found, heights, returns, strict=True))
    )
    return PointMatch(tuple(float(c) for c in point), matches)


def _query(keys: Keys, points_lps_mm: np.ndarray, steps: frozenset[str]) -> torch.Tensor:
    """Query vectors at points (N, 3): interpolated, or of the nearest lattice point -> (N, K)."""
    return keys.sample(points_lps_mm if "trilinear" in steps else _snapped(keys.geometry, points_lps_mm))


def _snapped(geometry: Geometry, points_lps_mm: np.ndarray) -> np.ndarray:
    """The nearest lattice points of LPS points (N, 3)."""
    return geometry.to_world(np.rint(geometry.to_index(points_lps_mm)).clip(0, np.array(geometry.shape) - 1))


def _search(
    keys: list[Keys], queries: list[torch.Tensor], weights: list[float], steps: frozenset[str], top_k: int, apart_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Best places for one query in the whole scan -> points (k, 3) and scores (k,), best first, k >= 1."""
    grid = keys[0].grid
    values = score(keys, queries, weights, full_box(grid))[0]
    peaks = grid.to_world(local_maxima(values, PEAKS if "subtoken" in steps else 8 * top_k))
    if len(peaks) == 0:
        raise UserError("the follow-up has nothing to compare with; is it an empty scan?")
    if "subtoken" in steps:
        repeated = [q.expand(len(peaks), -1) for q in queries]
        peaks, heights = climb(keys, repeated, weights, peaks)
        first = np.argsort(-heights, kind="stable")[: max(8, 3 * top_k)]
        repeated = [q[: len(first)] for q in repeated]
        peaks, heights = climb(keys, repeated, weights, scan_cell(keys, repeated, weights, peaks[first]), rounds=10)
    else:
        peaks = _snapped(keys[0].geometry, peaks)
        heights = score_at(keys, queries, weights, peaks[None])[0].numpy()
    kept = [i for i, _ in zip(suppress(peaks, heights, apart_mm), range(top_k), strict=False)]
    return peaks[kept], heights[kept]

