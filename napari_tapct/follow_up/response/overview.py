"""The study at a glance, below the views: the table of lesions, beside it the timeline and the response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSplitter, QTabWidget, QWidget

from ..table.lesion_table import LesionTable
from .panel import ResponsePanel
from .timeline import Timeline

if TYPE_CHECKING:
    from ..study.editor import StudyEditor


class Overview(QWidget):
    """Table on the left; timeline and response as tabs on the right."""

    jump_requested = Signal(str, str)
    """Tracking UID and time point that a person wants to be shown."""

    def __init__(self, editor: StudyEditor) -> None:
        super().__init__()
        self.table = LesionTable(editor)
        self.timeline = Timeline(editor)
        self.response = ResponsePanel(editor)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.timeline, "Timeline")
        self.tabs.addTab(self.response, "Response")
        split = QSplitter(Qt.Horizontal)
        split.addWidget(self.table)
        split.addWidget(self.tabs)
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 2)
        split.setChildrenCollapsible(False)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 4, 4, 4)
        row.addWidget(split)
        self.setMinimumHeight(150)
        self.table.jump_requested.connect(self.jump_requested)

    def height_for(self, rows: int) -> int:
        """Pixels in which that many lesions are seen."""
        margins = self.layout().contentsMargins()
        return margins.top() + self.table.height_for(rows) + margins.bottom()
