"""The axes of the selected lesion, drawn where they were measured; a person's and doubtful ones in other colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Vectors

from ...session import Session
from .marks import METRE

if TYPE_CHECKING:
    from ..study.editor import StudyEditor
    from .linked import LinkedView
    from .position import ScanView

NAME = "axes"
MEASURED, DRAWN, IN_DOUBT = "#ffd166", "#7bdff2", "#ff7b6b"
WIDTH_MM, IN_DOUBT_MM = 0.5, 1.0


@dataclass
class Side:
    """The axes in one view; ``middle`` is where they cross, drawn mm (3,), None where there are none."""

    viewer: ViewerModel
    view: Callable[[], ScanView | None]
    timepoint: Callable[[], str | None]
    layer: Vectors | None = None
    middle: np.ndarray | None = None


class MeasuredAxes:
    """Long and short axis of the selected lesion in both views, seen on their own slice."""

    def __init__(self, session: Session, editor: StudyEditor, linked: LinkedView) -> None:
        self.editor = editor
        self._sides = (
            Side(session.viewer, lambda: linked.first, lambda: editor.timepoint_of(session.active)),
            Side(linked.viewer_model, lambda: linked.second, lambda: editor.timepoint_of(linked.scan)),
        )
        signals = (editor.changed, editor.selection_changed, editor.timepoint_changed, session.scans_changed)
        self._heard: list[tuple[Any, Callable]] = [(signal, self.refresh) for signal in signals]
        for side in self._sides:
            dims = side.viewer.dims.events
            self._heard += [(dims.point, self._on_slice), (dims.order, self._on_slice)]
        for event, heard in self._heard:
            event.connect(heard)
        linked.closed.connect(self.close)
        self.refresh()

    def close(self) -> None:
        """Takes the axes away for good."""
        for event, heard in self._heard:
            event.disconnect(heard)
        self._heard = []
        for side in self._sides:
            if side.layer is not None and side.layer in side.viewer.layers:
                side.viewer.layers.remove(side.layer)
            side.layer = None

    def layer(self, viewer: ViewerModel) -> Vectors | None:
        """The axes' layer in one of the two viewers; None while there was nothing to draw."""
        return self._sides[viewer is self._sides[1].viewer].layer

    def refresh(self, *_: object) -> None:
        """Draws what the study says."""
        for side in self._sides:
            self._draw(side)

    def preview(self, number: int, lines: list[np.ndarray]) -> None:
        """Draws lines (each (2, 3) LPS mm) in one of the two views until :meth:`refresh`: what a hand is drawing."""
        side = self._sides[number]
        view = side.view()
        if view is not None:
            self._put(side, view, lines, MEASURED, WIDTH_MM)
            self._show(side)

    def _put(self, side: Side, view: ScanView, lines: Any, colour: str, width_mm: float) -> None:
        ends = np.array([[view.drawn(np.array(end)) for end in line] for line in lines])
        side.middle = ends[0].mean(axis=0)
        layer = self._layer(side)
        layer.data = np.stack([ends[:, 0], ends[:, 1] - ends[:, 0]], axis=1) / METRE
        layer.edge_color = colour
        layer.edge_width = width_mm / METRE

    def _draw(self, side: Side) -> None:
        view, lesion = side.view(), self.editor.lesion
        finding = lesion.findings.get(side.timepoint() or "") if lesion is not None else None
        measured = finding.measurement if finding is not None and finding.present else None
        side.middle = None
        if view is not None and measured is not None:
            axes = measured.long_axis_ends, measured.short_axis_ends
            colour = IN_DOUBT if finding.doubtful else DRAWN if measured.drawn else MEASURED
            self._put(side, view, axes, colour, IN_DOUBT_MM if finding.doubtful else WIDTH_MM)
        self._show(side)

    def _layer(self, side: Side) -> Vectors:
        if side.layer is None or side.layer not in side.viewer.layers:
            side.layer = Vectors(
                np.zeros((0, 2, 3)), ndim=3, name=NAME, scale=(METRE,) * 3, units=("mm",) * 3,
                axis_labels=("z", "y", "x"), vector_style="line",
            )  # fmt: skip
            selected = set(side.viewer.layers.selection)
            side.viewer.add_layer(side.layer)
            side.viewer.layers.selection.clear()
            side.viewer.layers.selection.update(selected)
        return side.layer

    def _on_slice(self, event: Any = None) -> None:
        for side in self._sides:
            self._show(side)

    def _show(self, side: Side) -> None:
        """Seen on the slice that they were measured on, and in 3D."""
        if side.layer is None:
            return
        view, shown = side.view(), side.middle is not None
        if shown and view is not None and len(side.viewer.dims.point) == 3:
            shown = not view.off_slice(side.middle)
        if side.layer.visible != shown:
            side.layer.visible = shown
