"""The cross that is, in each of two linked views, where the mouse of the other one points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points

from .marks import METRE, marks_layer, to_data
from .position import ScanView

SIZE_MM = 14.0
COLOUR = "#ffe14d"
FAINT = 0.35
"""Opacity where the place lies off the slice that is shown: a tilted scan's slices cut the other's."""


class Cross:
    """The cross in one viewer; its layer is made when the mouse first asks for it."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self._layer: Points | None = None

    def put(self, view: ScanView, lps_mm: np.ndarray) -> None:
        """Shows it at an LPS place of a scan in its viewer; hides it outside the scan."""
        if not view.geometry.contains(lps_mm):
            self.hide()
            return
        drawn = view.drawn(lps_mm)
        layer = self._drawn_layer()
        layer.data = to_data(drawn[None])
        layer.opacity = FAINT if view.off_slice(drawn) else 1.0
        layer.visible = True

    def hide(self) -> None:
        """Until it is put somewhere."""
        if self._layer is not None:
            self._layer.visible = False

    def remove(self) -> None:
        """Takes its layer away."""
        if self._layer is not None and self._layer in self.viewer.layers:
            self.viewer.layers.remove(self._layer)
        self._layer = None

    def _drawn_layer(self) -> Points:
        if self._layer is None or self._layer not in self.viewer.layers:
            self._layer = marks_layer(
                "linked cursor", symbol="cross", size=SIZE_MM / METRE, face_color=COLOUR, border_width=0
            )
            selected = set(self.viewer.layers.selection)
            self.viewer.add_layer(self._layer)
            self.viewer.layers.selection.clear()
            self.viewer.layers.selection.update(selected)
        return self._layer


class Crosses:
    """The crosses of both views, of which one is seen at a time: in the view that the mouse is not in."""

    def __init__(self, first: ViewerModel, second: ViewerModel) -> None:
        self._both = Cross(first), Cross(second)

    def point(self, source: ScanView, target: ScanView, way: Callable[[np.ndarray], np.ndarray]) -> None:
        """Shows in ``target`` where the mouse points in ``source``; ``way`` leads there, LPS mm (3,) to LPS mm (3,)."""
        viewer, position = source.viewer, source.viewer.cursor.position
        # napari also tells of positions when the slice changes under a mouse that is elsewhere.
        if viewer.mouse_over_canvas and viewer.dims.ndisplay == 2 and len(position) == 3:
            for cross in self._both:
                if cross.viewer is target.viewer:
                    cross.put(target, way(source.lps_mm(position)))
                else:
                    cross.hide()

    def hide(self) -> None:
        """Neither is seen."""
        for cross in self._both:
            cross.hide()

    def remove(self) -> None:
        """Takes their layers away."""
        for cross in self._both:
            cross.remove()
