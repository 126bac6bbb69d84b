"""A study run through its scans: all lesions looked for at every time point, and measured where they have a place.

One way for all who do it: the command line reads scans from files, a window has them open; what is skipped, kept and
said is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import UserError
from ..features import FeatureMap
from ..progress import Cancel, MatchingCancelled
from ..volume import CTVolume
from .finding import Finding, Mask, Plausibility
from .measurement_check import check_measurement, earlier_measurement
from .recist import Measurement, Point
from .study import Lesion, Study
from .timepoints import snapshot
from .tracking import (
    OUT_OF_VIEW,
    REFUSED,
    detections,
    link_detections,
    proposal_key,
    propose,
    source_timepoint,
)


class Scans(Protocol):
    """The scans of a study by time point's name, as far as they are at hand."""

    def __contains__(self, name: str) -> bool: ...

    def volume(self, name: str) -> CTVolume:
        """The scan."""

    def features(self, name: str) -> FeatureMap | None:
        """What a mask grown in this scan may rest on beside HU."""

    def maps(self, before: str, after: str) -> tuple[FeatureMap, FeatureMap]:
        """What two scans are compared by."""


@dataclass(frozen=True, eq=False)
class Grown:
    """A mask, the place (LPS mm) that it was grown from, what it measures, and how far that can be believed."""

    point_lps_mm: Point
    mask: Mask
    measurement: Measurement
    plausibility: Plausibility


@dataclass(frozen=True, eq=False)
class Step:
    """What the run found at one time point: proposals and masks by tracking UID, and the marks that lesions took over.

    ``notes`` say what could not be measured, and what was not looked for because a scan is not at hand; ``failures``
    which scans could not be compared, and why.
    """

    timepoint: str
    findings: dict[str, Finding] = field(default_factory=dict)
    absorbed: list[str] = field(default_factory=list)
    masks: dict[str, Grown] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def put_into(self, study: Study) -> None:
        """Into one state of the study. What a person has decided, and what is gone by now, stays as it is."""
        if self.timepoint not in [timepoint.name for timepoint in study.timepoints]:
            return
        here = {lesion.uid for lesion in study.lesions}
        for uid, finding in self.findings.items():
            if uid in here:
                study.propose(uid, self.timepoint, finding)
        gone = [one for one in study.lesions if one.uid in self.absorbed and list(one.findings) == [self.timepoint]]
        study.lesions = [one for one in study.lesions if one not in gone or one.findings[self.timepoint].decided]
        for lesion in study.lesions:
            found, grown = lesion.findings.get(self.timepoint), self.masks.get(lesion.uid)
            if found is not None and grown is not None and _unmeasured(found) and _at(found, grown.point_lps_mm):
                study.put_mask(
                    lesion.uid, self.timepoint, grown.mask, grown.measurement, plausibility=grown.plausibility
                )


def run_all(
    study: Study,
    scans: Scans,
    report: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Looks for all lesions at all scans at hand and measures what has a place; one Step a time point.

    ``study`` must be the caller's own copy: each step goes into it, so that the next rests on it, and what the caller
    changes in it between two steps is seen. ``report`` is told (done, total). Stops once ``cancelled`` says so: between
    lesions, and while scans are compared. What rests on nothing new is not looked for again.
    """
    names = [timepoint.name for timepoint in study.timepoints if timepoint.name in scans]
    of_one = 1 + len(study.lesions)
    for number, name in enumerate(names):
        step = Step(name)
        for source in sources(study, name):
            if cancelled():
                return
            if source in scans:
                try:
                    _look_from(study, source, name, scans, step, cancelled)
                except MatchingCancelled:
                    return
            else:
                step.notes.append(f"{source} is not open, so nothing was looked for from there")
        step.absorbed.extend(link_detections(study, name, step.findings))
        step.put_into(study)
        report(number * of_one + 1, len(names) * of_one)
        for place, lesion in enumerate(study.lesions, start=2):
            if cancelled():
                return
            step.masks.update(grown(study, lesion, name, scans, step.notes))
            report(number * of_one + min(place, of_one), len(names) * of_one)
        step.put_into(study)
        report((number + 1) * of_one, len(names) * of_one)  # also where lesions took over marks
        yield step


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many proposals found a place, and how many did not, by why: what a run has to say at its end."""
    out = dict.fromkeys(("found", "not found", "out of view", "refused"), 0)
    for finding in findings:
        if finding.verdict in (OUT_OF_VIEW, REFUSED) and not finding.present:
            out[finding.verdict] += 1
        else:
            out["found" if finding.present else "not found"] += 1
    return out


def summary(findings: Iterable[Finding]) -> str:
    """The counts in words: "12 looked for: 9 found, 2 not found, 0 out of view, 1 refused"."""
    found = counts(findings)
    return f"{sum(found.values())} looked for: {', '.join(f'{number} {what}' for what, number in found.items())}"


def refusals(study: Study, step: Step) -> list[str]:
    """Why places of this step were refused or are in doubt, lesion by lesion."""
    names = {lesion.uid: lesion.name for lesion in study.lesions}
    found = [(names.get(uid, uid), finding) for uid, finding in step.findings.items() if finding.reason]
    return [f"{name} at {step.timepoint}: {finding.reason}" for name, finding in found]


def sources(study: Study, timepoint: str) -> list[str]:
    """The scans from which lesions are followed to a time point, the latest first."""
    found = {source_timepoint(study, lesion, timepoint) for lesion in study.lesions} - {None}
    return sorted(found, key=study.order, reverse=True)


def grown(study: Study, lesion: Lesion, timepoint: str, scans: Scans, notes: list[str]) -> dict[str, Grown]:
    """A mask for a lesion that has a place here and none yet; why there is none goes into ``notes``."""
    finding = lesion.findings.get(timepoint)
    if finding is None or not finding.present or not _unmeasured(finding):
        return {}
    from .growing_on import earlier_mask, grow_on  # scipy and torch, which nothing else here needs

    place, volume = finding.point_lps_mm, scans.volume(timepoint)
    before = earlier_mask(study, lesion, timepoint, place, lambda name: _volume(scans, name))
    try:
        mask = grow_on(volume, place, scans.features(timepoint), before)
        measured = mask.measure(volume)
        believed = check_measurement(mask, measured, volume, earlier_measurement(study, lesion, timepoint))
        return {lesion.uid: Grown(place, mask, measured, believed)}
    except UserError as error:
        notes.append(f"{lesion.name} at {timepoint} is not measured: {error}")
        return {}


def _volume(scans: Scans, name: str) -> CTVolume | None:
    """An earlier scan, None where it is not at hand or can no longer be read: a mask can be grown without it."""
    try:
        return scans.volume(name) if name in scans else None
    except UserError:
        return None


def to_verify(study: Study) -> list[tuple[str, str]]:
    """The review queue: (tracking UID, time point) of all that nobody has decided, in the order of time."""
    return [
        (lesion.uid, timepoint.name)
        for timepoint in study.timepoints
        for lesion in study.lesions
        if timepoint.name in lesion.findings and not lesion.findings[timepoint.name].decided
    ]


def alone(study: Study, uid: str, timepoint: str) -> Study:
    """The study with one lesion to find, and the others only where a person has placed them at the time point."""
    copy = snapshot(study)
    copy.lesions = [one for one in copy.lesions if one.uid == uid or _decided(one.findings.get(timepoint))]
    return copy


def nothing_earlier(study: Study, lesion: Lesion, timepoint: str) -> str:
    """Why there is nothing to look for at a time point, with what can be done."""
    known = lesion.findings.get(timepoint)
    if known is not None and known.state == "new":
        return f"{lesion.name} is new at {timepoint}: it was not there before, so that there is nothing to look for"
    placed = [t.name for t in study.timepoints if t.name in lesion.findings and lesion.findings[t.name].present]
    if timepoint in placed[:1]:
        return f"{lesion.name} is first marked at {timepoint}; compare a later scan"
    return f"{lesion.name} has no place before {timepoint} that a person has confirmed; mark or accept it there first"


def _look_from(study: Study, source: str, name: str, scans: Scans, step: Step, cancelled: Cancel) -> None:
    """Proposals from one earlier scan into the step, unless all of them are there and rest on what they rested on."""
    try:
        before, after = scans.maps(source, name)
        key = proposal_key(study, name, source, before, after)
        waiting = [
            lesion.findings.get(name)
            for lesion in study.lesions
            if source_timepoint(study, lesion, name) == source and not _decided(lesion.findings.get(name))
        ]
        waiting += [lesion.findings[name] for lesion in detections(study, name)]
        if not all(finding is not None and finding.inputs == key for finding in waiting):
            step.findings.update(propose(study, name, source, before, after, cancelled))
    except UserError as error:
        step.failures.append(f"from {source} to {name}: {error}")


def _decided(finding: Finding | None) -> bool:
    return finding is not None and finding.decided


def _unmeasured(finding: Finding) -> bool:
    return finding.mask is None and finding.measurement is None and not finding.too_small


def _at(finding: Finding, point: Point) -> bool:
    """Whether a finding lies at this place, to the micrometre that files keep."""
    place = finding.point_lps_mm
    return place is not None and all(abs(a - b) < 1e-5 for a, b in zip(place, point, strict=True))
