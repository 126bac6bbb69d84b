"""The list of classes: colour, name, and which one the brush paints."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..callbacks import living
from ..painting import Painting

MOST = 255


class ClassTable(QWidget):
    """Rows of colour and name; a double-click on a colour changes it, on a name edits it."""

    chosen = Signal(int)
    """The value of the class that was selected."""

    def __init__(self, painting: Painting) -> None:
        super().__init__()
        self._painting = painting
        self.table = QTableWidget(0, 2)
        self.table.setHorizontalHeaderLabels(["", "Name"])
        self.table.verticalHeader().hide()
        self.table.setColumnWidth(0, 32)
        self.table.horizontalHeader().setSectionResizeMode(1, QHeaderView.Stretch)
        self.table.setSelectionBehavior(QTableWidget.SelectRows)
        self.table.setSelectionMode(QTableWidget.SingleSelection)
        self.table.setMinimumHeight(110)
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.table.itemChanged.connect(self._on_edited)
        self.table.cellDoubleClicked.connect(self._on_double_click)
        self.add = QPushButton("Add class")
        self.remove = QPushButton("Remove class")
        self.remove.setToolTip("Removes its strokes too; Undo brings the strokes back")
        self.add.clicked.connect(self._on_add)
        self.remove.clicked.connect(self._on_remove)
        row = QHBoxLayout()
        row.addWidget(self.add)
        row.addWidget(self.remove)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.table)
        column.addLayout(row)
        painting.classes_changed.connect(living(self.refresh))
        self.refresh()
        self.table.selectRow(len(painting.classes) - 1)

    @property
    def value(self) -> int:
        """The value of the class that is selected."""
        row = max(0, self.table.currentRow())
        classes = self._painting.classes
        return classes[min(row, len(classes) - 1)].value if classes else 0

    def select(self, value: int) -> None:
        """Selects the class of this value."""
        self.table.selectRow([one.value for one in self._painting.classes].index(value))

    def refresh(self) -> None:
        """Lists the classes anew; the selection stays."""
        row = self.table.currentRow()
        self.table.blockSignals(True)
        self.table.setRowCount(len(self._painting.classes))
        for i, one in enumerate(self._painting.classes):
            swatch = QTableWidgetItem()
            swatch.setBackground(QColor(*one.colour))
            swatch.setFlags(Qt.ItemIsEnabled)
            swatch.setToolTip("Double-click to change the colour")
            self.table.setItem(i, 0, swatch)
            self.table.setItem(i, 1, QTableWidgetItem(one.name))
        if row >= 0:
            self.table.selectRow(min(row, len(self._painting.classes) - 1))
        self.table.blockSignals(False)
        self.add.setEnabled(len(self._painting.classes) < MOST)
        self.remove.setEnabled(len(self._painting.classes) > 2)

    def _on_selected(self) -> None:
        self.chosen.emit(self.value)

    def _on_add(self) -> None:
        new = self._painting.add_class()
        self.select(new.value)

    def _on_remove(self) -> None:
        self._painting.remove_class(self.value)

    def _on_edited(self, cell: QTableWidgetItem) -> None:
        if cell.column() == 1:
            old = self._painting.classes[cell.row()]
            self._change(cell.row(), name=cell.text().strip() or old.name)

    def _on_double_click(self, row: int, column: int) -> None:
        if column == 0:
            colour = QColorDialog.getColor(QColor(*self._painting.classes[row].colour), self)
            if colour.isValid():
                self._change(row, colour=(colour.red(), colour.green(), colour.blue()))

    def _change(self, row: int, **what) -> None:
        classes = list(self._painting.classes)
        classes[row] = replace(classes[row], **what)
        self._painting.set_classes(classes)
