"""The line that says what lies under the mouse: HU, place in the patient, label and similarity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from .callbacks import living
from .scan import Scan
from .session import Session


class StatusLine(QLabel):
    """HU | LPS mm | label | similarity of the scan that is shown, at the mouse."""

    def __init__(self, session: Session) -> None:
        super().__init__("Move the mouse over a scan")
        self._session = session
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextSelectableByMouse)
        session.viewer.cursor.events.position.connect(living(self._on_moved))

    def _on_moved(self, event: Any) -> None:
        viewer, scan = self._session.viewer, self._session.active
        if viewer is not None and scan is not None and self.isVisible():
            self.setText(describe(scan, list(viewer.layers), tuple(viewer.cursor.position)))


def describe(scan: Scan, layers: list, drawn: tuple[float, ...]) -> str:
    """What lies at a drawn position, in words. ``layers`` are the viewer's, the uppermost last."""
    if len(drawn) != 3 or scan.index(drawn) is None:
        return "outside the scan"
    x, y, z = scan.lps_mm(drawn)
    words = [f"{int(scan.volume.hu[scan.index(drawn)])} HU", f"LPS {x:.1f}, {y:.1f}, {z:.1f} mm"]
    words += [word for word in (_label(layers, drawn), _similarity(scan, drawn)) if word]
    return "  |  ".join(words)


def _label(layers: list, drawn: tuple[float, ...]) -> str:
    """Name and number of the uppermost label that is visible there."""
    for layer in reversed(layers):
        if not isinstance(layer, Labels) or not layer.visible or layer.ndim != 3:
            continue
        value = _value(layer, drawn)
        if value:
            table = layer.features
            if {"index", "name"} <= set(table):
                named = table.loc[table["index"] == value, "name"]
                if len(named):
                    return str(named.iloc[0])
            return f"label {value}"
    return ""


def _similarity(scan: Scan, drawn: tuple[float, ...]) -> str:
    layer = scan.parts.get("similarity")
    value = _value(layer, drawn) if layer is not None and layer.visible else None
    return "" if value is None or math.isnan(value) else f"similarity {value:.2f}"


def _value(layer: Layer, drawn: tuple[float, ...]) -> float | None:
    """The layer's own value at a drawn position; None outside it."""
    place = np.rint(layer.world_to_data(drawn)).astype(int)
    inside = ((place >= 0) & (place < layer.data.shape)).all()
    return layer.data[tuple(place)] if inside else None
