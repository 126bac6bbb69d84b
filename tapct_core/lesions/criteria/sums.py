"""The frame that RECIST 1.1 set and others fill: a sum over targets against the baseline and the nadir, non-targets,
new lesions, and the memory of a complete response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..burden import (
    Assessment,
    Size,
    absent,
    appeared,
    assumed_small,
    axis,
    doubts,
    evaluated_whole,
    gone,
    gone_whole,
    non_targets_of,
    rests_on_proposals,
    small_axis,
    target_at,
    targets_of,
)
from ..recist import NEW_NODE_MM, NORMAL_NODE_MM, Thresholds, check_targets, respond
from ..study import Lesion, Study, Timepoint


@dataclass(frozen=True)
class Rules:
    """What one such criterion reads and asks for: of each measurement ``size``, of what is too small ``small``, of the
    sum ``thresholds``, and of a new lesion at least ``new_mm`` in long axis."""

    name: str
    size: Size = axis
    small: Callable[[bool], float] = small_axis
    thresholds: Thresholds = field(default_factory=Thresholds)
    new_mm: float = 0.0
    remark: str = ""


def walk(study: Study, slice_mm: float, rules: Rules) -> list[Assessment]:
    """The follow-ups' responses, the first time point being the baseline.

    A new lesion, what came back after a complete response, and unequivocal progression of non-targets are progression
    at their own time point and ever after: a patient who has progressed does not come back to an earlier category.
    """
    names = [timepoint.name for timepoint in study.timepoints]
    targets, others = targets_of(study), non_targets_of(study)
    readings = {name: [target_at(study, one, name, rules.size, rules.small) for one in targets] for name in names}
    objections = objections_to(study, slice_mm)
    out: list[Assessment] = []
    sums: list[float] = []
    back: list[str] = []
    for i, name in enumerate(names[1:], start=1):
        newcomers, remarks = new_lesions(study, name, rules.new_mm)
        returned, said = recurrences(study, name, out, targets, others)
        back += [one for one in returned if one not in back]
        judged = next((t.non_target_progress for t in study.timepoints[1 : i + 1] if t.non_target_progress), None)
        response = respond(
            readings[names[0]],
            sums,
            readings[name],
            new_lesions=[lesion.name for lesion in newcomers],
            non_targets_gone=non_targets_gone(study, others, name),
            non_targets_evaluated=all(evaluated_whole(study, one, name) for one in others),
            non_target_progress=judged is not None,
            recurrences=back,
            responded=any(one.response.category in ("CR", "PR") for one in out),
            thresholds=rules.thresholds,
        )
        if response.total is not None:
            sums.append(response.total)
        remarks += said + doubts(study, targets + others, name) + ([rules.remark] if rules.remark else [])
        new = tuple(lesion.name for lesion in newcomers)
        open_ = provisional(study, targets + others, targets, newcomers, name)
        asks = bool(returned) or bool(small_new_nodes(study, newcomers, name))
        out.append(Assessment(name, response, open_, objections, new, judged, rules.name, tuple(remarks), asks))
    return out


def non_targets_gone(study: Study, others: list[Lesion], name: str) -> bool | None:
    """Whether all non-targets that were looked at are gone at a time point; None where there are none."""
    if not others:
        return None
    return all(gone_whole(study, one, name) or not evaluated_whole(study, one, name) for one in others)


def total_of(study: Study, timepoint: str, rules: Rules) -> float | None:
    """The sum over targets at a time point; None where one of them was not measured."""
    readings = [target_at(study, one, timepoint, rules.size, rules.small).diameter_mm for one in targets_of(study)]
    return None if any(size is None for size in readings) else sum(readings)


def objections_to(study: Study, slice_mm: float) -> tuple[str, ...]:
    """What RECIST 1.1 would object to in the choice of targets, in words."""
    first = study.timepoints[0].name
    targets = [
        (t.name, t.organ, t.node, found.counted if (found := t.findings.get(first)) is not None else None)
        for t in targets_of(study)
    ]
    known = [(one.name, one.findings.get(first)) for one in non_targets_of(study) if one.node]
    normal = [
        f"{name}: short axis {found.counted.short_axis_mm:.1f} mm; a node below {NORMAL_NODE_MM:.0f} mm is normal"
        for name, found in known
        if found is not None and found.counted is not None and found.counted.short_axis_mm < NORMAL_NODE_MM
    ]
    late = [one.name for one in study.lesions if one.role in ("target", "non-target") and appeared(study, one)]
    return (
        *check_targets(targets, slice_mm),
        *normal,
        *(f"{name}: not there at baseline, so it counts as new" for name in late),
    )


def new_lesions(study: Study, name: str, least_mm: float) -> tuple[list[Lesion], list[str]]:
    """The lesions that are new by this time point, and what is to be said of them.

    A node below 10 mm in short axis is normal and not recorded; one of 10 to 15 mm may wait for the next scan where it
    is all there is of progression, and that is a person's word (EORTC, questions and answers).
    """
    found, remarks = [], []
    here = study.order(name)
    for lesion in study.lesions:
        came = appeared(study, lesion)
        if came is None or study.order(came) > here:
            continue
        largest = _largest(study, lesion, study.timepoints[study.order(came) : here + 1])
        limit = NORMAL_NODE_MM if lesion.node else least_mm
        waits = bool(small_new_nodes(study, [lesion], name))
        if largest is not None and largest < limit:
            remarks.append(f"{lesion.name}: {largest:.1f} mm, below {limit:.0f} mm, and not counted as new")
        elif waits and any(t.no_recurrence for t in study.timepoints[study.order(came) : here + 1]):
            remarks.append(
                f"{lesion.name}: a new node of {largest:.1f} mm; a person says that it is no progression yet"
            )
        else:
            found.append(lesion)
            if waits:
                remarks.append(
                    f"{lesion.name}: a new node of {largest:.1f} mm; below {NEW_NODE_MM:.0f} mm, and where nothing "
                    "else has progressed, it had better be looked at again before it counts: a person may say so"
                )
    return found, remarks


def small_new_nodes(study: Study, new: list[Lesion], name: str) -> list[Lesion]:
    """Of the new lesions those nodes that stay below 15 mm up to a time point, which a person may let wait."""
    found = []
    for lesion in new:
        since = study.timepoints[study.order(appeared(study, lesion)) : study.order(name) + 1]
        largest = _largest(study, lesion, since)
        if lesion.node and largest is not None and largest < NEW_NODE_MM:
            found.append(lesion)
    return found


def recurrences(
    study: Study, name: str, before: Sequence[Assessment], targets: list[Lesion], others: list[Lesion]
) -> tuple[list[str], list[str]]:
    """Names of what is back after a complete response at the assessment before, and what is to be said of it.

    The reading taken (EORTC, questions and answers): what disappears and reappears is progression only after a complete
    response of the patient; a target node is back from 10 mm on, a non-target node only by a person's word.
    """
    known = [one for one in before if one.response.category != "NE"]
    if not known or known[-1].response.category not in ("CR", "iCR"):
        return [], _reappeared(study, name, targets)
    back = [one for one in targets if _there(one, name) and not gone(one, name)]
    back += [one for one in others if _there(one, name) and not one.node]
    if not back:
        return [], []
    names, since = [one.name for one in back], known[-1].timepoint
    judged = study.timepoints[study.order(name)].no_recurrence
    if judged is not None:
        return [], [f"{', '.join(names)} back after the complete response at {since}: no progression, says {judged.by}"]
    words = (
        f"{', '.join(names)} back after the complete response at {since}: progression where that response was definite"
    )
    return names, [words + "; a person may say that it is none"]


def provisional(study: Study, lesions: list[Lesion], targets: list[Lesion], new: list[Lesion], name: str) -> bool:
    """Whether the assessment rests on what nobody has decided, or on a size that was assumed."""
    found = [lesion.findings.get(name) for lesion in lesions]
    found += [lesion.findings.get(study.timepoints[0].name) for lesion in targets]
    found += [lesion.findings.get(appeared(study, lesion) or "") for lesion in new]
    return rests_on_proposals(found) or any(assumed_small(lesion.findings.get(name)) for lesion in targets)


def _reappeared(study: Study, name: str, targets: list[Lesion]) -> list[str]:
    """Targets that had gone while others had not: they count in the sum, and that is said."""
    earlier = study.timepoints[: study.order(name)]
    last = {one.name: next((t.name for t in reversed(earlier) if t.name in one.findings), "") for one in targets}
    names = [one.name for one in targets if _there(one, name) and absent(one.findings.get(last[one.name]))]
    return [f"{', '.join(names)} had gone and is back: counted in the sum, no progression by itself"] if names else []


def _there(lesion: Lesion, name: str) -> bool:
    finding = lesion.findings.get(name)
    return finding is not None and finding.present


def _largest(study: Study, lesion: Lesion, timepoints: list[Timepoint]) -> float | None:
    """The largest axis (of a node the short one) in these time points, None where it was never measured."""
    found = [lesion.findings.get(timepoint.name) for timepoint in timepoints]
    sizes = [axis(one.counted, lesion.node) for one in found if one is not None and one.counted is not None]
    return max(sizes, default=None)
