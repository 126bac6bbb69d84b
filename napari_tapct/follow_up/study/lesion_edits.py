"""What a person says of a lesion as a whole: its name, role, organ, whether it is a node, and that it goes."""

from __future__ import annotations

from tapct_core.lesions import ROLES, Lesion, Study
from tapct_core.lesions.states import State

from .editor import StudyEditor


def rename(editor: StudyEditor, lesion: Lesion, name: str) -> bool:
    """Another name; False, and nothing changed, for an empty one or the one it has."""
    name = name.strip()
    return bool(name) and _set(editor, lesion, "name", name, f"rename {lesion.name} to {name}")


def set_role(editor: StudyEditor, lesion: Lesion, role: str) -> bool:
    """ "target", "non-target" or ""; False, and nothing changed, for another word or the one it has."""
    return role in ROLES and _set(editor, lesion, "role", role, f"{lesion.name} {role or 'without a role'}")


def set_organ(editor: StudyEditor, lesion: Lesion, organ: str) -> bool:
    """The organ that it lies in, in words; False where it is the same."""
    return _set(editor, lesion, "organ", organ.strip(), f"organ of {lesion.name}")


def set_node(editor: StudyEditor, lesion: Lesion, node: bool) -> bool:
    """Whether it is a lymph node, of which RECIST reads the short axis; False where it is the same."""
    return _set(editor, lesion, "node", bool(node), f"{lesion.name} {'a' if node else 'no'} lymph node")


def set_comment(editor: StudyEditor, lesion: Lesion, timepoint: str, words: str) -> None:
    """What a reader wants to keep with a finding."""
    said = f"comment on {lesion.name} at {timepoint}"
    editor.do(said, lambda study: study.set_comment(lesion.uid, timepoint, words))


def relate(editor: StudyEditor, lesion: Lesion, timepoint: str, state: State, other: Lesion) -> None:
    """A lesion was split from another one ("split"), or has merged into it ("merged"), at a time point."""
    words = f"{lesion.name} {state} {'from' if state == 'split' else 'into'} {other.name} at {timepoint}"
    editor.do(words, lambda study: study.relate(lesion.uid, timepoint, state, other.uid, editor.reader))


def delete(editor: StudyEditor, lesion: Lesion) -> None:
    """Takes a lesion out of the study, from all time points."""

    def change(study: Study) -> None:
        study.lesions = [one for one in study.lesions if one.uid != lesion.uid]

    editor.do(f"delete {lesion.name}", change)


def _set(editor: StudyEditor, lesion: Lesion, field: str, value: object, words: str) -> bool:
    if getattr(editor.study.lesion(lesion.uid), field) == value:
        return False
    editor.do(words, lambda study: setattr(study.lesion(lesion.uid), field, value))
    return True
