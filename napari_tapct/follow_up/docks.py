"""The docks that the Follow-up widget brings: the second view beside the canvas, the table of lesions below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QWidget

from .views.linked import LinkedView

TABLE_HEIGHT = 220
"""Pixels."""


class Docks(QObject):
    """Opened once, with the widget; they go with it."""

    def __init__(self, widget: QWidget, linked: LinkedView, table: QWidget, closing: Callable[[], object]) -> None:
        """``closing`` is called when the window of ``widget`` closes."""
        super().__init__(widget)
        self._widget, self._linked, self._table, self._closing = widget, linked, table, closing
        self._dock: Any = None
        self.opened = False
        """Whether they were opened, closed again or not."""

    def open(self) -> None:
        """Beside and below the viewer's canvas; the widget is in its own dock by now."""
        self.opened = True
        dock_of(self._widget).parentWidget().installEventFilter(self)
        self._linked.show()
        self._dock = self._linked.session.viewer.window.add_dock_widget(self._table, name="Lesions", area="bottom")
        QTimer.singleShot(0, self._share_room)

    def close(self) -> None:
        """Takes the table's dock away; the second view closes its own."""
        viewer = self._linked.session.viewer
        if self._dock is not None and viewer is not None:
            viewer.window.remove_dock_widget(self._dock)
        self._dock = None

    def _share_room(self) -> None:
        """Both canvases of one size, the table no higher than it must be."""
        if self._dock is None or self._linked.qt_viewer is None:
            return
        second = dock_of(self._linked.qt_viewer)
        window = self._dock.parentWidget()
        window.resizeDocks([self._dock], [TABLE_HEIGHT], Qt.Vertical)
        both = window.centralWidget().width() + second.width()
        widths = [both // 2, self._widget.minimumWidth()]
        window.resizeDocks([second, dock_of(self._widget)], widths, Qt.Horizontal)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's own name
        """What is being painted when the window closes is kept."""
        if event.type() == QEvent.Close:
            self._closing()
        return False


def dock_of(widget: QWidget) -> QDockWidget:
    """The dock that a widget is in."""
    while not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget
