"""Many lesions at once: one place each, no place twice, neighbours kept together; and a dustbin for those without.

Each lesion alone is matched well until two alike lie side by side; then only their distance tells them
apart. Two questions are answered: which of its ranked candidates each lesion takes (:func:`choose_places`), and
which lesion each finding of the follow-up belongs to (:func:`link_findings`), by linear assignment with a
dustbin (Kuhn 1955; as in Santoro-Fernandes et al. 2021 for lesions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEIGHBOUR_MM = 60.0
"""Lesions this near at baseline move together."""
DISTANCE_SIGMA_MM = 8.0
"""How much the distance of neighbours changes between two scans: breathing and posture, not growth."""
SAME_PLACE_MM = 5.0
"""Two lesions nearer than this are at one place; they merged, or one of the two is wrong."""
DUSTBIN_MM = 20.0
"""A finding further than this from where a lesion is expected is another one."""
STRETCH_CAP = 2.0
"""In the units of -log probability, as is the next: one wrong neighbour must not drag all others with it."""
COLLISION = 3.0

_SWEEPS = 20


@dataclass(frozen=True)
class Links:
    """``lesion_of`` a lesion's index for each finding, None when it is new.

    ``disappeared`` lesions without a finding. ``split`` finding -> the lesion it came from, which has another
    finding too; ``merged`` lesion -> the finding that it shares with another lesion.
    """

    lesion_of: tuple[int | None, ...]
    disappeared: tuple[int, ...]
    split: dict[int, int]
    merged: dict[int, int]


def choose_places(
    before_lps_mm: np.ndarray,
    candidates: Sequence[np.ndarray],
    confidences: Sequence[np.ndarray],
    taken_lps_mm: np.ndarray | None = None,
    settled: Sequence[int] = (),
) -> list[int]:
    """For each lesion at ``before_lps_mm`` (N, 3), the index of the candidate that suits all best.

    ``candidates`` N arrays (k, 3) LPS mm, best first; ``confidences`` N arrays (k,), 0 to 1.
    ``settled``, ``taken_lps_mm``  lesions whose place (one row each) a person has decided: they choose nothing,
    and the others must suit them; their answer is 0. Minimised: -log confidence, plus the changed distance to
    each neighbour in squared sigmas (capped: one wrong neighbour must not drag all), plus a price for two lesions
    that take one place though they were apart. Changed one lesion or two neighbours at a time, until no such
    change is better; deterministic.
    """
    before = np.asarray(before_lps_mm, dtype=np.float64).reshape(-1, 3)
    options = [np.atleast_2d(np.asarray(c, dtype=np.float64)) for c in candidates]
    unary = [-np.log(np.clip(c, 1e-3, 1)) for c in confidences]
    for i, place in zip(settled, np.reshape([] if taken_lps_mm is None else taken_lps_mm, (-1, 3)), strict=True):
        options[i], unary[i] = place[None], np.zeros(1)
    apart = np.linalg.norm(before[:, None] - before[None], axis=2)
    moves = _moves(options, apart)
    chosen = [0] * len(before)
    energy = _energy(chosen, options, unary, apart)
    for _ in range(_SWEEPS):
        start = energy
        for move in moves:
            tried = chosen.copy()
            for i, index in move:
                tried[i] = index
            trial = _energy(tried, options, unary, apart)
            if trial < energy - 1e-9:
                chosen, energy = tried, trial
        if energy == start:
            break
    return chosen


def link_findings(
    expected_lps_mm: np.ndarray,
    found_lps_mm: np.ndarray,
    radii_mm: np.ndarray | None = None,
    dustbin_mm: float = DUSTBIN_MM,
) -> Links:
    """Whose finding is which: expected places of lesions (N, 3) against findings of the follow-up (M, 3), LPS mm.

    ``radii_mm`` (N,) of the lesions at baseline, 0 where unknown: a finding left over within a lesion's radius
    (at least 5 mm more than its neighbours' common shift explains) was split from it, and a lesion left over whose
    expected place lies that near a linked finding has merged into it.
    Costs are distances after the shift that neighbours have in common, so that a row of lesions moved by one
    gap is not linked one off.
    """
    expected = np.asarray(expected_lps_mm, dtype=np.float64).reshape(-1, 3)
    found = np.asarray(found_lps_mm, dtype=np.float64).reshape(-1, 3)
    reach = np.maximum(0.0 if radii_mm is None else np.asarray(radii_mm, dtype=np.float64), 0.0) + SAME_PLACE_MM
    reach = np.broadcast_to(reach, len(expected))
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    # The shift is tried from none, and from each pair of a lesion and a finding within reach of the dustbin.
    for start in _shifts(expected, found, dustbin_mm):
        shifted = expected + start
        for _ in range(3):
            linked = _assign(shifted, found, dustbin_mm)
            shifted = expected + _common_shift(expected, found, linked, start)
        total = _total(shifted, found, linked, dustbin_mm) + 0.02 * len(expected) * float(np.linalg.norm(start))
        if best is None or total < best[0] - 1e-9:
            best = total, linked, shifted
    _, linked, shifted = best
    lesion_of: list[int | None] = [None] * len(found)
    for lesion, finding in enumerate(linked):
        if finding >= 0:
            lesion_of[finding] = lesion
    # What is near is near with the neighbours' shift or without: of two lesions that became one, each seems shifted.
    apart = np.minimum(_distances(shifted, found), _distances(expected, found))
    split = {}
    for finding in (j for j, lesion in enumerate(lesion_of) if lesion is None):
        near = [i for i in np.flatnonzero(linked >= 0) if apart[i, finding] <= reach[i]]
        if near:
            split[finding] = int(min(near, key=lambda i: apart[i, finding]))
    merged = {}
    for lesion in np.flatnonzero(linked < 0):
        near = [j for j in linked[linked >= 0] if apart[lesion, j] <= reach[lesion]]
        if near:
            merged[int(lesion)] = int(min(near, key=lambda j: apart[lesion, j]))
    gone = tuple(int(i) for i in np.flatnonzero(linked < 0) if i not in merged)
    return Links(tuple(lesion_of), gone, split, merged)


def shared_places(places_lps_mm: np.ndarray, before_lps_mm: np.ndarray) -> dict[int, int]:
    """Lesions (N, 3) that took the place of an earlier one though they were apart before: index -> that one's."""
    places = np.asarray(places_lps_mm, dtype=np.float64).reshape(-1, 3)
    before = np.asarray(before_lps_mm, dtype=np.float64).reshape(-1, 3)
    out: dict[int, int] = {}
    for i in range(len(places)):
        for j in range(i):
            if j not in out and np.linalg.norm(places[i] - places[j]) < SAME_PLACE_MM <= np.linalg.norm(
                before[i] - before[j]
            ):
                out[i] = j
                break
    return out


def _moves(options: list[np.ndarray], apart: np.ndarray) -> list[tuple[tuple[int, int], ...]]:
    """Changes to try: one lesion to each of its candidates, and two neighbours to each pair of theirs."""
    singles = [[(i, index) for index in range(len(option))] for i, option in enumerate(options)]
    near = [(i, j) for i in range(len(options)) for j in range(i) if apart[i, j] <= NEIGHBOUR_MM]
    pairs = [(one, other) for i, j in near for one in singles[i] for other in singles[j]]
    return [(one,) for single in singles for one in single] + pairs


def _energy(chosen: list[int], options: list[np.ndarray], unary: list[np.ndarray], apart: np.ndarray) -> float:
    """What a choice costs: doubts, stretched distances to neighbours (their mean: they share one vote), collisions."""
    if not chosen:
        return 0.0
    places = np.array([option[index] for option, index in zip(options, chosen, strict=True)])
    now = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = (apart <= NEIGHBOUR_MM) & ~np.eye(len(chosen), dtype=bool)
    stretch = np.minimum(((now - apart) / DISTANCE_SIGMA_MM) ** 2 / 2, STRETCH_CAP) * near
    collisions = (now < SAME_PLACE_MM) & (apart >= SAME_PLACE_MM)
    doubts = sum(float(costs[index]) for costs, index in zip(unary, chosen, strict=True))
    shared = (stretch.sum(axis=1) / np.maximum(near.sum(axis=1), 1)).sum()
    return doubts + float(shared) + COLLISION * float(collisions.sum()) / 2


def _assign(expected: np.ndarray, found: np.ndarray, dustbin_mm: float) -> np.ndarray:
    """Finding of each lesion (N,), -1 for the dustbin: linear assignment with one bin a lesion."""
    from scipy.optimize import linear_sum_assignment  # here, so that a widget opens without waiting for scipy

    n, m = len(expected), len(found)
    cost = np.full((n, m + n), dustbin_mm, dtype=np.float64)
    distance = _distances(expected, found)
    cost[:, :m] = np.where(distance <= dustbin_mm, distance, 1e6)
    rows, columns = linear_sum_assignment(cost)
    linked = np.full(n, -1)
    linked[rows] = np.where(columns < m, columns, -1)
    return linked


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """mm between each of (N, 3) and each of (M, 3) -> (N, M)."""
    return np.linalg.norm(a[:, None] - b[None], axis=2)


def _shifts(expected: np.ndarray, found: np.ndarray, dustbin_mm: float) -> list[np.ndarray]:
    pairs = (found[None] - expected[:, None]).reshape(-1, 3)
    return [np.zeros(3), *pairs[np.linalg.norm(pairs, axis=1) <= dustbin_mm][:200]]


def _common_shift(expected: np.ndarray, found: np.ndarray, linked: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Median displacement of the linked lesions, (3,); ``start`` for fewer than three, which agree on nothing."""
    pairs = np.flatnonzero(linked >= 0)
    return start if len(pairs) < 3 else np.median(found[linked[pairs]] - expected[pairs], axis=0)


def _total(expected: np.ndarray, found: np.ndarray, linked: np.ndarray, dustbin_mm: float) -> float:
    pairs = np.flatnonzero(linked >= 0)
    distance = np.linalg.norm(expected[pairs] - found[linked[pairs]], axis=1).sum()
    return float(distance + dustbin_mm * (len(linked) - len(pairs)))
