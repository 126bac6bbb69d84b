"""The core's study of four scans, in an editor."""

from __future__ import annotations

from napari.components import ViewerModel

from napari_tapct.follow_up.study.editor import StudyEditor
from napari_tapct.session import Session
from tapct_core.volume import CTVolume
from tests.tapct_core.studies import study_and_volumes


def editor_with_study() -> tuple[ViewerModel, StudyEditor, dict[str, CTVolume]]:
    """An editor without a window, and the study's volumes; the caller keeps the viewer, a session does not."""
    study, volumes = study_and_volumes()
    viewer = ViewerModel()
    editor = StudyEditor(Session(viewer))
    editor.reader = "AB"
    editor.begin(study)
    return viewer, editor, volumes
