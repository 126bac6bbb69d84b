"""Axes that a person draws, and the way back to those of the mask, each as one step that can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tapct_core.errors import UserError
from tapct_core.lesions import Study, new_uid
from tapct_core.lesions.calipers import axes_of_mask, drawn_axes, set_axes

from .decisions import next_name

if TYPE_CHECKING:
    from tapct_core.lesions import Finding
    from tapct_core.lesions.recist import Measurement
    from tapct_core.volume import CTVolume

    from .editor import StudyEditor

BESIDE_MM = 5.0
"""A lesion whose place lies further beyond the ball of its long axis than this is moved to the axis."""


def draw_axes(editor: StudyEditor, timepoint: str, volume: CTVolume, lines: Sequence[np.ndarray]) -> None:
    """Two lines (each (2, 3) LPS mm) are the selected lesion's axes at a time point; without one, a new lesion's.

    A place that is not within the axes moves to their middle. Raises UserError for lines that are no axes.
    """
    lesion, reader = editor.lesion, editor.reader
    uid, name = (lesion.uid, lesion.name) if lesion is not None else (new_uid(), next_name(editor))
    finding = lesion.findings.get(timepoint) if lesion is not None else None
    measured = drawn_axes(volume, *lines)
    stays = _near(finding, measured)
    if stays and finding.mask is not None:
        measured = drawn_axes(volume, *lines, finding.mask)
    middle = tuple(np.mean(measured.long_axis_ends, axis=0).tolist())

    def change(study: Study) -> None:
        if lesion is None:
            study.add_lesion(name, timepoint, middle, reader, uid=uid)
        elif not stays:
            study.move(uid, timepoint, middle, reader)
        set_axes(study, uid, timepoint, measured, reader)

    editor.do(f"draw the axes of {name} at {timepoint}", change)
    if lesion is None:
        editor.select(uid)


def back_to_mask(editor: StudyEditor) -> None:
    """The selected lesion's axes at the compared time point are those that its mask measures again."""
    lesion, timepoint = editor.lesion, editor.timepoint
    finding = lesion.findings.get(timepoint or "") if lesion is not None else None
    volume = editor.volume_of(timepoint) if finding is not None else None
    if finding is None or finding.measurement is None or not finding.measurement.drawn or volume is None:
        raise UserError("the lesion that is selected has no drawn axes at the compared scan")
    words = f"axes of {lesion.name} at {timepoint} {'by its mask' if finding.mask is not None else 'removed'}"
    editor.do(words, lambda study: axes_of_mask(study, lesion.uid, timepoint, volume))


def _near(finding: Finding | None, measured: Measurement) -> bool:
    if finding is None or not finding.present:
        return False
    away = np.linalg.norm(np.array(finding.point_lps_mm) - np.mean(measured.long_axis_ends, axis=0))
    return bool(away <= measured.long_axis_mm / 2 + BESIDE_MM)
