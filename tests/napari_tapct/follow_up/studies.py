"""The core's study of four scans, in a book."""

from __future__ import annotations

from napari.components import ViewerModel

from napari_tapct.follow_up.study.editor import StudyBook
from napari_tapct.session import Session
from tapct_core.volume import CTVolume
from tests.tapct_core.studies import study_and_volumes


def book_with_study() -> tuple[ViewerModel, StudyBook, dict[str, CTVolume]]:
    """A book whose viewer has no window, and the study's volumes; the caller keeps the viewer, a session does not."""
    study, volumes = study_and_volumes()
    viewer = ViewerModel()
    book = StudyBook(Session(viewer))
    book.reader = "AB"
    book.begin(study)
    return viewer, book, volumes
