"""Calipers: a drag in either view draws the long axis, the next one the short axis, and ends can be dragged.

Ends lie on the slice that is shown, in LPS mm, in double precision. napari's shapes would round their slice to whole
data units and their ends to float32, so that a length on an oblique scan were not exactly the distance in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from tapct_core.errors import UserError
from tapct_core.lesions.calipers import length_mm, perpendicular

from ...callbacks import living
from ...clicks import STILL_PIXELS
from ..form import attempt
from ..marking import SLICES_ONLY
from ..study import axes_edits

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QPushButton, QWidget

    from ..study.editor import StudyEditor
    from .axes import MeasuredAxes
    from .linked import LinkedView
    from .position import ScanView

GRAB_PIXELS = 9
"""How near to an end a press takes hold of it."""
FREE = "Control"
"""Held while drawing the short axis, it need not stand at right angles."""
NEXT = "Now the short axis: drag across. Held Ctrl: not at right angles."
HINT = "Drag along the longest diameter, then across it. Drag an end to correct it."


@dataclass
class Pending:
    """A long axis, LPS mm (2, 3), whose short one is still to come."""

    uid: str | None
    timepoint: str
    line: np.ndarray


class Calipers(QObject):
    """While ``button`` is down, drags in both views draw axes of the selected lesion; with none selected, a new one."""

    def __init__(
        self,
        editor: StudyEditor,
        linked: LinkedView,
        axes: MeasuredAxes,
        button: QPushButton,
        say: Callable[[str], None],
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self.editor, self._linked, self._axes, self._button, self._say = editor, linked, axes, button, say
        self.pending: Pending | None = None
        self._pans: list[bool] = []
        self._viewers = linked.session.viewer, linked.viewer_model
        self._drags = tuple(self._dragger(number) for number in (0, 1))
        for viewer, drag in zip(self._viewers, self._drags, strict=True):
            viewer.mouse_drag_callbacks.insert(0, drag)  # before a mark under the mouse takes hold of it
        button.setCheckable(True)
        button.toggled.connect(living(self._on_toggled))
        editor.selection_changed.connect(living(self._on_elsewhere))
        linked.closed.connect(living(self._on_closed))

    @property
    def on(self) -> bool:
        """Whether drags measure."""
        return self._button.isChecked()

    def _on_toggled(self, on: bool) -> None:
        cameras = [viewer.scene.camera for viewer in self._viewers]
        if on:
            self._pans = [camera.mouse_pan for camera in cameras]
        for camera, pan in zip(cameras, self._pans, strict=True):
            camera.mouse_pan = pan and not on
        self._forget()
        self._say(HINT if on else "")

    def _on_elsewhere(self, *_: object) -> None:
        if self.pending is not None and self.editor.selected != self.pending.uid:
            self._forget()

    def _on_closed(self) -> None:
        self._button.setChecked(False)
        for viewer, drag in zip(self._viewers, self._drags, strict=True):
            if drag in viewer.mouse_drag_callbacks:
                viewer.mouse_drag_callbacks.remove(drag)

    def _forget(self) -> None:
        if self.pending is not None:
            self.pending = None
            self._axes.refresh()

    # The mouse.

    def _dragger(self, number: int) -> Callable:
        begin, finish = living(self._begin), living(self._finish)

        def drag(viewer: ViewerModel, event: Any) -> Iterator[None]:
            hold = begin(number, event) if event.button == 1 else None
            if hold is None:
                return
            hold.move(event)
            event.handled = True
            yield
            while event.type == "mouse_move":
                hold.move(event)
                event.handled = True
                yield
            hold.move(event)
            event.handled = True
            finish(hold)

        return drag

    def _begin(self, number: int, event: Any) -> Hold | None:
        """What a press takes hold of: an end of the axes, or a new line."""
        view = (self._linked.first, self._linked.second)[number]
        timepoint = self._timepoint(number)
        if not self.on or view is None or timepoint is None:
            return None
        if view.viewer.dims.ndisplay != 2 or len(event.position) != 3:
            self._say(SLICES_ONLY)
            return None
        place = on_slice(view, event.position)
        lines = self._known(number, timepoint, view)
        for which, line in enumerate(lines):
            for end in (0, 1):
                away = (view.drawn(line[end]) - view.drawn(place)) * view.zoom
                if np.linalg.norm(away) <= GRAB_PIXELS:
                    return Hold(self._axes, number, view, timepoint, lines, which, end, waits=len(lines) == 1)
        waiting = lines if len(lines) == 1 else []
        line = np.stack([place, place])
        return Hold(self._axes, number, view, timepoint, [*waiting, line], len(waiting), 1, waits=not waiting)

    def _timepoint(self, number: int) -> str | None:
        return self.editor.timepoint_of((self._linked.session.active, self._linked.scan)[number])

    def _known(self, number: int, timepoint: str, view: ScanView) -> list[np.ndarray]:
        """The lines whose ends can be dragged, LPS mm: a long axis that waits, or the axes on the slice shown."""
        lesion, pending = self.editor.lesion, self.pending
        if pending is not None:
            return [pending.line] if pending.timepoint == timepoint and not self._off(view, pending.line) else []
        finding = lesion.findings.get(timepoint) if lesion is not None else None
        measured = finding.measurement if finding is not None and finding.present else None
        lines = [np.array(ends) for ends in (measured.long_axis_ends, measured.short_axis_ends)] if measured else []
        return [] if lines and self._off(view, lines[0]) else lines

    def _off(self, view: ScanView, line: np.ndarray) -> bool:
        return view.off_slice(view.drawn(line.mean(axis=0)))

    def _finish(self, hold: Hold) -> None:
        """What was drawn waits for its short axis, or goes into the study; a click alone draws nothing."""
        if length_mm(hold.lines[hold.which]) < 1e-6 or hold.still:
            self._axes.refresh()
            if self.pending is not None:
                self._axes.preview(hold.number, [self.pending.line])
            return
        scan = (self._linked.session.active, self._linked.scan)[hold.number]
        if hold.waits:
            self.pending = Pending(self.editor.selected, hold.timepoint, hold.lines[0])
            self._say(f"{length_mm(hold.lines[0]):.1f} mm. {NEXT}")
            return

        def keep() -> None:
            try:
                axes_edits.draw_axes(self.editor, hold.timepoint, scan.volume, hold.lines)
            except UserError:
                self._axes.refresh()
                raise
            finally:
                self.pending = None

        attempt(keep)
        self._say(HINT)


class Hold:
    """One drag: ``lines`` (LPS mm, each (2, 3)), of which one end moves with the mouse."""

    def __init__(
        self,
        axes: MeasuredAxes,
        number: int,
        view: ScanView,
        timepoint: str,
        lines: list[np.ndarray],
        which: int,
        end: int,
        waits: bool,
    ) -> None:
        self._axes, self.number, self._view, self.timepoint = axes, number, view, timepoint
        self.lines, self.which, self._end, self.waits = [np.array(line) for line in lines], which, end, waits
        self._anchor = np.array(self.lines[which])
        self._new_short = which == 1 and length_mm(self._anchor) == 0
        self.still = True
        self._start: np.ndarray | None = None

    def move(self, event: Any) -> None:
        """The end goes where the mouse is; a new short axis stands at right angles unless it is free."""
        if self._start is None:
            self._start = np.array(event.pos)
        if self.still and np.abs(np.array(event.pos) - self._start).max() < STILL_PIXELS:
            return
        self.still = False
        place = on_slice(self._view, event.position)
        line = np.array(self._anchor)
        line[self._end] = place
        turned = self._new_short and FREE not in event.modifiers
        self.lines[self.which] = perpendicular(self.lines[0], line) if turned else line
        self._axes.preview(self.number, self.lines)


def on_slice(view: ScanView, drawn: Any) -> np.ndarray:
    """LPS mm (3,) of a drawn place, in the middle of the slice that is shown."""
    index = np.array(view.layer.world_to_data(drawn), dtype=float)
    shown = np.array(view.layer.world_to_data(view.viewer.dims.point), dtype=float)
    hidden = list(view.viewer.dims.not_displayed)
    index[hidden] = np.clip(np.rint(shown[hidden]), 0, np.array(view.geometry.shape)[hidden] - 1)
    return view.geometry.to_world(index)

