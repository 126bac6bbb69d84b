"""Opening the scans that a study names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tapct_core.errors import UserError
from tapct_core.io import load_ct
from tapct_core.lesions import Timepoint

from ...layers import ct_image

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume

    from ...jobs import Job
    from .editor import StudyEditor

Read = tuple[list[tuple[str, "CTVolume", tuple[float, float]]], list[str]]
"""Scans that were read (time point, volume, lowest and highest HU), and why others were not."""


def closed(editor: StudyEditor) -> list[Timepoint]:
    """Time points whose scans are in a file and not open."""
    return [t for t in editor.study.timepoints if t.path and editor.scan_of(t.name) is None]


def read_scans(job: Job, timepoints: list[Timepoint]) -> Read:
    """Reads scans on a worker's thread. One that cannot be read keeps no other from being opened."""
    scans, notes = [], []
    for number, timepoint in enumerate(timepoints):
        job.report(number, len(timepoints))
        if job.cancelled():
            break
        try:
            path = Path(timepoint.path)
            if not path.exists():
                raise UserError(f"{path} does not exist; put it back, or choose “Locate …” under Time points")
            volume = load_ct(path, series=timepoint.series_uid or None) if path.is_dir() else load_ct(path)
        except (UserError, OSError) as error:
            notes.append(f"{timepoint.name}: {error}")
            continue
        scans.append((timepoint.name, volume, (float(volume.hu.min()), float(volume.hu.max()))))
    return scans, notes


def add_scans(editor: StudyEditor, scans: list[tuple[str, CTVolume, tuple[float, float]]]) -> None:
    """Puts scans into the viewer, the first one shown; on the interface thread."""
    viewer = editor.session.viewer
    shown = editor.session.active
    for name, volume, hu_range in scans:
        layer = ct_image(volume, name, hu_range)
        layer.visible = shown is None
        viewer.add_layer(layer)
        shown = shown or editor.session.scan_of(layer)
    if shown is not None:
        editor.session.show(shown)
