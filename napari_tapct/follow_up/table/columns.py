"""Which columns of the lesion table are shown: those that fit, less those that a person has left out."""

from __future__ import annotations

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QFontMetrics
from qtpy.QtWidgets import QMenu, QTableView

from .model import COLUMNS, KEYS


class Columns:
    """Widths, and a menu on the header to choose from. The lesion's name always stays."""

    def __init__(self, view: QTableView) -> None:
        self._view = view
        self.left_out: set[str] = set()
        header = view.horizontalHeader()
        header.setContextMenuPolicy(Qt.CustomContextMenu)
        header.customContextMenuRequested.connect(self._on_menu)

    def fit(self) -> None:
        """Leaves out columns, the most dispensable first, until the others have their width."""
        metrics = QFontMetrics(self._view.font())
        scale = max(1.0, metrics.horizontalAdvance("0123456789") / 62)  # widths are for a 9 point font
        widths = [round(column.width * scale) for column in COLUMNS]
        room = self._view.viewport().width()
        shown = {place for place, key in enumerate(KEYS) if key not in self.left_out}
        for place in sorted(shown, key=lambda i: -COLUMNS[i].spare):
            if sum(widths[i] for i in shown) <= room or not COLUMNS[place].spare:
                break
            shown.discard(place)
        for place, width in enumerate(widths):
            self._view.setColumnHidden(place, place not in shown)
            if KEYS[place] != "name":
                self._view.setColumnWidth(place, width)

    def menu(self) -> QMenu:
        """A line a column, ticked where it is wanted; what is wanted and does not fit waits for room."""
        menu = QMenu(self._view)
        menu.setAttribute(Qt.WA_DeleteOnClose)
        for column in COLUMNS:
            action = menu.addAction(column.title)
            action.setToolTip(column.hint)
            action.setCheckable(True)
            action.setChecked(column.key not in self.left_out)
            action.setEnabled(column.key != "name")
            action.toggled.connect(lambda on, key=column.key: self.want(key, on))
        return menu

    def want(self, key: str, on: bool) -> None:
        """A person wants a column, or not."""
        (self.left_out.discard if on else self.left_out.add)(key)
        self.fit()

    def _on_menu(self, at: QPoint) -> None:
        self.menu().exec(self._view.horizontalHeader().mapToGlobal(at))
