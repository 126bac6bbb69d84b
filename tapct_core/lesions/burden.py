"""What a study's findings say of the tumour burden at one time point: sizes, and who is gone, new, or back.

Read by the criteria; nothing here knows a threshold of response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .finding import Finding
from .recist import NORMAL_NODE_MM, TOO_SMALL_MM, Measurement, Response, Target
from .states import ABSENT
from .study import RECIST, Judgement, Lesion, Study

Size = Callable[[Measurement, bool], float]
"""What is read of a measurement; the flag says that the lesion is a node."""


@dataclass(frozen=True)
class Assessment:
    """One follow-up. ``provisional`` while a finding it rests on is a proposal; ``objections`` to the targets.

    ``new_lesions`` are the names of those seen first after the baseline, up to here; ``non_target_progress`` is what a
    person has said of the non-targets here or before. ``remarks`` say what a reader should look at before the category
    is believed: measurements that are doubtful or were assumed, readings of the criterion that a person may overrule.
    """

    timepoint: str
    response: Response
    provisional: bool
    objections: tuple[str, ...] = ()
    new_lesions: tuple[str, ...] = ()
    non_target_progress: Judgement | None = None
    criterion: str = RECIST
    remarks: tuple[str, ...] = field(default=())
    asks_of_recurrence: bool = False
    """Whether a person may say that what is back, or a new small node, is no progression here."""


def axis(measured: Measurement, node: bool) -> float:
    """What RECIST reads, mm: the long axis, of a node the short one."""
    return measured.short_axis_mm if node else measured.long_axis_mm


def small_axis(node: bool) -> float:
    """The axis that counts for what is too small to measure, mm."""
    return TOO_SMALL_MM


def absent(finding: Finding | None) -> bool:
    """Whether it is said, or proposed, that there is nothing."""
    return finding is not None and finding.state in ABSENT


def evaluated(finding: Finding | None) -> bool:
    """Whether the lesion was looked at and found to be there or not."""
    return finding is not None and (absent(finding) or finding.present)


def assumed_small(finding: Finding | None) -> bool:
    """Whether a person has accepted it by hand as there and nothing measures it: RECIST counts it as too small to
    measure. What a program placed, and nobody has measured yet, is not."""
    return (
        finding is not None
        and finding.decided
        and finding.state == "accepted"
        and finding.present
        and finding.measurement is None
        and not (finding.too_small or finding.inputs or finding.candidates)
    )


def size_of(finding: Finding | None, node: bool, size: Size, small: float) -> float | None:
    """A lesion's size, 0 when it is gone, ``small`` when a person says that it is too small; None: not measured."""
    if absent(finding):
        return 0.0
    if finding is None or not finding.present:
        return None
    if finding.too_small:
        return small
    return None if finding.counted is None else size(finding.counted, node)


def diameter_mm(lesion: Lesion, timepoint: str) -> float | None:
    """What RECIST reads of a lesion: long axis, short axis of a node, 0 when it is gone, None when not measured."""
    return size_of(lesion.findings.get(timepoint), lesion.node, axis, TOO_SMALL_MM)


def changes(study: Study, lesion: Lesion, timepoint: str) -> tuple[float | None, float | None]:
    """Per cent of the lesion's own diameter against its first and its smallest earlier one; None where not known."""
    names = [t.name for t in study.timepoints][: study.order(timepoint)]
    earlier = [d for d in (diameter_mm(lesion, name) for name in names) if d is not None]
    now = diameter_mm(lesion, timepoint)
    if now is None or not earlier:
        return None, None
    return tuple(100 * (now - of) / of if of else None for of in (earlier[0], min(earlier)))


def targets_of(study: Study) -> list[Lesion]:
    """The targets: what appeared after the baseline is none, whatever its role says."""
    return [lesion for lesion in study.lesions if lesion.role == "target" and appeared(study, lesion) is None]


def non_targets_of(study: Study) -> list[Lesion]:
    """The non-targets of the baseline."""
    return [lesion for lesion in study.lesions if lesion.role == "non-target" and appeared(study, lesion) is None]


def appeared(study: Study, lesion: Lesion) -> str | None:
    """The follow-up at which a lesion was seen first; None for those of the baseline, for parts and for open marks.

    A new lesion whose mark a person moves is new all the same.
    """
    for order, timepoint in enumerate(study.timepoints):
        finding = lesion.findings.get(timepoint.name)
        if finding is None or absent(finding):
            continue
        if order == 0:
            return None
        if finding.state == "new" or (finding.decided and finding.present and finding.state in ("accepted", "moved")):
            return timepoint.name
        return None
    return None


def part_of(lesion: Lesion) -> tuple[str, tuple[str, ...]] | None:
    """Where a lesion was split from others: the time point and their tracking UIDs."""
    return next(((name, f.related) for name, f in lesion.findings.items() if f.state == "split"), None)


def target_at(study: Study, lesion: Lesion, timepoint: str, size: Size, small: Callable[[bool], float]) -> Target:
    """A target with all its parts; 0 for one that has merged into another, which counts for both."""
    finding, merged = lesion.findings.get(timepoint), merged_into(study, lesion, timepoint)
    if any(one.role == "target" and _counts(one, timepoint) for one in merged):
        return Target(0.0, lesion.node, True)
    node = lesion.node
    total = size_of(finding, node, size, small(node))
    if total is None and assumed_small(finding) and study.order(timepoint) > 0:
        total = small(node)
    parts = parts_of(study, lesion, timepoint)
    for part in parts:
        piece = size_of(part.findings.get(timepoint), node, size, small(node))
        total = None if piece is None or total is None else total + piece
    return Target(total, node, gone(lesion, timepoint) and all(gone(part, timepoint) for part in parts))


def parts_of(study: Study, lesion: Lesion, timepoint: str) -> list[Lesion]:
    """The lesions that have been split from this one by a time point."""
    return [one for one in study.lesions if one is not lesion and _comes_from(study, one, lesion, timepoint)]


def merged_into(study: Study, lesion: Lesion, timepoint: str) -> list[Lesion]:
    """The lesions with which this one is one at a time point; none where it stands for itself.

    What has merged stays so at later scans, until a person puts it elsewhere or says that it was split off again.
    """
    related: tuple[str, ...] = ()
    for name in [t.name for t in study.timepoints][: study.order(timepoint) + 1]:
        finding = lesion.findings.get(name)
        if finding is not None and finding.state == "merged":
            related = finding.related
        elif finding is not None and finding.state in ("moved", "split", *ABSENT):
            related = ()
    return [one for one in study.lesions if one.uid in related and one is not lesion]


def gone_whole(study: Study, lesion: Lesion, timepoint: str) -> bool:
    """:func:`gone` of a lesion with all that was split from it; of one that has merged, of what it merged into."""
    merged = merged_into(study, lesion, timepoint)
    if merged:
        return all(gone(one, timepoint) for one in merged)
    return all(gone(one, timepoint) for one in (lesion, *parts_of(study, lesion, timepoint)))


def evaluated_whole(study: Study, lesion: Lesion, timepoint: str) -> bool:
    """:func:`evaluated` in the same sense."""
    whole = merged_into(study, lesion, timepoint) or [lesion, *parts_of(study, lesion, timepoint)]
    return all(evaluated(one.findings.get(timepoint)) for one in whole)


def gone(lesion: Lesion, timepoint: str) -> bool:
    """Whether a lesion is gone at a time point, or a node that is normal: below 10 mm in short axis."""
    finding = lesion.findings.get(timepoint)
    if absent(finding):
        return True
    if finding is None or not lesion.node or not finding.present:
        return False
    if finding.too_small:
        return True
    return finding.counted is not None and finding.counted.short_axis_mm < NORMAL_NODE_MM


def rests_on_proposals(findings: Sequence[Finding | None]) -> bool:
    """Whether one of the findings is not a person's."""
    return any(finding is not None and not finding.decided for finding in findings)


def doubts(study: Study, lesions: Sequence[Lesion], timepoint: str) -> list[str]:
    """What was not counted, or was assumed, at a time point, in words."""
    out = []
    for lesion in lesions:
        finding = lesion.findings.get(timepoint)
        if finding is not None and finding.present and finding.doubtful:
            why = f" ({'; '.join(finding.plausibility.doubts)})" if finding.plausibility.doubts else ""
            out.append(f"{lesion.name}: its measurement is doubtful{why}; it counts once a person confirms it")
        elif lesion.role == "target" and study.order(timepoint) > 0 and assumed_small(finding):
            out.append(
                f"{lesion.name}: there, but not measured; counted as too small to measure ({TOO_SMALL_MM:.0f} mm)"
            )
    return out


def _comes_from(study: Study, part: Lesion, lesion: Lesion, timepoint: str) -> bool:
    """Whether ``part`` has been split from ``lesion`` by this time point."""
    came = part_of(part)
    return came is not None and lesion.uid in came[1] and study.order(came[0]) <= study.order(timepoint)


def _counts(lesion: Lesion, timepoint: str) -> bool:
    """Whether a lesion has a size at a time point: measured, too small to be measured, or gone."""
    found = lesion.findings.get(timepoint)
    return found is not None and (absent(found) or found.too_small or found.counted is not None)
