"""Hands on the pictures: the wheel scrolls slices, Ctrl and the wheel zoom, the right button windows, keys window.

The same in every view of a session, whichever of the plugin's widgets are open. A preference gives napari's own wheel
back, which zooms, and scrolls with Ctrl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from napari.layers import Image

from tapct_core.hu_windows import PRESETS

from .keys import bind
from .preferences import preference
from .scans.window import HU_PER_PIXEL, NARROWEST, set_window

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.viewer import Viewer

    from .session import Session

SLICES = "scrolls slices"
"""What the preference says of the wheel; anything else is napari's own."""
ZOOM_A_NOTCH = 1.15
NAPARIS_OWN = "dims_scroll"
"""napari's callback that scrolls with Ctrl."""


class Reading:
    """The wheel, the right button and the window keys of a session's views."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._views: WeakSet[ViewerModel] = WeakSet()
        self.attach(session.viewer)
        for name, width, level, _ in PRESETS:
            bind(session.viewer, name.lower(), partial(set_window, session, width, level))

    def attach(self, viewer: ViewerModel) -> None:
        """Makes another view of the session's scans one of those; doing so twice changes nothing."""
        viewer = getattr(viewer, "__wrapped__", viewer)
        if viewer in self._views:
            return
        self._views.add(viewer)
        wheels = viewer.mouse_wheel_callbacks
        own = [callback for callback in wheels if getattr(callback, "__name__", "") == NAPARIS_OWN]
        for callback in own:
            wheels.remove(callback)
        viewer.mouse_wheel_callbacks.insert(0, _wheel(own))
        viewer.mouse_drag_callbacks.insert(0, _windowing(self._session))


def _wheel(napari: list[Callable]) -> Callable:
    """The callback for a turn of the wheel; ``napari`` are those that it stands for."""
    left = [0.0]

    def wheel(viewer: ViewerModel, event: Any) -> None:
        if preference("wheel") != SLICES or viewer.dims.ndisplay != 2:
            for callback in napari:
                callback(viewer, event)
            return
        turned = float(event.delta[1])
        if "Control" in event.modifiers:
            zoom_at(viewer, event.position, ZOOM_A_NOTCH**turned)
        elif not event.modifiers:
            left[0] += float(np.clip(turned, -1, 1))  # touchpads turn by parts of a notch
            notches = int(left[0])
            left[0] -= notches
            if notches:
                scroll(viewer, -notches)
        else:
            return
        event.handled = True

    return wheel


def scroll(viewer: ViewerModel, slices: int) -> None:
    """Goes on by slices of the scan that is shown: towards the feet, the back or the left; the camera stays."""
    layer = next((one for one in reversed(viewer.layers) if isinstance(one, Image) and one.visible), None)
    hidden = viewer.dims.not_displayed
    if layer is None or not hidden or layer.ndim != viewer.dims.ndim:
        return
    axis = hidden[-1]
    point = np.array(viewer.dims.point, dtype=float)
    index = np.array(layer.world_to_data(point), dtype=float)
    onward = -slices if axis == layer.ndim - 3 else slices  # slices are counted from the feet
    index[axis] = np.clip(np.rint(index[axis]) + onward, 0, layer.data.shape[axis] - 1)
    viewer.dims.set_point(axis, layer.data_to_world(index)[axis])


def zoom_at(viewer: ViewerModel, drawn: tuple[float, ...], factor: float) -> None:
    """Zooms, and leaves what is drawn at a place where it is."""
    camera, shown = viewer.scene.camera, list(viewer.dims.displayed)
    centre = np.array(camera.center, dtype=float)
    place = np.array(drawn, dtype=float)[shown]
    centre[-len(shown) :] = place + (centre[-len(shown) :] - place) / factor
    camera.zoom *= factor
    camera.center = tuple(centre)


def _windowing(session: Session) -> Callable:
    """The callback for a drag of the right button: to the right is wider, up is brighter, as with the switch."""

    def drag(viewer: ViewerModel, event: Any) -> Iterator[None]:
        scan = session.active
        if event.button != 2 or scan is None or viewer.dims.ndisplay != 2:
            return
        low, high = scan.layer.contrast_limits
        x, y = event.pos
        event.handled = True
        yield
        while event.type == "mouse_move":
            width = max(NARROWEST, high - low + HU_PER_PIXEL * (event.pos[0] - x))
            set_window(session, width, (low + high) / 2 - HU_PER_PIXEL * (y - event.pos[1]))
            event.handled = True
            yield

    return drag


_readings: WeakKeyDictionary[Viewer, Reading] = WeakKeyDictionary()


def reading_of(session: Session) -> Reading:
    """That of a session, made on first use."""
    viewer = getattr(session.viewer, "__wrapped__", session.viewer)
    if viewer not in _readings:
        _readings[viewer] = Reading(session)
    return _readings[viewer]
