"""The two things of a viewer that napari's public interface does not give: its window and its canvas.

Both are None where a later napari keeps them elsewhere; what rests on them is then left out, and nothing else fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from napari.components import LayerList
    from napari.viewer import Viewer


def main_window(viewer: Viewer) -> QWidget | None:
    """The window of a viewer that is open."""
    window = getattr(getattr(viewer, "window", None), "_qt_window", None)
    return window if window is not None and isalive(window) else None


def canvas_widget(viewer: Viewer) -> QWidget | None:
    """The OpenGL widget on which a viewer draws."""
    inner = getattr(viewer.window, "_qt_viewer", None) if main_window(viewer) is not None else None
    native = getattr(getattr(inner, "canvas", None), "native", None)
    return native if native is not None and isalive(native) else None


def keep_canvas_current(layers: LayerList, canvas: Callable[[], QWidget | None]) -> None:
    """Has layers removed while the OpenGL context of the canvas that drew them is the current one.

    napari (0.9.2, ``VispyCanvas._clean_and_update_scenegraph``) deletes a layer's buffers, textures and programs as
    soon as it is removed, in whichever context happens to be current: after a repaint that is the one in which Qt puts
    the window together. It shares objects with the canvas, so they are really deleted, while the canvas's context has
    them bound; Mesa's next draw reads freed memory and the process ends in glDrawArrays.
    """

    def removing(event: Any) -> None:
        found = canvas()
        if found is not None and found.isValid():  # one that was never shown has no context
            found.makeCurrent()

    layers.events.removing.connect(removing)
