"""Points of a baseline in a follow-up: what is asked, what is answered, and what each answer rests on."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..progress import Cancel, going_on
from .confidence import Calibration, band, load_calibration, presence_signs
from .matcher import Found, Matcher
from .pair import STEPS, PreparedPair
from .parallel import in_parallel
from .prepared import Prepared, prepare
from .similarity import require_same_encoder


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
    """All that was found for one point of the baseline, best first; empty only where the point was refused.

    ``in_view`` is False when the coarse motion says that the place lies outside the follow-up's field of view;
    ``searched`` is "gate", or "whole scan" when the best place near the expected one was poor.
    ``presence`` is the probability that what is at the point is still there, ``verdict`` both probabilities in
    words ("high", "moderate", "low", "not found", "out of view"); None and "" where nothing was calibrated for
    these steps. ``signs`` are, for each match, the numbers that the calibration reads. ``reason`` says why the point
    was refused (``verdict`` "refused"), or what is in doubt about it.
    """

    query_lps_mm: tuple[float, float, float]
    matches: tuple[Match, ...]
    in_view: bool
    searched: str
    signs: tuple[dict[str, float], ...]
    presence: float | None = None
    verdict: str = ""
    reason: str = ""

    @property
    def best(self) -> Match:
        """The first proposal. Raises UserError, with the reason, for a point that was refused."""
        if not self.matches:
            raise UserError(self.reason)
        return self.matches[0]


TOGETHER = 64
"""So many points are followed at once."""

_PREPARED: WeakKeyDictionary[FeatureMap, Prepared] = WeakKeyDictionary()
_PAIRS: WeakKeyDictionary[FeatureMap, WeakKeyDictionary[FeatureMap, PreparedPair]] = WeakKeyDictionary()
_PREPARING = threading.Lock()


def prepare_pair(
    features_a: FeatureMap, features_b: FeatureMap, steps: Collection[str] = STEPS, cancel: Cancel | None = None
) -> PreparedPair:
    """Prepare two scans for matching from a to b; done once and kept as long as both maps live.

    ``cancel`` is asked between the two scans and before their motion is looked for; True raises MatchingCancelled.

    Safe from several threads: who comes second to the same pair waits for the first instead of preparing it again.
    Raises UserError for maps that cannot be compared (another encoder, weights or plan) or are empty.
    """
    require_same_encoder(features_a, features_b)
    with _PREPARING:
        pairs = _PAIRS.setdefault(features_a, WeakKeyDictionary())
        if features_b not in pairs:
            going_on(cancel)
            if features_a not in _PREPARED:
                _PREPARED[features_a] = prepare(features_a)
            a = _PREPARED[features_a]
            going_on(cancel)
            pairs[features_b] = PreparedPair(a, a if features_b is features_a else prepare(features_b, like=a), {})
        going_on(cancel)
        pairs[features_b].prior(steps)
        return pairs[features_b]


def match_points(
    features_a: FeatureMap,
    features_b: FeatureMap,
    points_lps_mm: np.ndarray,
    top_k: int = 3,
    *,
    steps: Collection[str] = STEPS,
    apart_mm: float = 15.0,
    votes: int = 27,
) -> list[PointMatch]:
    """Points (N, 3) LPS mm of scan a -> one PointMatch each, with up to ``top_k`` places in scan b.

    Proposals of one point lie at least ``apart_mm`` from each other; ``votes`` is 27 or 125. Raises UserError
    for points outside the baseline or in air (:func:`match_each` answers the others), and for maps that cannot be
    compared.
    """
    found = match_each(features_a, features_b, points_lps_mm, top_k, steps=steps, apart_mm=apart_mm, votes=votes)
    refused = next((one for one in found if not one.matches), None)
    if refused is not None:
        raise UserError(refused.reason)
    return found


def match_each(
    features_a: FeatureMap,
    features_b: FeatureMap,
    points_lps_mm: np.ndarray,
    top_k: int = 3,
    *,
    steps: Collection[str] = STEPS,
    apart_mm: float = 15.0,
    votes: int = 27,
    cancel: Cancel | None = None,
) -> list[PointMatch]:
    """As :func:`match_points`, but a point that is refused is an answer too: without matches, with its reason.

    A point that may lie beside the patient is matched, and ``reason`` says so. Raises UserError for maps that cannot
    be compared, and MatchingCancelled once ``cancel`` says so, which is asked between the steps of getting ready and
    between parts of the points.
    """
    check_choices(steps, top_k, votes)
    points = np.asarray(points_lps_mm, dtype=np.float64)
    points = points.reshape(-1, 3) if points.size == 0 else np.atleast_2d(points)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise UserError("points must be three finite numbers each, x y z in LPS mm")
    pair = prepare_pair(features_a, features_b, steps, cancel)
    matcher = Matcher(pair, frozenset(steps), apart_mm, votes)
    evidence = features_a.provenance.get("weights", "") if "tokens" in pair.a.keys else "hu"
    calibration = load_calibration(evidence) if matcher.steps == frozenset(STEPS) else None
    stands = standing(pair.a, points)
    good = np.flatnonzero([good for good, _ in stands])
    answers = dict(zip(good, report_each(matcher, points[good], top_k, calibration, cancel), strict=True))
    return [
        replace(answers[n], reason=reason) if n in answers else refused_point(points[n], reason)
        for n, (_, reason) in enumerate(stands)
    ]


def check_choices(steps: Collection[str], top_k: int, votes: int) -> None:
    """Raise UserError for a step that is unknown, and for numbers that make no sense."""
    unknown = sorted(set(steps) - set(STEPS))
    if unknown or top_k < 1 or votes not in (27, 125):
        raise UserError(f"unknown matching step {unknown[0]}" if unknown else "top_k must be positive, votes 27 or 125")


def standing(prepared: Prepared, points_lps_mm: np.ndarray) -> list[tuple[bool, str]]:
    """Of each point (N, 3) whether it can be matched, and why not, or what is in doubt; "" where nothing is.

    Refused is what lies outside the scan, and what is room air well beside the patient. What may be either is matched.
    """
    points = np.asarray(points_lps_mm, dtype=float).reshape(-1, 3)
    scanned, body = prepared.scanned.contains(points), prepared.in_body(points)
    doubtful = prepared.may_be_body(points)
    out = []
    for (x, y, z), inside, good, doubt in zip(points, scanned, body, doubtful, strict=True):
        place = f"the point ({x:.1f}, {y:.1f}, {z:.1f})"
        if not inside:
            out.append((False, f"{place} lies outside the baseline scan; points are x y z in LPS mm"))
        elif good:
            out.append((True, ""))
        elif doubt:
            out.append((True, f"{place} may lie beside the patient; look at what was found with care"))
        else:
            out.append((False, f"{place} lies in the air round the patient; click inside the body"))
    return out


def refused_point(point: np.ndarray, reason: str) -> PointMatch:
    """The answer to a point that cannot be matched."""
    return PointMatch(tuple(float(c) for c in point), (), False, "", (), None, "refused", reason)


def report_each(
    matcher: Matcher, points: np.ndarray, top_k: int, calibration: Calibration | None, cancel: Cancel | None = None
) -> list[PointMatch]:
    """What is found for each of points (N, 3), many at once, on as many threads as torch may use."""

    def work(part: np.ndarray) -> list[PointMatch]:
        going_on(cancel)
        return report(matcher, part, matcher.find_each(part, top_k), top_k, calibration)

    parts = [points[start : start + TOGETHER] for start in range(0, len(points), TOGETHER)]
    return [one for found in in_parallel(work, parts) for one in found]


def report(
    matcher: Matcher, points: np.ndarray, found: list[Found], top_k: int, calibration: Calibration | None
) -> list[PointMatch]:
    """What was found for points (N, 3), with the way back of each place and, where calibrated, how sure it is."""
    places = [one.places[:top_k] for one in found]
    back = matcher.way_back(points, places)
    present = _presence(matcher, points, found)
    out = []
    for n, (point, one) in enumerate(zip(points, found, strict=True)):
        misses = np.linalg.norm(back[n] - point, axis=1)
        signs = tuple(_signs(matcher, one, i, float(miss)) for i, miss in enumerate(misses))
        signs = (signs[0] | present[n], *signs[1:])
        out.append(_answer(point, one, misses, signs, calibration))
    return out


def _answer(
    point: np.ndarray, found: Found, misses: np.ndarray, signs: tuple[dict, ...], calibration: Calibration | None
) -> PointMatch:
    matches = tuple(
        Match(
            rank=i + 1,
            point_lps_mm=tuple(float(c) for c in found.places[i]),
            similarity=float(found.heights[i]),
            cycle_error_mm=float(miss),
            confidence=calibration.place(signs[i]) if calibration else None,
        )
        for i, miss in enumerate(misses)
    )
    in_view = found.expectation is None or found.expectation.inside_mm >= 0
    presence = calibration.still_there(signs[0]) if calibration else None
    verdict = ""
    if calibration:
        verdict = band(matches[0].confidence, presence, in_view)
    return PointMatch(tuple(float(c) for c in point), matches, in_view, found.searched, signs, presence, verdict)


def _presence(matcher: Matcher, points: np.ndarray, found: list[Found]) -> list[dict[str, float]]:
    """What tells of each point's first place whether the lesion is still there; nothing without HU."""
    if "hu" not in matcher.steps:
        return [{} for _ in found]
    places = np.stack([one.places[0] for one in found])
    linears = np.stack([one.linears[0] for one in found])
    return presence_signs(matcher.pair.a.image, matcher.pair.b.image, points, places, linears)


def _signs(matcher: Matcher, found: Found, i: int, cycle_mm: float) -> dict[str, float]:
    """What the calibration reads of the i-th place."""
    others = np.delete(found.scores, i)
    signs = {
        "similarity": float(found.heights[i]),
        "ncc": float(found.ncc[i]),
        "cycle_mm": cycle_mm,
        "margin": float(found.scores[i] - others.max()) if len(others) else 1.0,
        "leads": float(i == 0),
    }
    if found.ballot:
        signs |= {"votes_cycle_mm": found.ballot.cycle_mm, "votes_spread_mm": found.ballot.spread_mm}
    if found.expectation:
        signs |= {
            "off_prior_mm": float(np.linalg.norm(found.places[i] - found.expectation.place)),
            "prior_spread_mm": found.expectation.spread_mm,
            "inside_mm": found.expectation.inside_mm,
            "agreement": matcher.prior.agreement,
        }
    return signs
