"""Two time points side by side, linked in LPS mm: place, plane, zoom and window of one view are the other's.

The session's scan is in the viewer's own canvas, the compared follow-up in a second one. From a place in one to the
place in the other leads an affine motion: that of the match round the lesion, an offset that a person sets by hand
('Link from here'), or the scanner's own coordinates. Scans are drawn upright whatever their obliquity, so that only
the middle of the two views is exactly one place; the cross that follows the mouse is right everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget

from ...callbacks import weakly
from ...inner import keep_canvas_current
from ...scan import Scan
from ...session import Session
from .crosshair import Crosses
from .position import Brought, Motion, ScanView, as_scanned, events_of, show_same_plane
from .second_layers import SecondLayers, show_in_window
from .second_view import SecondModel, SecondView

if TYPE_CHECKING:
    from napari.qt import QtViewer

    from ..study.editor import StudyEditor

Way = Callable[[np.ndarray], np.ndarray]
Frame = Callable[["LinkedView"], tuple[QWidget, QWidget]]


class LinkedView:
    """The follow-up beside the viewer's scan. The second viewer keeps its layers while nobody sees it."""

    changed = Signal()
    """Another scan, another motion, linked or not, seen or not."""
    closed = Signal()
    """It is being closed for good: whoever draws in its views takes their layers away."""
    idle = Signal()
    """There is time to get ready a layer that another time point will need."""

    def __init__(self, session: Session, editor: StudyEditor, frame: Frame | None = None) -> None:
        """``frame`` makes what stands above and below the second canvas, whenever that is opened."""
        self.session, self.editor, self._frame = session, editor, frame or (lambda _: (QWidget(), QWidget()))
        self.viewer_model = SecondModel(session.viewer)
        self._layers = SecondLayers(self.viewer_model)
        self._panel: SecondView | None = None
        self._linked = True
        self._motions: dict[tuple[Scan, Scan], Motion] = {}
        self._quiet = False
        self._brought = Brought()
        self._crosses = Crosses(session.viewer, self.viewer_model)
        keep_canvas_current(self.viewer_model.layers, self._canvas)
        self._heard = [
            (session.scans_changed, self._on_scans),
            (editor.timepoint_changed, self._on_editor),
            (editor.changed, self._on_editor),
            *events_of(session.viewer, self._on_first, self._on_first_cursor, self._on_mouse_left),
            *events_of(self.viewer_model, self._on_second, self._on_second_cursor, self._on_mouse_left),
        ]
        for event, heard in self._heard:
            event.connect(heard)
        self._on_scans()

    # The second view as a widget.

    @property
    def shown(self) -> bool:
        """Whether the second view can be seen."""
        return self._panel is not None and self._panel.isVisible()

    def show(self) -> None:
        """Opens the second view beside the first canvas, or brings it back."""
        viewer = self.session.viewer
        if self._panel is None and viewer is not None:
            self._panel = panel = SecondView(self.viewer_model, *self._frame(self))
            panel.retired.connect(weakly(self._on_retired))
            panel.destroyed.connect(weakly(self._on_retired))
            panel.visibility_changed.connect(weakly(self._on_visibility))
            panel.idle.connect(weakly(self._get_ready))
            panel.dock(viewer)
        if self._panel is not None:
            self._panel.set_dock_visible(True)

    def hide(self) -> None:
        """Hides the second view; nothing of it is lost."""
        if self._panel is not None:
            self._panel.set_dock_visible(False)

    def close(self) -> None:
        """Closes the second view for good, with all that was drawn in it and for it."""
        self.closed.emit()
        for event, heard in self._heard:
            event.disconnect(heard)
        self._heard = []
        if self._panel is not None:
            self._panel.leave(self.session.viewer)
        self._crosses.remove()
        self._layers.conceal()
        self._layers.keep([])

    @property
    def qt_viewer(self) -> QtViewer | None:
        """napari's widget of the second view; None while it is closed."""
        return self._panel.qt_viewer if self._panel is not None else None

    def _canvas(self) -> QWidget | None:
        native = self._panel.qt_viewer.canvas.native if self._panel is not None else None
        return native if native is not None and isalive(native) else None

    # The link.

    @property
    def scan(self) -> Scan | None:
        """The follow-up in the second view; None while its scan is not open."""
        return self._layers.scan

    @property
    def linked(self) -> bool:
        """Whether one view follows the other."""
        return self._linked

    @linked.setter
    def linked(self, on: bool) -> None:
        if on != self._linked:
            self._linked = on
            self._crosses.hide()
            self.changed.emit()
            self.follow()

    @property
    def motion(self) -> Motion | None:
        """From the viewer's scan to the follow-up; None unless both are open, of the study and of one patient."""
        here, there = self.session.active, self.scan
        if here is None or there is None or self.why_not_linked:
            return None
        return self._motions.get((here, there)) or as_scanned(here.volume.geometry, there.volume.geometry)

    @property
    def why_not_linked(self) -> str:
        """Why the two scans that are shown must not be linked; "" where they may."""
        here = self.editor.timepoint_of(self.session.active)
        if here is None:
            return f"{self.session.active.name} is not of this study" if self.session.active is not None else ""
        return self.editor.of_different_patients(here, self.editor.timepoint)

    @property
    def by_hand(self) -> bool:
        """Whether a motion was set for the two scans that are shown."""
        return (self.session.active, self.scan) in self._motions

    def set_transform(self, affine: np.ndarray | None, words: str = "through the match") -> None:
        """Links the two scans that are shown by ``affine`` (4, 4), LPS mm to LPS mm; None: as they were scanned."""
        self._motions.pop((self.session.active, self.scan), None)
        if affine is not None:
            self._keep(Motion(np.array(affine, dtype=float), words))
        self.changed.emit()
        self.follow()

    def link_here(self) -> None:
        """Takes what the two views show now for one place: the offset that a person sets by hand."""
        motion, first, second = self.motion, self.first, self.second
        if motion is not None:
            x, y, z = second.focus - first.focus
            self._keep(motion.through(first.focus, second.focus, f"from here ({x:+.0f}, {y:+.0f}, {z:+.0f} mm)"))
            self._linked = True
            self.changed.emit()

    def to_follow_up(self, lps_mm: np.ndarray) -> np.ndarray:
        """A place of the viewer's scan in the follow-up, both LPS mm (3,). Both scans must be open."""
        return self.motion(lps_mm)

    def to_baseline(self, lps_mm: np.ndarray) -> np.ndarray:
        """A place of the follow-up in the viewer's scan, both LPS mm (3,). Both scans must be open."""
        return self.motion.back(lps_mm)

    def jump_to(self, lps_mm: np.ndarray) -> None:
        """Shows a place of the follow-up, LPS mm, while the viewer stays where it is; the link goes on from there."""
        first, second = self.first, self.second
        if second is None:
            return
        together = first is not None and self._linked
        with self._silence():
            second.look(lps_mm, first.zoom if together else None)
            if together:
                self._keep(self.motion.through(first.focus, lps_mm))
                self._brought.together(first, second)
        self.changed.emit()

    def show_in_second(self, lps_mm: np.ndarray) -> None:
        """Shows a place of the follow-up, LPS mm; the viewer goes along if the two are linked."""
        if self.second is not None:
            self.second.look(lps_mm)

    @property
    def first(self) -> ScanView | None:
        """The viewer's scan as it is drawn there."""
        scan, viewer = self.session.active, self.session.viewer
        return ScanView(viewer, scan.layer, scan.volume.geometry) if scan is not None and viewer is not None else None

    @property
    def second(self) -> ScanView | None:
        """The follow-up as it is drawn in the second view."""
        scan = self.scan
        return ScanView(self.viewer_model, self._layers.ct(scan), scan.volume.geometry) if scan is not None else None

    def follow(self) -> None:
        """Brings the second view to where the first one is, if they are linked."""
        self._brought.forget()
        self._on_first()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Several moves of the first view, or of what links the two, that the second one follows once, at the end."""
        with self._silence():
            yield
        self.follow()

    # Layers of the second view.

    def add_part(self, scan: Scan, role: str, layer: Layer) -> Layer:
        """Adds a layer that belongs to a time point to the second view, in place of the one it had in that role."""
        with self._silence():
            return self._layers.add(scan, role, layer)

    def remove_part(self, scan: Scan, role: str) -> None:
        """Removes a time point's layer in that role from the second view, if it has one."""
        self._layers.remove(scan, role)

    def part(self, scan: Scan, role: str) -> Layer | None:
        """A time point's layer in the second view."""
        return self._layers.part(scan, role)

    # What happens elsewhere.

    def _on_scans(self) -> None:
        scans = self.session.scans
        if self.scan not in scans:
            self._layers.conceal()
        self._layers.keep(scans)
        self._motions = {pair: motion for pair, motion in self._motions.items() if set(pair) <= set(scans)}
        for scan in scans:
            scan.layer.events.contrast_limits.connect(self._on_window)  # connecting again does nothing
        self._on_editor()
        self.changed.emit()
        self.follow()

    def _on_editor(self) -> None:
        scan = self.editor.scan_of(self.editor.timepoint)
        scan = scan if scan is not self.session.active else None  # nothing is compared with itself
        if scan is not self.scan:
            self._show(scan)
            self.changed.emit()
            self.follow()

    def _get_ready(self) -> None:
        """Makes one layer that another time point will need, so that switching to it takes no longer than back."""
        for scan in self.session.scans:
            if scan is not self.session.active and self._layers.part(scan, "ct") is None:
                with self._silence():
                    self._layers.ct(scan).events.contrast_limits.connect(self._on_window)
                return
        self.idle.emit()

    def _show(self, scan: Scan | None) -> None:
        place = self.second.focus if self.scan is not None else None
        with self._silence():
            self._layers.conceal()
            if scan is None:
                return
            self._layers.ct(scan).events.contrast_limits.connect(self._on_window)
            self._layers.scan = scan
            # The place first: a layer that is not seen yet is not sliced twice.
            if place is None:
                self.viewer_model.reset_view()
            if place is None or not scan.volume.geometry.contains(place):
                place = self.second.middle
            self.second.look(place)
            self._layers.reveal(scan)

    # One view follows the other.

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """What moves in here is moved by us, and nothing follows it."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    @property
    def _following(self) -> bool:
        return not self._quiet and self._linked and self.shown and self.motion is not None

    def _on_first(self, event: Any = None) -> None:
        if self._following:
            self._move(self.first, self.second, self.motion)

    def _on_second(self, event: Any = None) -> None:
        if self._following:
            self._move(self.second, self.first, self.motion.back)

    def _move(self, source: ScanView, target: ScanView, way: Way) -> None:
        with self._silence():
            show_same_plane(source.viewer, target.viewer)
            if not self._brought.still(source):
                target.look(way(source.focus), source.zoom)
                self._brought.together(source, target)

    def _keep(self, motion: Motion) -> None:
        pair = self.session.active, self.scan
        if None not in pair and pair[0] is not pair[1]:
            self._motions[pair] = motion

    def _on_window(self, event: Any) -> None:
        """A scan has one window in both views, and two linked scans have the same one."""
        if self._quiet:
            return
        layer = event.source
        scans = [scan for scan in self.session.scans if layer is scan.layer or layer is self._layers.part(scan, "ct")]
        if self._following and scans and scans[0] in (self.session.active, self.scan):
            scans = [self.session.active, self.scan]
        with self._silence():
            for scan in scans:
                for other in (scan.layer, self._layers.part(scan, "ct")):
                    if other is not None and other is not layer:
                        show_in_window(other, *layer.contrast_limits)

    def _on_first_cursor(self, event: Any) -> None:
        if self._following:
            self._point(self.first, self.second, self.motion)

    def _on_second_cursor(self, event: Any) -> None:
        if self._following:
            self._point(self.second, self.first, self.motion.back)

    def _point(self, source: ScanView, target: ScanView, way: Way) -> None:
        with self._silence():
            self._crosses.point(source, target, way)

    def _on_mouse_left(self, event: Any) -> None:
        if not event.value:
            self._crosses.hide()

    def _on_retired(self) -> None:
        if self._panel is not None:
            self._panel = None
            self._on_visibility()

    def _on_visibility(self) -> None:
        if not self.shown:
            self._crosses.hide()
        self.changed.emit()
        self.follow()
