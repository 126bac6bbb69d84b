"""What a person decides of the selected lesion at the compared time point, each as one step that can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapct_core.errors import UserError
from tapct_core.lesions import Candidate, Finding, Lesion, State, Study, states
from tapct_core.lesions.propagation import to_verify

from ..proposals.finder import Point

if TYPE_CHECKING:
    from .editor import StudyEditor


def mark(editor: StudyEditor, timepoint: str, point: Point) -> Lesion:
    """A new lesion at a place (LPS mm) of a scan, selected. At a later scan than the first it is a new lesion."""
    name = next_name(editor)
    new = editor.do(f"mark {name}", lambda study: study.add_lesion(name, timepoint, point, editor.reader))
    editor.select(new.uid)
    return new


def next_name(editor: StudyEditor) -> str:
    """L1, L2 …: the first that no lesion has."""
    taken = {lesion.name for lesion in editor.study.lesions}
    return next(f"L{i}" for i in range(1, len(taken) + 2) if f"L{i}" not in taken)


def accept(editor: StudyEditor, chosen: Candidate | None = None) -> None:
    """The proposal is right, or the chosen candidate is: the lesion lies there. Raises UserError where nothing is."""
    lesion, timepoint = _current(editor)
    finding = lesion.findings.get(timepoint)
    if chosen is not None and (finding is None or finding.point_lps_mm != chosen.point_lps_mm):
        place(editor, chosen.point_lps_mm)
    elif finding is None:
        raise UserError(f"nothing was proposed for {lesion.name} at {timepoint}; place it, or say that it is gone")
    elif finding.state == "disappeared" and not finding.decided and finding.gone_probability is None:
        raise UserError(
            "how sure it is that it has gone is not known; look, then say that it is not present, or place it"
        )
    elif not finding.decided:
        words = f"accept {lesion.name} at {timepoint}"
        editor.do(words, lambda study: study.accept(lesion.uid, timepoint, editor.reader))


def place(editor: StudyEditor, point: Point, timepoint: str = "") -> None:
    """The selected lesion lies at this place (LPS mm) of a time point, the compared one unless said otherwise."""
    lesion, compared = _current(editor)
    move(editor, lesion.uid, timepoint or compared, point)


def move(editor: StudyEditor, uid: str, timepoint: str, point: Point) -> None:
    """A lesion lies at this place (LPS mm) of a time point; a mask that it had elsewhere does not come along."""
    lesion = editor.study.lesion(uid)
    before = lesion.findings.get(timepoint)
    words = f"move {lesion.name} at {timepoint}"
    editor.do(words, lambda study: study.move(uid, timepoint, point, editor.reader))
    if before is not None and before.mask is not None:
        editor.mask_lost.emit(uid, timepoint, before.mask_by == "person")


def say(editor: StudyEditor, state: State) -> None:
    """A word for the selected lesion at the compared time point, one of :data:`~tapct_core.lesions.states.SAID`."""
    lesion, timepoint = _current(editor)
    words = f"{lesion.name} {state} at {timepoint}"
    editor.do(words, lambda study: study.say(lesion.uid, timepoint, state, editor.reader))


def can_be_said(state: State, finding: Finding | None) -> bool:
    """Whether a word would change a finding: it is not said yet, and where it speaks of a place there is one."""
    if finding is None:
        return state in states.ABSENT
    return finding.state != state and (state in states.ABSENT or finding.point_lps_mm is not None)


def confirm_measurement(editor: StudyEditor) -> None:
    """The doubtful axes of the selected lesion are right as they are drawn: they count from here on."""
    lesion, timepoint = _current(editor)
    words = f"confirm the axes of {lesion.name} at {timepoint}"
    editor.do(words, lambda study: study.confirm_measurement(lesion.uid, timepoint, editor.reader))


def too_small(editor: StudyEditor) -> None:
    """The selected lesion is there, and too small to be measured: RECIST counts 5 mm."""
    lesion, timepoint = _current(editor)
    words = f"{lesion.name} too small to measure at {timepoint}"
    editor.do(words, lambda study: study.too_small(lesion.uid, timepoint, editor.reader))


def queue(study: Study) -> list[tuple[str, str]]:
    """What waits for a person, in the order of time: findings that nobody has decided, and axes in doubt."""
    open_ = set(to_verify(study))
    return [
        (lesion.uid, timepoint.name)
        for timepoint in study.timepoints
        for lesion in study.lesions
        if (lesion.uid, timepoint.name) in open_ or _in_doubt(lesion.findings.get(timepoint.name))
    ]


def _in_doubt(finding: Finding | None) -> bool:
    return finding is not None and finding.present and finding.doubtful


def next_to_verify(editor: StudyEditor) -> tuple[str, str] | None:
    """The next (tracking UID, time point) of the review queue after what is shown, round and round."""
    waiting = queue(editor.study)
    if not waiting:
        return None
    order = [(one.uid, t.name) for t in editor.study.timepoints for one in editor.study.lesions]
    here = (editor.selected, editor.timepoint)
    place_of = {key: i for i, key in enumerate(order)}
    start = place_of.get(here, -1)
    return min(waiting, key=lambda key: (place_of[key] - start - 1) % len(order))


def _current(editor: StudyEditor) -> tuple[Lesion, str]:
    if editor.lesion is None:
        raise UserError("select a lesion first: click it, or its row in the table")
    if editor.timepoint is None:
        raise UserError("open a follow-up scan first")
    return editor.lesion, editor.timepoint
