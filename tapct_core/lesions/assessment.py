"""RECIST 1.1 through a study: sums of targets and response at each time point, from the lesions' findings."""

from __future__ import annotations

from dataclasses import dataclass

from .recist import Response, Target, check_targets, respond
from .study import ABSENT, Finding, Judgement, Lesion, Study


@dataclass(frozen=True)
class Assessment:
    """One follow-up. ``provisional`` while a finding it rests on is a proposal; ``objections`` to the targets.

    ``new_lesions`` are the names of those seen first after the baseline, up to here; ``non_target_progress`` is what a
    person has said of the non-targets here or before.
    """

    timepoint: str
    response: Response
    provisional: bool
    objections: tuple[str, ...] = ()
    new_lesions: tuple[str, ...] = ()
    non_target_progress: Judgement | None = None


def assess(study: Study, slice_mm: float = 0.0) -> list[Assessment]:
    """The follow-ups' responses, the first time point being the baseline.

    ``slice_mm`` is the baseline's slice spacing; above 5 mm, targets must be larger.
    A target that has split counts with all its parts, one that has merged into another measured one counts
    there (RECIST 1.1, appendix II). A new lesion and unequivocal progression of non-targets are progression at
    their own time point and ever after: a patient who has progressed does not come back to an earlier category.
    """
    if len(study.timepoints) < 2:
        return []
    names = [timepoint.name for timepoint in study.timepoints]
    targets = [lesion for lesion in study.lesions if lesion.role == "target"]
    others = [lesion for lesion in study.lesions if lesion.role == "non-target"]
    baseline = [_target(study, lesion, names[0]) for lesion in targets]
    known = [(t.name, t.organ, t.node, _measured(t.findings.get(names[0]))) for t in targets]
    objections = tuple(check_targets(known, slice_mm))
    out: list[Assessment] = []
    sums: list[float] = []
    for i, name in enumerate(names[1:], start=1):
        newcomers = [(lesion, _new_at(lesion, names[1 : i + 1])) for lesion in study.lesions]
        newcomers = [(lesion, found) for lesion, found in newcomers if found is not None]
        new = tuple(lesion.name for lesion, _ in newcomers)
        judged = next((t.non_target_progress for t in study.timepoints[1 : i + 1] if t.non_target_progress), None)
        response = respond(
            baseline,
            sums,
            [_target(study, lesion, name) for lesion in targets],
            new_lesions=new,
            non_targets_gone=all(_absent(o.findings.get(name)) for o in others) if others else None,
            non_target_progress=judged is not None,
        )
        if response.sum_mm is not None:
            sums.append(response.sum_mm)
        rests_on = [lesion.findings.get(name) for lesion in targets + others] + [found for _, found in newcomers]
        rests_on += [lesion.findings.get(names[0]) for lesion in targets]
        provisional = any(finding is not None and not finding.decided for finding in rests_on)
        out.append(Assessment(name, response, provisional, objections, new, judged))
    return out


def diameter_mm(lesion: Lesion, timepoint: str) -> float | None:
    """What RECIST reads of a lesion: long axis, short axis of a node, 0 when it is gone, None when not measured."""
    finding = lesion.findings.get(timepoint)
    if _absent(finding):
        return 0.0
    measured = _measured(finding)
    if measured is None:
        return None
    return measured.short_axis_mm if lesion.node else measured.long_axis_mm


def sum_mm(study: Study, timepoint: str) -> float | None:
    """Sum of the targets' diameters at a time point, mm; None where one of them was not measured."""
    targets = [_target(study, lesion, timepoint) for lesion in study.lesions if lesion.role == "target"]
    known = [target.diameter_mm for target in targets if target.diameter_mm is not None]
    return sum(known) if len(known) == len(targets) else None


def changes(study: Study, lesion: Lesion, timepoint: str) -> tuple[float | None, float | None]:
    """Per cent of the lesion's own diameter against its first and its smallest earlier one; None where not known."""
    names = [t.name for t in study.timepoints][: study.order(timepoint)]
    earlier = [d for d in (diameter_mm(lesion, name) for name in names) if d is not None]
    now = diameter_mm(lesion, timepoint)
    if now is None or not earlier:
        return None, None
    return tuple(100 * (now - of) / of if of else None for of in (earlier[0], min(earlier)))


def _target(study: Study, lesion: Lesion, timepoint: str) -> Target:
    finding = lesion.findings.get(timepoint)
    if finding is not None and finding.state == "merged" and _shared(study, finding, timepoint):
        return Target(0.0, lesion.node)
    total = diameter_mm(lesion, timepoint)
    for part in study.lesions:
        came = next((f for f in part.findings.values() if f.state == "split"), None)
        if part is lesion or came is None or lesion.uid not in came.related or timepoint not in part.findings:
            continue
        piece = diameter_mm(part, timepoint)
        total = None if piece is None or total is None else total + piece
    return Target(total, lesion.node)


def _shared(study: Study, finding: Finding, timepoint: str) -> bool:
    """Whether the lesion it merged into is a target that was measured at this time point, so that it counts there."""
    into = [lesion for lesion in study.lesions if lesion.uid in finding.related and lesion.role == "target"]
    return any(_measured(lesion.findings.get(timepoint)) is not None for lesion in into)


def _new_at(lesion: Lesion, follow_ups: list[str]) -> Finding | None:
    return next(
        (lesion.findings[n] for n in follow_ups if n in lesion.findings and lesion.findings[n].state == "new"), None
    )


def _absent(finding: Finding | None) -> bool:
    return finding is not None and finding.state in ABSENT


def _measured(finding: Finding | None):
    return None if finding is None or not finding.present else finding.measurement
