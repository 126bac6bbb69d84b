"""What stands above and below the second view: its time point, the link, and what lies under the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QWidget

from ...callbacks import living
from ...keys import SHORTCUTS, key_button
from ...status import describe
from ..folding import ElidedLabel

if TYPE_CHECKING:
    from .linked import LinkedView


def link_frame(linked: LinkedView) -> tuple[LinkBar, PlaceLine]:
    """What stands above and below the second canvas."""
    return LinkBar(linked), PlaceLine(linked)


class LinkBar(QWidget):
    """Time point selector, link, 'Link from here', and how the two scans are linked, in words."""

    def __init__(self, linked: LinkedView) -> None:
        super().__init__()
        self._linked = linked
        self.earlier = self._step("time before", -1)
        self.later = self._step("time after", 1)
        self.timepoints = QComboBox()
        self.timepoints.setToolTip("The follow-up that is compared with the scan on the left")
        self.timepoints.activated.connect(self._on_chosen)
        self.link = key_button(linked.session.viewer, "link")
        self.link.setCheckable(True)
        self.link.clicked.connect(self._on_link)
        self.here = QPushButton("Link from here")
        self.here.setToolTip("Takes what both views show now for the same place, and links them by it")
        self.here.clicked.connect(lambda _checked: linked.link_here())
        self.reset = QPushButton("As scanned")
        self.reset.setToolTip("Forgets the offset or the match's motion: the scanner's own coordinates")
        self.reset.clicked.connect(lambda _checked: linked.set_transform(None))
        self.words = QLabel()
        self.words.setWordWrap(True)  # a long name must not widen the view
        self.words.setTextInteractionFlags(Qt.TextSelectableByMouse)
        grid = QGridLayout(self)
        grid.setContentsMargins(4, 4, 4, 0)
        row = QHBoxLayout()
        for widget, stretch in ((self.earlier, 0), (self.timepoints, 1), (self.later, 0)):
            row.addWidget(widget, stretch)
        buttons = QHBoxLayout()
        for button in (self.link, self.here, self.reset):
            buttons.addWidget(button)
        grid.addLayout(row, 0, 0)
        grid.addLayout(buttons, 1, 0)
        grid.addWidget(self.words, 2, 0)
        linked.changed.connect(living(self.refresh))
        linked.editor.changed.connect(living(self.refresh))
        linked.editor.timepoint_changed.connect(living(self.refresh))
        self.refresh()

    def _step(self, name: str, by: int) -> QPushButton:
        button = key_button(self._linked.session.viewer, name, lambda: self._on_step(by))
        button.setText(SHORTCUTS[name].title)  # its key is in the tooltip: here is no room
        button.setMaximumWidth(32)
        return button

    def refresh(self, *_: object) -> None:
        """Says which time points there are, and how the views are linked."""
        linked, editor = self._linked, self._linked.editor
        names = [timepoint.name for timepoint in editor.study.timepoints]
        first = next((name for name in names if editor.scan_of(name) is not None), None)
        self.timepoints.clear()
        for timepoint in editor.study.timepoints:
            is_open = editor.scan_of(timepoint.name) is not None
            words = [timepoint.name, timepoint.date, "" if is_open else "(not open)"]
            self.timepoints.addItem("  ".join(word for word in words if word), timepoint.name)
            self.timepoints.model().item(self.timepoints.count() - 1).setEnabled(is_open and timepoint.name != first)
        self.timepoints.setCurrentIndex(names.index(editor.timepoint) if editor.timepoint in names else -1)
        self.earlier.setEnabled(self._next(-1) is not None)
        self.later.setEnabled(self._next(1) is not None)
        motion = linked.motion
        self.link.setChecked(linked.linked)
        for button in (self.link, self.here):
            button.setEnabled(motion is not None)
        self.reset.setEnabled(linked.by_hand)
        self.words.setText(self._state(names))

    def _state(self, names: list[str]) -> str:
        linked = self._linked
        if len(names) < 2:
            return "Open a second scan to compare."
        left = linked.session.active.name if linked.session.active is not None else ""
        if linked.editor.scan_of(linked.editor.timepoint) is None:
            return f"The scan of {linked.editor.timepoint} is not open."
        if linked.scan is None:
            return f"{left} is on the left. Choose a later scan to compare it with."
        if linked.why_not_linked:
            return f"⚠ Not linked: {linked.why_not_linked}."
        return f"Linked with {left}: {linked.motion.words}" if linked.linked else f"Not linked with {left}"

    def _next(self, by: int) -> str | None:
        """The nearest open time point before or after the one that is compared."""
        editor = self._linked.editor
        names = [timepoint.name for timepoint in editor.study.timepoints]
        if editor.timepoint not in names:
            return None
        here = names.index(editor.timepoint)
        open_ = [name for name in names if editor.scan_of(name) is not None]
        rest = names[here + 1 :] if by > 0 else names[:here][::-1]
        return next((name for name in rest if name in open_[1:]), None)  # the first is on the left

    def _on_step(self, by: int) -> None:
        name = self._next(by)
        if name is not None:
            self._linked.editor.set_timepoint(name)

    def _on_chosen(self, place: int) -> None:
        self._linked.editor.set_timepoint(self.timepoints.itemData(place))

    def _on_link(self, on: bool) -> None:
        self._linked.linked = on


class PlaceLine(ElidedLabel):
    """HU | LPS mm | label under the mouse in the second view: always one line, so that the picture stays in place."""

    def __init__(self, linked: LinkedView) -> None:
        super().__init__()
        self._linked = linked
        self.setMinimumHeight(self.fontMetrics().height() + 4)
        self.setTextInteractionFlags(Qt.TextSelectableByMouse)
        linked.viewer_model.cursor.events.position.connect(living(self._on_moved))

    def _on_moved(self, event: Any) -> None:
        model, scan = self._linked.viewer_model, self._linked.scan
        if scan is not None and self.isVisible():
            self.setText(describe(scan, list(model.layers), tuple(model.cursor.position)))
