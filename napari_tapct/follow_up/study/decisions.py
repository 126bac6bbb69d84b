"""What a person decides of the selected lesion at the compared time point, each as one step that can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapct_core.errors import UserError
from tapct_core.lesions import Candidate, Lesion
from tapct_core.lesions.propagation import to_verify

from ..proposals.finder import Point

if TYPE_CHECKING:
    from .editor import StudyBook


def mark(book: StudyBook, timepoint: str, point: Point) -> Lesion:
    """A new lesion at a place (LPS mm) of a scan, selected. At a later scan than the first it is a new lesion."""
    name = next_name(book)
    new = book.do(f"mark {name}", lambda study: study.add_lesion(name, timepoint, point, book.reader))
    book.select(new.uid)
    return new


def next_name(book: StudyBook) -> str:
    """L1, L2 …: the first that no lesion has."""
    taken = {lesion.name for lesion in book.study.lesions}
    return next(f"L{i}" for i in range(1, len(taken) + 2) if f"L{i}" not in taken)


def accept(book: StudyBook, chosen: Candidate | None = None) -> None:
    """The proposal is right, or the chosen candidate is: the lesion lies there. Raises UserError where nothing is."""
    lesion, timepoint = _current(book)
    finding = lesion.findings.get(timepoint)
    if chosen is not None and (finding is None or finding.point_lps_mm != chosen.point_lps_mm):
        place(book, chosen.point_lps_mm)
    elif finding is None:
        raise UserError(f"nothing was proposed for {lesion.name} at {timepoint}; place it, or say that it is gone")
    elif not finding.decided:
        words = f"accept {lesion.name} at {timepoint}"
        book.do(words, lambda study: study.accept(lesion.uid, timepoint, book.reader))


def place(book: StudyBook, point: Point) -> None:
    """The selected lesion lies at this place (LPS mm) of the compared scan."""
    lesion, timepoint = _current(book)
    book.do(f"move {lesion.name} at {timepoint}", lambda study: study.move(lesion.uid, timepoint, point, book.reader))


def not_present(book: StudyBook) -> None:
    """The selected lesion is not there at the compared time point."""
    lesion, timepoint = _current(book)
    words = f"{lesion.name} not present at {timepoint}"
    book.do(words, lambda study: study.not_present(lesion.uid, timepoint, book.reader))


def next_to_verify(book: StudyBook) -> tuple[str, str] | None:
    """The next (tracking UID, time point) of the review queue after what is shown, round and round."""
    queue = to_verify(book.study)
    if not queue:
        return None
    order = [(one.uid, t.name) for t in book.study.timepoints for one in book.study.lesions]
    here = (book.selected, book.timepoint)
    place_of = {key: i for i, key in enumerate(order)}
    start = place_of.get(here, -1)
    return min(queue, key=lambda key: (place_of[key] - start - 1) % len(order))


def _current(book: StudyBook) -> tuple[Lesion, str]:
    if book.lesion is None:
        raise UserError("select a lesion first: click it, or its row in the table")
    if book.timepoint is None:
        raise UserError("open a follow-up scan first")
    return book.lesion, book.timepoint
