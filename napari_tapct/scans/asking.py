"""A scan that opens only by a person's word: values that seem shifted, several phases, slices on no regular grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QDialog, QDialogButtonBox, QLabel, QRadioButton, QVBoxLayout, QWidget

from tapct_core.errors import NeedsWord

WIDTH = 440
"""Pixels of the text, which wraps."""


@dataclass(frozen=True)
class Asked:
    """A file or folder, what it needs a word about, and what was said of it before (keywords of ``load_ct``)."""

    path: Path
    error: NeedsWord
    how: dict[str, Any] = field(default_factory=dict)

    def said(self, choice: dict[str, Any]) -> Asked:
        """With one more thing said."""
        return Asked(self.path, self.error, self.how | choice)


class WordDialog(QDialog):
    """``chosen`` are the keywords of what is ticked; nothing is at first where there is more than one answer."""

    def __init__(self, asked: Asked, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"How is {asked.path.name} to be read?")
        self._choices = asked.error.choices
        column = QVBoxLayout(self)
        reason = str(asked.error.reason)
        label = QLabel(f"{asked.path.name}: {reason}.")
        label.setTextFormat(Qt.PlainText)
        label.setWordWrap(True)
        label.setMinimumWidth(WIDTH)
        column.addWidget(label)
        self.buttons = QButtonGroup(self)
        for number, (words, _) in enumerate(self._choices):
            button = QRadioButton(words)
            self.buttons.addButton(button, number)
            column.addWidget(button)
        box = QDialogButtonBox(QDialogButtonBox.Open | QDialogButtonBox.Cancel)
        self.open_button = box.button(QDialogButtonBox.Open)
        box.accepted.connect(self.accept)
        box.rejected.connect(self.reject)
        column.addWidget(box)
        self.open_button.setEnabled(False)
        self.buttons.idToggled.connect(lambda *_: self.open_button.setEnabled(self.buttons.checkedId() >= 0))
        if len(self._choices) == 1:
            self.buttons.button(0).setChecked(True)

    @property
    def chosen(self) -> dict[str, Any]:
        """Keywords of ``load_ct``."""
        return dict(self._choices[self.buttons.checkedId()][1])
