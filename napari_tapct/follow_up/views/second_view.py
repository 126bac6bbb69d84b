"""The second canvas: napari's own viewer widget in a dock beside the first. It may be closed at any time."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari.components import ViewerModel
from napari.qt import QtViewer
from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer

NAME = "Follow-up scan"
IDLE_MS = 700


class SecondModel(ViewerModel):
    """A viewer without a window, in which every key that was bound on the first viewer works as well."""

    def __init__(self, first: Viewer) -> None:
        super().__init__()
        self._first = ref(first)
        self.theme = first.theme
        first.events.theme.connect(self._on_theme)

    @property
    def keymap(self) -> ChainMap:
        """Its own keys before those of the first viewer."""
        first = self._first()
        return ChainMap(self._keymap, first.keymap if first is not None else {})

    def _on_theme(self, event: Any) -> None:
        self.theme = event.value


class SecondView(QWidget):
    """``top``, the canvas of ``model`` and ``bottom``, one above the other."""

    visibility_changed = Signal()
    retired = Signal()
    """It was closed for good; its model lives on and can be shown by another one."""
    idle = Signal()
    """Now and then while it is seen and no mouse button is down: time to get something ready."""

    def __init__(self, model: ViewerModel, top: QWidget, bottom: QWidget) -> None:
        super().__init__()
        self.qt_viewer = QtViewer(model)
        self.qt_viewer.setAcceptDrops(False)  # files that are dropped here belong to the window's viewer
        self.retiring = False
        self._docked = False
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._on_timer)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(top)
        column.addWidget(self.qt_viewer, 1)
        column.addWidget(bottom)

    def dock(self, viewer: Viewer) -> None:
        """Puts it into the viewer's window, to the right of the first canvas and as large."""
        dock = viewer.window.add_dock_widget(self, name=NAME, area="right", add_vertical_stretch=False)
        self._docked = True
        window = dock.parentWidget()
        window.installEventFilter(self)
        _next_to_canvas(window, dock)

    def set_dock_visible(self, visible: bool) -> None:
        """Shows or hides it with its dock."""
        dock = self._own_dock()
        (dock or self).setVisible(visible)
        if visible and dock is not None:
            dock.raise_()

    def leave(self, viewer: Viewer | None) -> None:
        """Closes it with its dock."""
        dock = self._own_dock()
        if viewer is not None and dock is not None:
            viewer.window.remove_dock_widget(dock)
        self.retire()

    def _own_dock(self) -> QDockWidget | None:
        dock = self.parentWidget()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parentWidget()
        return dock

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._timer.start(IDLE_MS)
        self.visibility_changed.emit()

    def hideEvent(self, event: Any) -> None:
        super().hideEvent(event)
        self._timer.stop()
        self.visibility_changed.emit()

    def _on_timer(self) -> None:
        if QApplication.mouseButtons() == Qt.NoButton:
            self.idle.emit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        # napari takes the widget out of a dock whose X was clicked, and forgets it.
        if event.type() == QEvent.ParentChange and self._docked and self.parentWidget() is None:
            self.retire()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """A slider that still plays when its window closes would play on without one, and crash."""
        if event.type() == QEvent.Close and not self.retiring:
            self.qt_viewer.dims.stop()
        return False

    def retire(self) -> None:
        """Closes the canvas for good."""
        if not self.retiring:
            self.retiring = True
            self.qt_viewer.close()
            self.retired.emit()
            self.deleteLater()


def _next_to_canvas(window: QMainWindow, dock: QDockWidget) -> None:
    """Moves the other docks on the right to the right of ``dock``, tabs as tabs, and gives both canvases half."""
    others = [
        one
        for one in window.findChildren(QDockWidget)
        if one is not dock
        and not one.isHidden()
        and not one.isFloating()
        and window.dockWidgetArea(one) == Qt.RightDockWidgetArea
    ]
    tabs = {one: window.tabifiedDockWidgets(one) for one in others}
    last = None
    for one in others:
        group = next((other for other in others[: others.index(one)] if other in tabs[one]), None)
        if group is not None:
            window.tabifyDockWidget(group, one)
        elif last is None:
            window.splitDockWidget(dock, one, Qt.Horizontal)
        else:
            window.splitDockWidget(last, one, Qt.Vertical)
        last = last if group is not None else one
    canvas = window.centralWidget().width() if window.centralWidget() is not None else window.width()
    window.resizeDocks([dock], [max(200, (canvas + dock.width()) // 2)], Qt.Horizontal)
