"""What a killed or closed napari left behind, offered once: resume it or throw it away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout


class Unfinished(Protocol):
    """Work on disk that nobody has open."""

    @property
    def words(self) -> str:
        """What it is, for a person."""

    def discard(self) -> None:
        """Deletes it."""


class UnfinishedBox(QGroupBox):
    """Shows the first of ``found``; hidden when there is none. Who resumes hides it when that has worked.

    A parent's layout shows what is added to it, so add it first and call :meth:`offer` then.
    """

    def __init__(self, title: str, found: Sequence[Unfinished], resume: Callable[[], None]) -> None:
        super().__init__(title)
        self.work = found[0] if found else None
        text = QLabel(self.work.words if self.work else "")
        text.setWordWrap(True)
        self.resume_button, self.discard_button = QPushButton("Resume"), QPushButton("Discard")
        self.resume_button.clicked.connect(lambda _checked: resume())
        self.discard_button.clicked.connect(self._on_discard)
        row = QHBoxLayout()
        row.addWidget(self.resume_button)
        row.addWidget(self.discard_button)
        column = QVBoxLayout(self)
        column.addWidget(text)
        column.addLayout(row)

    def offer(self) -> None:
        """Visible where there is something to resume."""
        self.setVisible(self.work is not None)

    def _on_discard(self) -> None:
        self.work.discard()
        self.hide()
