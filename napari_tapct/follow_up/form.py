"""The boxes of the Follow-up widget: what each button is called, says of itself and is pressed by, not what it does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from tapct_core.errors import UserError
from tapct_core.lesions import State, states

from ..keys import key_button
from .proposals.candidates import CandidatePanel

if TYPE_CHECKING:
    from napari.viewer import Viewer

Slot = Callable[[], object]


def attempt(slot: Slot) -> None:
    """Does something; what cannot be done is said in one line."""
    try:
        slot()
    except UserError as error:
        show_error(str(error))


class Buttons:
    """Makes buttons of ``keys.py``; what cannot be done when one is pressed is said in one line."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    def make(self, name: str, slot: Slot | None) -> QPushButton:
        """The button of a shortcut's name."""
        return key_button(self._viewer, name, None if slot is None else lambda: attempt(slot))


class FindBox(QGroupBox):
    """Mark lesions, find them all; under that ``bar`` and a line for what is going on."""

    def __init__(self, buttons: Buttons, bar: QWidget, find_all: Slot, view: Slot) -> None:
        super().__init__("Find")
        self.mark_button = buttons.make("mark", None)
        self.mark_button.setCheckable(True)
        self.all_button = buttons.make("find all", find_all)
        self.view_button = buttons.make("second view", view)
        self.state = wrapped()
        grid = QGridLayout(self)
        for place, button in enumerate((self.mark_button, self.all_button, self.view_button)):
            grid.addWidget(button, 0, place)
        grid.addWidget(bar, 1, 0, 1, 3)
        grid.addWidget(self.state, 2, 0, 1, 3)

    def say(self, words: str) -> None:
        """The line for what is going on; no line for nothing."""
        self.state.setText(words)
        self.state.setVisible(bool(words))


class LesionBox(QGroupBox):
    """The selected lesion: its candidates as pictures, what is known of it, and its heat map."""

    def __init__(self, buttons: Buttons, clear_percent: float, heat_changed: Slot) -> None:
        super().__init__("Lesion")
        self.title, self.words, self.candidates = wrapped(), wrapped(), CandidatePanel()
        self.heat = QCheckBox("Heat map")
        self.heat.setToolTip("How alike every place of the follow-up is to the lesion's")
        self.heat.setChecked(True)
        self.heat.toggled.connect(lambda _on: heat_changed())
        self.threshold = QSlider(Qt.Horizontal)
        self.threshold.setRange(800, 999)
        self.threshold.setValue(round(10 * clear_percent))
        self.threshold.setToolTip("How much of the scan the heat map leaves clear")
        self.threshold.valueChanged.connect(lambda _value: heat_changed())
        step = self.candidates.step
        self.previous_button = buttons.make("candidate before", lambda: step(-1))
        self.next_button = buttons.make("candidate after", lambda: step(1))
        row = QHBoxLayout()
        row.addWidget(self.heat)
        row.addWidget(self.threshold, 1)
        for button in (self.previous_button, self.next_button):
            button.setFixedWidth(46)
            row.addWidget(button)
        column = QVBoxLayout(self)
        for part in (self.title, self.candidates, self.words):
            column.addWidget(part)
        column.addLayout(row)

    def say(self, words: str) -> None:
        """What is known of the lesion; no line for nothing."""
        self.words.setText(words)
        self.words.setVisible(bool(words))


class DecideBox(QGroupBox):
    """What a person can decide of a finding, take back and make again, and the way to the next one."""

    def __init__(
        self,
        buttons: Buttons,
        accept: Slot,
        place: Slot,
        say: Callable[[State], object],
        new: Slot,
        undo: Slot,
        redo: Slot,
        go_on: Slot,
    ) -> None:
        """``say`` is called with the state that a person sets by a word alone; each of these has its button."""
        super().__init__("Decide")
        make = buttons.make
        self.accept_button = make("accept", accept)
        self.place_button = make("move here", place)
        self.said_buttons = {state: make(state, partial(say, state)) for state in states.SAID}
        self.new_button = make("new lesion", new)
        self.undo_button = make("undo", undo)
        self.redo_button = make("redo", redo)
        self.queue = wrapped()
        self.verify_button = make("next to verify", go_on)
        changes = self.accept_button, self.place_button, *self.said_buttons.values()
        grid = QGridLayout(self)
        for number, button in enumerate((*changes, self.new_button, self.undo_button, self.redo_button)):
            grid.addWidget(button, number // 3, number % 3)
        below = grid.rowCount()
        grid.addWidget(self.queue, below, 0, 1, 2)
        grid.addWidget(self.verify_button, below, 2)

    def show_history(self, undo_words: str | None, redo_words: str | None) -> None:
        """What can be taken back and made again, on the buttons that do it."""
        for button, words, what in (
            (self.undo_button, undo_words, "Takes back"),
            (self.redo_button, redo_words, "Makes again"),
        ):
            button.setEnabled(words is not None)
            button.setToolTip(f"{what}: {words}" if words else f"{what} the last change")

    def show_queue(self, left: int) -> None:
        """How many findings nobody has decided on."""
        self.queue.setText(f"{left} still to verify." if left else "Nothing is left to verify.")
        self.verify_button.setEnabled(left > 0)


class AxesRow(QWidget):
    """The switch for axes by hand, and the way back to those of the mask."""

    def __init__(self, buttons: Buttons, back: Slot) -> None:
        super().__init__()
        self.draw_button = buttons.make("calipers", None)
        self.back_button = QPushButton("By the mask")
        self.back_button.setToolTip("Takes the drawn axes at the compared scan away; the mask's count again, if any")
        self.back_button.clicked.connect(lambda _checked: attempt(back))
        self.words = wrapped()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.draw_button, 0, 0)
        grid.addWidget(self.back_button, 0, 1)
        grid.addWidget(self.words, 1, 0, 1, 2)
        self.say("")

    def say(self, words: str) -> None:
        """What to do next with the calipers; no line for nothing."""
        self.words.setText(words)
        self.words.setVisible(bool(words))


def titled(title: str, part: QWidget) -> QGroupBox:
    """A box with one part."""
    box = QGroupBox(title)
    QVBoxLayout(box).addWidget(part)
    return box


def wrapped() -> QLabel:
    """A label that breaks its lines."""
    label = QLabel()
    label.setWordWrap(True)
    return label
