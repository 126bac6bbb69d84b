"""The column of boxes that a docked widget is: it scrolls where the screen is low, and makes no window higher."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea, QStyle, QVBoxLayout, QWidget

LEAST_WIDTH = 300
"""Pixels."""


def scrolling_column(widget: QWidget) -> QVBoxLayout:
    """An empty column that fills ``widget`` and scrolls up and down; call :func:`fit_width` when it is full."""
    inner = QWidget()
    scroll = QScrollArea()
    scroll.setWidget(inner)
    scroll.setWidgetResizable(True)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
    scroll.setFrameShape(QScrollArea.NoFrame)
    outer = QVBoxLayout(widget)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(scroll)
    return QVBoxLayout(inner)


def fit_width(widget: QWidget, column: QVBoxLayout, least: int = LEAST_WIDTH) -> None:
    """Makes ``widget`` wide enough for what is in its column and the scroll bar beside it."""
    bar = widget.style().pixelMetric(QStyle.PM_ScrollBarExtent)
    widget.setMinimumWidth(max(least, column.parentWidget().minimumSizeHint().width() + bar + 4))


def pinned(widget: QWidget, part: QWidget) -> None:
    """Puts ``part`` below the scrolling column of ``widget``: always seen, whatever else there is."""
    widget.layout().addWidget(part)
