"""The docks that the Follow-up widget brings: the second view beside the canvas, the table of lesions below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QWidget

from ..tabs import dock_over
from .response.overview import Overview
from .views.linked import LinkedView

ROWS = 8
"""Lesions that the table shows at the least, when it opens."""
NARROW = 1900
"""Pixels: on a window that is narrower, two views leave no room for napari's own docks, which go until they close."""
NAPARIS_OWN = ("layer list", "layer controls")


class Docks(QObject):
    """Opened once, with the widget; they go with it."""

    def __init__(self, widget: QWidget, linked: LinkedView, table: Overview, closing: Callable[[], object]) -> None:
        """``closing`` is called when the window of ``widget`` closes."""
        super().__init__(widget)
        self._widget, self._linked, self._table, self._closing = widget, linked, table, closing
        self._dock: Any = None
        self._put_away: list[QDockWidget] = []
        self.opened = False
        """Whether they were opened, closed again or not."""

    def open(self) -> None:
        """Beside and below the viewer's canvas; the widget is in its own dock by now."""
        self.opened = True
        window = dock_over(self._widget).parentWidget()
        window.installEventFilter(self)
        self._make_room(window)
        self._linked.show()
        self._dock = self._linked.session.viewer.window.add_dock_widget(self._table, name="Lesions", area="bottom")
        QTimer.singleShot(0, self._share_room)

    def close(self) -> None:
        """Takes the table's dock away; the second view closes its own."""
        viewer = self._linked.session.viewer
        if self._dock is not None and viewer is not None:
            viewer.window.remove_dock_widget(self._dock)
        self._dock = None
        for dock in self._put_away:
            if isalive(dock):
                dock.show()
        self._put_away = []

    def _make_room(self, window: QWidget) -> None:
        """Puts napari's own docks away where there is no room for them beside two views; its Window menu has them."""
        if window.width() < NARROW:
            docks = [one for one in window.findChildren(QDockWidget) if one.objectName() in NAPARIS_OWN]
            self._put_away = [dock for dock in docks if not dock.isHidden() and not dock.isFloating()]
            for dock in self._put_away:
                dock.hide()

    def _share_room(self) -> None:
        """Both canvases of one size, the table no higher than it must be."""
        if self._dock is None or self._linked.qt_viewer is None:
            return
        second = dock_over(self._linked.qt_viewer)
        window = self._dock.parentWidget()
        window.resizeDocks([self._dock], [self._table.height_for(ROWS)], Qt.Vertical)
        both = window.centralWidget().width() + second.width()
        widths = [both // 2, self._widget.minimumWidth()]
        window.resizeDocks([second, dock_over(self._widget)], widths, Qt.Horizontal)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's own name
        """What is being painted when the window closes is kept."""
        if event.type() == QEvent.Close:
            self._closing()
        return False
