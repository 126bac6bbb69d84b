"""Lesions as marks in both views: a click selects, a drag corrects. Hollow: nobody has decided yet.

Marks fade with the distance of their slice. They are the plugin's to move, not napari's: a drag moves the mark to the
slice that is shown, is one step that can be undone, and pans the view wherever it does not begin on a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.notifications import show_warning

from tapct_core.errors import UserError
from tapct_core.lesions import Finding, Lesion

from ...clicks import STILL_PIXELS
from ...session import Session
from ..study import decisions
from ..table.palette import Palette
from .marks import METRE, marks_layer, to_data

if TYPE_CHECKING:
    from ..study.editor import StudyEditor
    from .linked import LinkedView
    from .position import ScanView

NAME = "lesions"
SIZE_MM, SELECTED_MM = 12.0, 16.0
NAMES = "#2f8fd6"
"""Read on black lung, on tissue that the lung window makes white, and on the heat map."""
BESIDE = (0.0, 0.0, (SELECTED_MM / 2 + 1) / METRE)
"""From a mark's middle to its name, so that the name does not lie on the lesion."""
LINE, SELECTED_LINE = 0.09, 0.14
"""Width of a mark's line as a share of its size."""
REACH_MM = 9.0
"""A mark is seen on slices up to this far from its own, smaller and smaller, down to FAR of its size."""
FAR = 0.4
GRAB_PIXELS = 6.0
"""A press this near to a mark's edge is on the mark."""
DECIDED, OPEN = "disc", "diamond"


@dataclass
class Side:
    """The marks in one view: its layer, and lesion and place (drawn mm) of each row."""

    viewer: ViewerModel
    view: Callable[[], ScanView | None]
    timepoint: Callable[[], str | None]
    layer: Points | None = None
    uids: list[str] = field(default_factory=list)
    places: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    look: dict[str, Any] = field(default_factory=dict)
    """What the layer was given last."""


class LesionPoints:
    """The study's lesions in the viewer and in the second view, each at the time point that is shown there."""

    def __init__(self, session: Session, editor: StudyEditor, linked: LinkedView) -> None:
        self.editor, self.linked = editor, linked
        self._sides = (
            Side(session.viewer, lambda: linked.first, lambda: editor.timepoint_of(session.active)),
            Side(linked.viewer_model, lambda: linked.second, lambda: editor.timepoint_of(linked.scan)),
        )
        self._refreshing = False
        signals = (editor.changed, editor.selection_changed, editor.timepoint_changed, session.scans_changed)
        self._heard = [(signal, self.refresh) for signal in signals]
        for side, on_slice in zip(self._sides, (self._fade_first, self._fade_second), strict=True):
            self._heard += [(side.viewer.dims.events.point, on_slice), (side.viewer.dims.events.order, on_slice)]
        for event, heard in self._heard:
            event.connect(heard)
        self._drags = [_dragger(number, WeakMethod(self._grab), WeakMethod(self._release)) for number in (0, 1)]
        for side, drag in zip(self._sides, self._drags, strict=True):
            side.viewer.mouse_drag_callbacks.append(drag)
        linked.closed.connect(self.close)
        self.refresh()

    def close(self) -> None:
        """Takes the marks away for good."""
        for event, heard in self._heard:
            event.disconnect(heard)
        for side, drag in zip(self._sides, self._drags, strict=True):
            side.viewer.mouse_drag_callbacks.remove(drag)
            if side.layer is not None and side.layer in side.viewer.layers:
                side.viewer.layers.remove(side.layer)
            side.layer, side.uids = None, []
        self._heard, self._drags = [], []

    def layer(self, viewer: ViewerModel) -> Points | None:
        """The marks' layer in one of the two viewers; None while there was nothing to mark."""
        return self._side(viewer).layer

    def uid_at(self, viewer: ViewerModel, drawn: tuple[float, ...]) -> str | None:
        """Tracking UID of the lesion whose mark is seen at a drawn position of one of the two viewers."""
        side = self._side(viewer)
        if not side.uids or side.layer is None or not side.layer.visible or len(drawn) != 3:
            return None
        shown = list(viewer.dims.displayed)
        away = np.linalg.norm((side.places - np.asarray(drawn))[:, shown], axis=1)
        beyond = away - METRE * side.layer.size / 2
        beyond[~side.layer.shown] = np.inf
        row = int(np.argmin(beyond))
        return side.uids[row] if beyond[row] <= GRAB_PIXELS / viewer.scene.camera.zoom else None

    def refresh(self, *_: object) -> None:
        """Draws what the study says."""
        if self._refreshing:
            return
        self._refreshing = True
        try:
            for side in self._sides:
                self._draw(side)
        finally:
            self._refreshing = False

    def _side(self, viewer: ViewerModel) -> Side:
        return self._sides[viewer is self._sides[1].viewer]

    def _draw(self, side: Side) -> None:
        view, timepoint = side.view(), side.timepoint()
        rows: list[tuple[Lesion, Finding]] = []
        if view is not None and timepoint is not None:
            found = [(lesion, lesion.findings.get(timepoint)) for lesion in self.editor.study.lesions]
            rows = [(lesion, finding) for lesion, finding in found if finding is not None and finding.present]
        side.uids = [lesion.uid for lesion, _ in rows]
        side.places = np.array([view.drawn(finding.point_lps_mm) for _, finding in rows]).reshape(-1, 3)
        chosen = np.array([uid == self.editor.selected for uid in side.uids], dtype=bool)
        side.sizes = np.where(chosen, SELECTED_MM, SIZE_MM)
        if side.layer is None or side.layer not in side.viewer.layers:
            if not rows:
                return
            self._make(side)
        palette = Palette.of(side.viewer)
        look = {
            "data": to_data(side.places),
            "features": [(lesion.name, _state_words(finding)) for lesion, finding in rows],
            "symbol": [DECIDED if finding.decided else OPEN for _, finding in rows],
            "border_color": [palette.state(finding).name() for _, finding in rows],
            "border_width": np.where(chosen, SELECTED_LINE, LINE),
            "selected_data": set(np.flatnonzero(chosen).tolist()),
        }
        self._dress(side, look)
        if rows:
            self._fade(side)

    def _dress(self, side: Side, look: dict[str, Any]) -> None:
        """Gives the layer what it does not show already: napari slices and draws anew for each thing that is set."""
        layer, shown = side.layer, side.look
        side.look = look
        rows = len(look["features"])
        again = len(layer.data) != rows  # what napari gives new rows is its own
        if again or not np.array_equal(look["data"], layer.data):
            layer.data = look["data"]
        if not rows:
            return
        if again:
            layer.face_color = "transparent"
        for name in ("features", "symbol", "border_color", "border_width", "selected_data"):
            if again or name not in shown or not np.array_equal(look[name], shown[name]):
                value = look[name]
                if name == "features":
                    value = {"name": [one for one, _ in value], "state": [state for _, state in value]}
                setattr(layer, name, value)

    def _make(self, side: Side) -> None:
        side.look = {}
        side.layer = marks_layer(
            NAME,
            features={"name": np.zeros(0, dtype=object), "state": np.zeros(0, dtype=object)},
            text={"string": "{name}", "size": 10, "color": NAMES, "anchor": "lower_left", "translation": BESIDE},
        )
        selected = set(side.viewer.layers.selection)
        side.viewer.add_layer(side.layer)
        side.viewer.layers.selection.clear()
        side.viewer.layers.selection.update(selected)
        side.layer.selected_data.events.items_changed.connect(self._on_rows)

    def _on_rows(self, *_: object) -> None:
        """A row was selected by other means, napari's table of features for example."""
        if self._refreshing:
            return
        for side in self._sides:
            rows = set(side.layer.selected_data) if side.layer is not None else set()
            new = [side.uids[row] for row in rows if row < len(side.uids) and side.uids[row] != self.editor.selected]
            if new:
                self.editor.select(new[0])
                return

    # Near its slice a mark is large, far from it small, then gone.

    def _fade_first(self, event: Any = None) -> None:
        self._fade(self._sides[0])

    def _fade_second(self, event: Any = None) -> None:
        self._fade(self._sides[1])

    def _fade(self, side: Side) -> None:
        layer = side.layer
        if layer is None or not side.uids or len(layer.data) != len(side.uids) or len(side.viewer.dims.point) != 3:
            return
        hidden = list(side.viewer.dims.not_displayed)
        away = np.abs(side.places - np.array(side.viewer.dims.point))[:, hidden].max(axis=1, initial=0.0)
        slice_mm = max((abs(side.viewer.dims.range[axis].step) for axis in hidden), default=0.0)
        near = away <= max(REACH_MM, slice_mm / 2)
        size = side.sizes * (1 - (1 - FAR) * np.clip(away / REACH_MM, 0, 1)) / METRE
        if (near != layer.shown).any():
            layer.shown = near
        if not np.allclose(size, layer.size, rtol=1e-3, atol=0):
            layer.size = size

    # The mouse.

    def _grab(self, number: int, event: Any) -> tuple[str, np.ndarray] | None:
        """The lesion that a press takes hold of, and how far its mark lies from the mouse in the plane, drawn mm (3,).

        None while a tool is in use, with a key held, and beside all marks.
        """
        side = self._sides[number]
        viewer, active = side.viewer, side.viewer.layers.selection.active
        idle = active is None or str(getattr(active, "mode", "pan_zoom")) == "pan_zoom"
        if event.button != 1 or event.modifiers or not idle or viewer.dims.ndisplay != 2:
            return None
        uid = self.uid_at(viewer, tuple(event.position))
        if uid is None:
            return None
        offset = side.places[side.uids.index(uid)] - np.array(event.position)
        offset[list(viewer.dims.not_displayed)] = 0.0  # it comes to the slice that is shown
        return uid, offset

    def _release(self, number: int, uid: str, drawn: tuple[float, ...] | None, done: bool) -> None:
        """The mark of ``uid`` is at a drawn position of the mouse now; None: it was clicked, not dragged."""
        side = self._sides[number]
        if uid not in side.uids:
            return  # it was deleted, or another time point is shown, while the button was down
        if drawn is None:
            self.editor.select(uid)
        elif not done:
            places = side.places.copy()
            places[side.uids.index(uid)] = drawn
            side.layer.data = to_data(places)
        else:
            self._move(side, uid, drawn)

    def _move(self, side: Side, uid: str, drawn: tuple[float, ...]) -> None:
        view, timepoint, lesion = side.view(), side.timepoint(), self.editor.study.lesion(uid)
        place = view.lps_mm(drawn)
        try:
            if not view.geometry.contains(place):
                raise UserError(f"{lesion.name} was dragged off the scan; drag it to a place in the scan")
            decisions.move(self.editor, uid, timepoint, tuple(place.tolist()))
        except UserError as error:
            show_warning(str(error))
            self.refresh()
        else:
            self.editor.select(uid)


def _dragger(number: int, grab: WeakMethod, release: WeakMethod) -> Callable:
    """napari's form of a drag; it keeps nobody alive."""

    def drag(viewer: Any, event: Any) -> Iterator[None]:
        take = grab()
        held = take(number, event) if take is not None else None
        if held is None:
            return
        uid, offset = held
        start, camera = np.array(event.pos), viewer.scene.camera
        could_pan, camera.mouse_pan = camera.mouse_pan, False
        moved = False

        def put(done: bool) -> None:
            nonlocal moved
            moved = moved or bool(np.abs(np.array(event.pos) - start).max() >= STILL_PIXELS)
            to = release()
            if to is not None and (moved or done):
                to(number, uid, tuple(event.position + offset) if moved else None, done)

        try:
            yield
            while event.type == "mouse_move":
                put(done=False)
                yield
        finally:
            camera.mouse_pan = could_pan
        put(done=True)

    return drag


def _state_words(finding: Finding) -> str:
    return f"{finding.state}, by {finding.decided_by}" if finding.decided else f"{finding.state}, open"
