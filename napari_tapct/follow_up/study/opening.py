"""Opening the scans that a study names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from tapct_core.errors import NeedsWord, UserError
from tapct_core.io import load_ct
from tapct_core.lesions import Timepoint
from tapct_core.lesions.timepoints import how_to_read

from ...layers import ct_image
from ...scans.asking import Asked

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume

    from ...jobs import Job
    from .editor import StudyEditor

Read = tuple[list[tuple[str, "CTVolume", tuple[float, float]]], list[str], list[tuple[str, Asked]]]
"""Scans that were read (time point, volume, lowest and highest HU), why others were not, and of which a person must
say how they are to be read."""


def closed(editor: StudyEditor) -> list[Timepoint]:
    """Time points whose scans are in a file and not open."""
    return [t for t in editor.study.timepoints if t.path and editor.scan_of(t.name) is None]


def read_scans(job: Job, timepoints: list[Timepoint]) -> Read:
    """Reads scans on a worker's thread. One that cannot be read keeps no other from being opened."""
    scans, notes, asked = [], [], []
    for number, timepoint in enumerate(timepoints):
        job.report(number, len(timepoints))
        if job.cancelled():
            break
        try:
            path = Path(timepoint.path)
            if not path.exists():
                raise UserError(f"{path} does not exist; put it back, or choose “Locate …” under Time points")
            volume = load_ct(path, **how_to_read(timepoint, path))
        except NeedsWord as error:
            asked.append((timepoint.name, Asked(path, error, timepoint.reading)))
            continue
        except (UserError, OSError) as error:
            notes.append(f"{timepoint.name}: {error}")
            continue
        scans.append((timepoint.name, volume, (float(volume.hu.min()), float(volume.hu.max()))))
    return scans, notes, asked


def add_scans(
    editor: StudyEditor,
    scans: list[tuple[str, CTVolume, tuple[float, float]]],
    then: Callable[[], object] = lambda: None,
) -> None:
    """Puts scans into the viewer, the first one shown, one in each turn of the event loop; ``then`` is called last."""
    viewer = editor.session.viewer
    if viewer is None:  # it was closed meanwhile
        return
    if not scans:
        then()
        return
    (name, volume, hu_range), later = scans[0], scans[1:]
    if name in [timepoint.name for timepoint in closed(editor)]:  # else another study came meanwhile
        layer = ct_image(volume, name, hu_range)
        layer.visible = editor.session.active is None
        viewer.add_layer(layer)
        if layer.visible:
            editor.session.show(editor.session.scan_of(layer))
    QTimer.singleShot(0, lambda: add_scans(editor, later, then))
