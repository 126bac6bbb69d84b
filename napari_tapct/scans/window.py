"""Window presets on keys, and width and level by dragging, for all CTs of a viewer at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from qtpy.QtWidgets import QGridLayout, QGroupBox, QLabel, QPushButton

from tapct_core.hu_windows import PRESETS

from ..callbacks import living
from ..keys import key_button, named_button
from ..session import Session

HU_PER_PIXEL = 2.0
NARROWEST = 1.0


def set_window(session: Session, width: float, level: float) -> None:
    """Shows every CT of the session with this width and level in HU."""
    low, high = level - width / 2, level + width / 2
    for scan in session.scans:
        least, most = scan.layer.contrast_limits_range
        scan.layer.contrast_limits_range = (min(low, least), max(high, most))
        scan.layer.contrast_limits = (low, high)


class WindowBox(QGroupBox):
    """The presets' buttons and the switch for dragging."""

    def __init__(self, session: Session) -> None:
        super().__init__("Window")
        self._session = session
        grid = QGridLayout(self)
        self.buttons: dict[str, QPushButton] = {}
        for place, (name, width, level, _) in enumerate(PRESETS):
            button = named_button(name.lower())
            button.clicked.connect(partial(set_window, session, width, level))
            self.buttons[name] = button
            grid.addWidget(button, place // 2, place % 2)
        self.drag = key_button(session.viewer, "drag window")
        self.drag.setCheckable(True)
        self.drag.toggled.connect(self._on_drag_toggled)
        grid.addWidget(self.drag, len(PRESETS) // 2, len(PRESETS) % 2)
        self.text = QLabel()
        grid.addWidget(self.text, len(PRESETS) // 2 + 1, 0, 1, 2)
        self._on_drag = _dragger(living(self._begin), living(self._move))
        self._had_pan = True
        session.viewer.mouse_drag_callbacks.append(self._on_drag)

    def _on_drag_toggled(self, on: bool) -> None:
        camera = self._session.viewer.scene.camera
        if on:
            self._had_pan = camera.mouse_pan
        camera.mouse_pan = False if on else self._had_pan
        self.text.setText("Drag on the picture: right is wider, up is brighter." if on else "")

    def _begin(self) -> tuple[float, float] | None:
        """Width and level at the start of a drag; None when drags are not ours."""
        scan = self._session.active
        if not self.drag.isChecked() or scan is None:
            return None
        low, high = scan.layer.contrast_limits
        return high - low, (low + high) / 2

    def _move(self, width: float, level: float) -> None:
        width = max(NARROWEST, width)
        set_window(self._session, width, level)
        self.text.setText(f"Width {width:.0f}, level {level:.0f} HU")


def _dragger(begin: Any, move: Any) -> Any:
    """napari's form of a drag: a generator that is continued at every move."""

    def drag(viewer: Any, event: Any) -> Iterator[None]:
        start = begin() if event.button == 1 else None
        if start is None:
            return
        x, y = event.pos
        yield
        while event.type == "mouse_move":
            across, up = event.pos[0] - x, y - event.pos[1]
            # Up is brighter: the same HU is drawn brighter when the level falls.
            move(start[0] + HU_PER_PIXEL * across, start[1] - HU_PER_PIXEL * up)
            yield

    return drag
