"""One time point of a study, all lesions at once: match, settle among neighbours, link, and propose.

Nothing here writes into a study what a person has decided otherwise; it returns Findings for
:meth:`Study.propose`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..features import FeatureMap
from ..progress import Cancel
from .assignment import SAME_PLACE_MM, choose_places, link_findings, shared_places
from .finding import Candidate, Finding
from .study import Lesion, Study

if TYPE_CHECKING:
    from ..matching import PointMatch

TOP_K = 3
REFUSED, OUT_OF_VIEW = "refused", "out of view"
"""Verdicts of proposals that have no place."""
MARKED = "marked"
"""Verdict of a proposal whose place is a mark that was already there at the time point; matching keeps it."""


def source_timepoint(study: Study, lesion: Lesion, timepoint: str) -> str | None:
    """The latest earlier time point at which a person has placed the lesion; None if there is none."""
    names = [t.name for t in study.timepoints][: study.order(timepoint)]
    placed = [n for n in names if n in lesion.findings and lesion.findings[n].decided and lesion.findings[n].present]
    return placed[-1] if placed else None


def detections(study: Study, timepoint: str) -> list[Lesion]:
    """Lesions that nobody has decided on and that are marked at this time point alone: not linked to any yet."""
    return [
        lesion
        for lesion in study.lesions
        if list(lesion.findings) == [timepoint]
        and lesion.findings[timepoint].present
        and not lesion.findings[timepoint].decided
    ]


def proposal_key(study: Study, timepoint: str, source: str, before: FeatureMap, after: FeatureMap) -> str:
    """Hash of all that the proposals from one scan to another rest on: features, places, decisions at both."""
    facts = [before.provenance.get("key", ""), after.provenance.get("key", ""), source, timepoint]
    for lesion in study.lesions:
        for name in (source, timepoint):
            finding = lesion.findings.get(name)
            if finding is not None and finding.decided:
                facts.append([lesion.uid, name, finding.state, finding.point_lps_mm])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def propose(
    study: Study,
    timepoint: str,
    source: str,
    before: FeatureMap,
    after: FeatureMap,
    cancel: Cancel | None = None,
) -> dict[str, Finding]:
    """Proposals at ``timepoint``, by tracking UID, for the lesions whose latest decided place is at ``source``.

    ``before`` and ``after`` are the two scans' features. A place that cannot be matched is a proposal without a place,
    with its reason (verdict "refused"). Raises UserError for features that cannot be compared, and MatchingCancelled
    once ``cancel`` says so.
    """
    tracked = [lesion for lesion in study.lesions if source_timepoint(study, lesion, timepoint) == source]
    known = [lesion.findings.get(timepoint) for lesion in tracked]
    settled = [i for i, found in enumerate(known) if found is not None and _settled(found)]
    open_ = [i for i in range(len(tracked)) if i not in settled]
    if not open_:
        return {}
    points = np.array([lesion.findings[source].point_lps_mm for lesion in tracked])
    matched = dict(zip(open_, _matched(before, after, points[open_], cancel), strict=True))
    key = proposal_key(study, timepoint, source, before, after)
    findings = {i: _finding(one, key) for i, one in matched.items()}
    _settle(findings, points, known, settled)
    _merge(findings, tracked, points, [known[i] if i in settled else None for i in range(len(tracked))])
    return {tracked[i].uid: findings[i] for i in open_}


def link_detections(study: Study, timepoint: str, findings: dict[str, Finding]) -> list[str]:
    """Link the time point's own undecided marks to the proposals: a lesion's own, split from one, or new.

    Changes and adds to ``findings`` (by tracking UID); returns the UIDs of marks that turned out to be a tracked
    lesion, which takes over their place and mask. Does nothing where nothing was proposed anew.
    """
    marks = detections(study, timepoint)
    lesions = [lesion for lesion in study.lesions if lesion.uid in findings and findings[lesion.uid].candidates]
    if not marks or not lesions:
        return []
    expected = np.array([_expected(findings[lesion.uid]) for lesion in lesions])
    places = np.array([mark.findings[timepoint].point_lps_mm for mark in marks])
    radii = np.array([_radius(study, lesion, timepoint) for lesion in lesions])
    links = link_findings(expected, places, radii)
    key = findings[lesions[0].uid].inputs
    absorbed = []
    for j, mark in enumerate(marks):
        found = mark.findings[timepoint]
        parent = links.split.get(j)
        if links.lesion_of[j] is not None:
            _take_over(findings[lesions[links.lesion_of[j]].uid], found)
            absorbed.append(mark.uid)
        elif parent is None:
            findings[mark.uid] = replace(found, state="new", inputs=key)
        else:
            findings[mark.uid] = replace(found, state="split", related=(lesions[parent].uid,), inputs=key)
    for i, j in links.merged.items():
        finding = findings[lesions[i].uid]
        finding.state, finding.related = "merged", (lesions[links.lesion_of[j]].uid,)
        finding.point_lps_mm = tuple(float(c) for c in places[j])
    return absorbed


def _matched(before: FeatureMap, after: FeatureMap, points: np.ndarray, cancel: Cancel | None) -> list[PointMatch]:
    from ..matching import match_each  # torch: those who only read a study need not wait for it

    return match_each(before, after, points, top_k=TOP_K, cancel=cancel)


def _settled(finding: Finding) -> bool:
    return finding.decided or finding.verdict == MARKED or finding.mask_by == "person"


def _finding(found: PointMatch, key: str) -> Finding:
    """One match as a proposal; "not found" proposes that the lesion has gone; "out of view" and "refused" no place."""
    candidates = tuple(Candidate(m.point_lps_mm, m.similarity, m.cycle_error_mm, m.confidence) for m in found.matches)
    facts = {"candidates": candidates, "presence": found.presence, "verdict": found.verdict, "inputs": key}
    facts["reason"] = found.reason
    if found.verdict == REFUSED:
        return Finding("proposed", **facts)
    if found.verdict == "not found":
        return Finding("disappeared", **facts)
    if found.verdict == "out of view" or not found.in_view:
        return Finding("proposed", **(facts | {"verdict": "out of view"}))
    return _placed(Finding("proposed", **facts), 0)


def _placed(finding: Finding, index: int) -> Finding:
    candidate = finding.candidates[index]
    finding.point_lps_mm = candidate.point_lps_mm
    finding.cycle_error_mm, finding.confidence = candidate.cycle_error_mm, candidate.confidence
    return finding


def _settle(findings: dict[int, Finding], points: np.ndarray, known: list[Finding | None], settled: list[int]) -> None:
    """Choose among candidates so that neighbours keep their distances, to each other and to what is decided."""
    placed = [i for i in findings if findings[i].present]
    fixed = [i for i in settled if known[i].present]
    if len(placed) + len(fixed) < 2:
        return
    options = [np.array([c.point_lps_mm for c in findings[i].candidates]) for i in placed]
    options += [np.array([known[i].point_lps_mm]) for i in fixed]
    sure = [sureness(findings[i].candidates) for i in placed] + [np.ones(1)] * len(fixed)
    rows = range(len(placed), len(placed) + len(fixed))
    taken = np.array([known[i].point_lps_mm for i in fixed])
    chosen = choose_places(points[placed + fixed], options, sure, taken, list(rows))
    for i, index in zip(placed, chosen, strict=False):
        _placed(findings[i], index)


def sureness(candidates: tuple[Candidate, ...]) -> np.ndarray:
    """How sure each candidate is, (k,), never rising: matching ranks by all its evidence, and its order stands.

    The calibrated confidence; where there is none, shares by rank, since a similarity is no probability.
    """
    if any(candidate.confidence is None for candidate in candidates):
        return 0.6 * 0.4 ** np.arange(len(candidates))
    return np.minimum.accumulate([candidate.confidence for candidate in candidates])


def _merge(
    findings: dict[int, Finding], tracked: list[Lesion], points: np.ndarray, known: list[Finding | None]
) -> None:
    """Two lesions at one place, though they were apart: propose that the open one has merged into the other."""
    now = {i: found for i, found in enumerate(known) if found is not None and found.present}
    now |= {i: found for i, found in findings.items() if found.present}  # decided ones come first
    order = list(now)
    shared = shared_places(np.array([now[i].point_lps_mm for i in order]), points[order])
    for i, j in shared.items():
        if order[i] in findings:
            findings[order[i]].state = "merged"
            findings[order[i]].related = (tracked[order[j]].uid,)


def _expected(finding: Finding) -> tuple[float, float, float]:
    return finding.point_lps_mm or finding.candidates[0].point_lps_mm


def _take_over(finding: Finding, mark: Finding) -> None:
    finding.state, finding.point_lps_mm, finding.related, finding.verdict = "proposed", mark.point_lps_mm, (), MARKED
    finding.mask, finding.mask_by, finding.measurement = mark.mask, mark.mask_by, mark.measurement


def _radius(study: Study, lesion: Lesion, timepoint: str) -> float:
    """Half the long axis where the lesion was last placed, in mm."""
    finding = lesion.findings[source_timepoint(study, lesion, timepoint)]
    return finding.measurement.long_axis_mm / 2 if finding.measurement else SAME_PLACE_MM
