"""The plugin's widgets are tabs of one dock, however they were opened: each leaves the views their room."""

from __future__ import annotations

from weakref import WeakSet

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

_known: WeakSet[QWidget] = WeakSet()
"""The widgets of all windows that go together."""


def share_dock(widget: QWidget) -> None:
    """From its first showing on, ``widget`` is a tab beside the others that were said so, of the same window."""
    _known.add(widget)
    _FirstShown(widget)


class _FirstShown(QObject):
    """napari puts a widget into its dock after it was made, and stacks docks on top of each other."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's own name
        if event.type() == QEvent.Show:
            watched.removeEventFilter(self)
            QTimer.singleShot(0, self._join)
        return False

    def _join(self) -> None:
        if not isalive(self._widget):
            return
        mine = dock_over(self._widget)
        window = mine.parentWidget() if mine is not None else None
        if not isinstance(window, QMainWindow) or mine.isFloating():
            return
        for other in (dock_over(one) for one in _known if isalive(one)):
            stands = other is not None and other is not mine and other.parentWidget() is window
            if stands and not other.isFloating() and window.dockWidgetArea(other) != Qt.NoDockWidgetArea:
                if mine not in window.tabifiedDockWidgets(other):
                    window.tabifyDockWidget(other, mine)
                mine.raise_()
                return


def dock_over(widget: QWidget | None) -> QDockWidget | None:
    """The dock that a widget is in; None where it is in none."""
    while widget is not None and not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget
