"""Marking lesions with the mouse: where a click lies in the patient, and what a mark in a later scan is to mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QMenu, QPushButton, QWidget

from tapct_core.errors import UserError

from ..callbacks import living
from ..clicks import clicker
from ..session import Session
from .form import attempt
from .study import decisions

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from .study.decisions import Point
    from .study.editor import StudyEditor
    from .views.lesion_points import LesionPoints
    from .views.linked import LinkedView
    from .views.position import ScanView

SLICES_ONLY = "a click in 3D has no depth; show slices (napari's 2D/3D button, Ctrl-Y) and click there"


class Marking(QObject):
    """While ``button`` is down, a click in either view marks a lesion; on a lesion's own mark it selects that.

    In the earliest scan a mark is a lesion's first. In a later one it is asked what is meant: a lesion that was not
    there before counts as progression.
    """

    def __init__(
        self,
        session: Session,
        editor: StudyEditor,
        linked: LinkedView,
        points: LesionPoints,
        button: QPushButton,
        say: Callable[[str], None],
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self.session, self.editor, self.linked, self.points = session, editor, linked, points
        self._button, self._say, self._parent = button, say, parent
        self.menu: QMenu | None = None
        """The question, while it is asked."""
        self._clicks = clicker(living(self._on_first)), clicker(living(self._on_second))
        for viewer, click in zip((session.viewer, linked.viewer_model), self._clicks, strict=True):
            viewer.mouse_drag_callbacks.append(click)

    def _on_first(self, drawn: tuple[float, ...]) -> None:
        timepoint = self.editor.timepoint_of(self.session.active)
        attempt(lambda: self._clicked(self.session.viewer, self.linked.first, timepoint, drawn))

    def _on_second(self, drawn: tuple[float, ...]) -> None:
        view = self.linked.second
        attempt(lambda: self._clicked(self.linked.viewer_model, view, self.editor.timepoint, drawn))

    def _clicked(self, viewer: ViewerModel, view: ScanView | None, timepoint: str | None, drawn: tuple) -> None:
        busy = str(getattr(viewer.layers.selection.active, "mode", "pan_zoom")) != "pan_zoom"
        if not self._button.isChecked() or busy or view is None:
            return
        if timepoint is None:
            raise UserError("this scan is not of the study; add it under 'Time points', or close it")
        if viewer.dims.ndisplay != 2 or len(drawn) != 3:
            raise UserError(SLICES_ONLY)
        if self.points.uid_at(viewer, drawn) is not None:
            return
        place = view.lps_mm(drawn)
        if not view.geometry.contains(place):
            self._say("That is outside the scan.")
            return
        point = tuple(place.tolist())
        if self.editor.study.order(timepoint) == 0:
            decisions.mark(self.editor, timepoint, point)
        else:
            self._ask(timepoint, point)

    def _ask(self, timepoint: str, point: Point) -> None:
        """What a mark in a later scan is to mean. Escape, or a click elsewhere, means nothing."""
        editor = self.editor
        before = editor.study.timepoints[editor.study.order(timepoint) - 1].name
        menu = self.menu = QMenu(self._parent)
        menu.addAction(f"A lesion at {timepoint}:").setEnabled(False)
        menu.addSeparator()
        menu.addAction(f"New: it was not there at {before}", lambda: decisions.mark(editor, timepoint, point))
        lesion = editor.lesion
        known = lesion.findings.get(timepoint) if lesion is not None else None
        if lesion is not None and not (known is not None and known.decided and known.present):
            words = f"It is {lesion.name}, which is selected"
            menu.addAction(words, lambda: decisions.place(editor, point, timepoint))
        menu.addAction(f"It was there before: I mark it at {before} first", lambda: self._show_before(timepoint, point))
        menu.addAction("Nothing")
        menu.aboutToHide.connect(menu.deleteLater)
        menu.destroyed.connect(self._on_answered)
        menu.popup(QCursor.pos())

    def _on_answered(self, *_: object) -> None:
        self.menu = None

    def _show_before(self, timepoint: str, point: Point) -> None:
        """The scan before on the left, at the place that answers to the mark."""
        editor = self.editor
        scan = editor.scan_of(editor.study.timepoints[editor.study.order(timepoint) - 1].name)
        if scan is None:
            raise UserError("the scan before is not open; open it under 'Time points'")
        if editor.timepoint != timepoint:
            editor.set_timepoint(timepoint)
        if self.session.active is not scan:
            self.session.show(scan)
        if self.linked.motion is not None:
            self.linked.first.look(self.linked.to_baseline(np.array(point)))
        self._say("Click it on the left, in the scan before.")

    def at_mouse(self) -> Point:
        """LPS mm under the mouse in the compared scan's view, if it was there last, else in the view's middle."""
        alone = self.editor.scan_of(self.editor.timepoint) is self.session.active
        view = self.linked.first if alone else self.linked.second
        if view is None or self.session.active is None:
            raise UserError("the follow-up's scan is not open")
        if view.viewer.dims.ndisplay != 2:
            raise UserError(SLICES_ONLY)
        cursor = np.array(view.viewer.cursor.position)
        place = view.lps_mm(cursor)
        if not view.geometry.contains(place) or view.off_slice(cursor):
            place = view.focus
        return tuple(float(c) for c in place)
