"""Two readers' studies of one patient, compared: whom they measured, how alike, and what they should settle.

Limits of agreement: mean difference ± 1.96 standard deviations (Bland and Altman, Lancet 1986; 327: 307-310).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import UserError
from ..patient_key import current_key
from .assessment import assess, diameter_mm
from .study import Lesion, Study

SAME_PLACE_MM = 10.0
"""Lesions that two readers marked on their own are one where their places in a scan lie no further apart."""
SMALL_MM = 3.0
"""Differences of diameters up to this are a hand's; larger ones are listed to be settled."""
LIMITS = 1.96


@dataclass(frozen=True)
class Pair:
    """One lesion as both readers have it; None for the one who has not."""

    first: Lesion | None
    second: Lesion | None

    @property
    def name(self) -> str:
        """As the readers call it."""
        names = [one.name for one in (self.first, self.second) if one is not None]
        return " / ".join(dict.fromkeys(names))


@dataclass(frozen=True)
class Sizes:
    """A lesion's RECIST diameters at one time point, mm, which both readers have measured."""

    pair: Pair
    timepoint: str
    first_mm: float
    second_mm: float

    @property
    def difference_mm(self) -> float:
        """Second minus first."""
        return self.second_mm - self.first_mm


@dataclass
class Agreement:
    """What two readers agree on. ``timepoints`` are those of both; ``categories`` (time point, first's, second's)."""

    timepoints: list[str]
    pairs: list[Pair]
    sizes: list[Sizes] = field(default_factory=list)
    categories: list[tuple[str, str, str]] = field(default_factory=list)
    to_settle: list[str] = field(default_factory=list)

    @property
    def targets(self) -> tuple[int, int, int]:
        """How many targets both have, the first alone, the second alone."""
        roles = [tuple(one is not None and one.role == "target" for one in (p.first, p.second)) for p in self.pairs]
        return roles.count((True, True)), roles.count((True, False)), roles.count((False, True))

    @property
    def mean_difference_mm(self) -> float | None:
        """Of diameters, second minus first; None where both measured nothing in common."""
        return float(np.mean([one.difference_mm for one in self.sizes])) if self.sizes else None

    @property
    def limits_mm(self) -> tuple[float, float] | None:
        """Between these, 95 % of differences are expected; None for fewer than two."""
        if len(self.sizes) < 2:
            return None
        spread = LIMITS * float(np.std([one.difference_mm for one in self.sizes], ddof=1))
        return self.mean_difference_mm - spread, self.mean_difference_mm + spread


def compare_readers(first: Study, second: Study) -> Agreement:
    """Compares two studies of one patient. Raises UserError for different patients, criteria, or scans."""
    if current_key(first.patient_key) != current_key(second.patient_key):
        raise UserError("the two studies are of different patients (by patient_key); compare two readers of one")
    if first.criterion != second.criterion:
        raise UserError(f"one study is assessed by {first.criterion}, the other by {second.criterion}; choose one")
    names = _shared(first, second)
    if not names:
        raise UserError("the two studies have no scan in common, neither by series nor by name")
    found = Agreement([name for name, _ in names], _pairs(first, second, names))
    for here, there in names:
        for pair in found.pairs:
            _compare_finding(found, pair, here, there)
    for pair in found.pairs:
        _compare_roles(found, pair)
    responses = [{one.timepoint: one.response.category for one in assess(study)} for study in (first, second)]
    for here, there in names:
        said = responses[0].get(here), responses[1].get(there)
        if None not in said:
            found.categories.append((here, *said))
            if said[0] != said[1]:
                found.to_settle.append(f"{here}: response {said[0]} or {said[1]}")
    return found


def _shared(first: Study, second: Study) -> list[tuple[str, str]]:
    """The names of one scan in both studies, in the order of time: by series, by name where one has no series."""
    out = []
    for here in first.timepoints:
        for there in second.timepoints:
            known = here.series_uid and there.series_uid
            if here.series_uid == there.series_uid if known else here.name == there.name:
                out.append((here.name, there.name))
                break
    return out


def _pairs(first: Study, second: Study, names: list[tuple[str, str]]) -> list[Pair]:
    """Lesions of one tracking UID are one; of the rest those that lie at one place, the nearest first."""
    by_uid = {one.uid: one for one in second.lesions}
    pairs = [Pair(one, by_uid[one.uid]) for one in first.lesions if one.uid in by_uid]
    same = {one.first.uid for one in pairs}
    rest = [[one for one in study.lesions if one.uid not in same] for study in (first, second)]
    apart = sorted(
        ((away, a, b) for a, one in enumerate(rest[0]) for b, other in enumerate(rest[1])
         if (away := _apart_mm(one, other, names)) is not None and away <= SAME_PLACE_MM)
    )  # fmt: skip
    used: tuple[set[int], set[int]] = (set(), set())
    for _, a, b in apart:
        if a not in used[0] and b not in used[1]:
            used[0].add(a)
            used[1].add(b)
            pairs.append(Pair(rest[0][a], rest[1][b]))
    pairs += [Pair(one, None) for a, one in enumerate(rest[0]) if a not in used[0]]
    pairs += [Pair(None, one) for b, one in enumerate(rest[1]) if b not in used[1]]
    order = {one.uid: k for k, one in enumerate(first.lesions)}
    return sorted(pairs, key=lambda pair: order[pair.first.uid] if pair.first is not None else len(order))


def _apart_mm(one: Lesion, other: Lesion, names: list[tuple[str, str]]) -> float | None:
    """How far apart two lesions lie in the first scan in which both have a place; None where there is none."""
    for here, there in names:
        a, b = one.findings.get(here), other.findings.get(there)
        if a is not None and b is not None and a.present and b.present:
            return float(np.linalg.norm(np.subtract(a.point_lps_mm, b.point_lps_mm)))
    return None


def _compare_finding(found: Agreement, pair: Pair, here: str, there: str) -> None:
    if pair.first is None or pair.second is None:
        return
    known = pair.first.findings.get(here), pair.second.findings.get(there)
    if None in known or not all(one.decided for one in known):
        missing = [k for k, one in enumerate(known, start=1) if one is None or not one.decided]
        if len(missing) == 1:
            found.to_settle.append(f"{here}, {pair.name}: reader {missing[0]} has not decided")
        return
    if known[0].present != known[1].present:
        words = ["there" if one.present else "not there" for one in known]
        found.to_settle.append(f"{here}, {pair.name}: {words[0]} or {words[1]}")
        return
    sizes = diameter_mm(pair.first, here), diameter_mm(pair.second, there)
    if None in sizes or not known[0].present or pair.first.node != pair.second.node:
        return  # of a node the short axis is read: two axes are not one size
    one = Sizes(pair, here, *sizes)
    found.sizes.append(one)
    if abs(one.difference_mm) > SMALL_MM:
        found.to_settle.append(f"{here}, {pair.name}: {sizes[0]:.1f} or {sizes[1]:.1f} mm")


def _compare_roles(found: Agreement, pair: Pair) -> None:
    if pair.first is None or pair.second is None:
        reader = 1 if pair.second is None else 2
        found.to_settle.append(f"{pair.name}: reader {reader} alone has it")
    else:
        for words, values in (
            ("role", (pair.first.role or "none", pair.second.role or "none")),
            ("lymph node", tuple("yes" if one.node else "no" for one in (pair.first, pair.second))),
        ):
            if values[0] != values[1]:
                found.to_settle.append(f"{pair.name}: {words} {values[0]} or {values[1]}")
