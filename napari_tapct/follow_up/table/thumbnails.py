"""Small pictures of a place in a CT for lists and tooltips, with cross, outline and diameters drawn on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap, QPolygonF

from tapct_core import thumbnails
from tapct_core.thumbnails import PIXELS, SIDE_MM, Thumbnail, mask_lines

if TYPE_CHECKING:
    from tapct_core.lesions import Finding
    from tapct_core.volume import CTVolume

CROSS_COLOUR, OUTLINE_COLOUR, AXIS_COLOUR = "#ffd166", "#4cc9f0", "#ffd166"
_GAP, _ARM = 5.0, 11.0
"""Pixels from the middle at which the arms of a cross begin and end: what is pointed at stays free."""


def thumbnail(
    volume: CTVolume,
    point_lps_mm: tuple[float, float, float] | np.ndarray,
    side_mm: float = SIDE_MM,
    pixels: int = PIXELS,
    window: tuple[float, float] | None = None,
) -> QPixmap:
    """The axial slice through a place (LPS mm) with a cross on it, ``pixels`` squared. Interface thread only.

    ``window`` is (width, level) in HU; None: lung or soft tissue, by what lies there.
    """
    picture = thumbnails.thumbnail(volume, point_lps_mm, side_mm, pixels, window)
    pixmap = pixmap_of(picture.grey)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.Antialiasing)
    _draw_cross(painter, picture, point_lps_mm)
    painter.end()
    return pixmap


def finding_thumbnail(
    volume: CTVolume,
    finding: Finding,
    side_mm: float = SIDE_MM,
    pixels: int = PIXELS,
    window: tuple[float, float] | None = None,
) -> QPixmap | None:
    """A finding on the slice of its longest diameter with outline and both axes; a cross where nothing was measured.

    None where the lesion has no place at this time point. An outline of another grid than the scan's is left out.
    """
    if not finding.present:
        return None
    measured = finding.measurement
    if measured is None:
        return thumbnail(volume, finding.point_lps_mm, side_mm, pixels, window)
    middle = np.mean(measured.long_axis_ends, axis=0)
    picture = thumbnails.thumbnail(volume, middle, side_mm, pixels, window)
    pixmap = pixmap_of(picture.grey)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.Antialiasing)
    if finding.mask is not None and finding.mask.grid == volume.geometry.shape:
        for line in mask_lines(finding.mask, picture.slice_index):
            _draw_line(painter, picture.of_index(line), OUTLINE_COLOUR, closed=True)
    for ends in (measured.long_axis_ends, measured.short_axis_ends):
        _draw_line(painter, picture.place(np.array(ends)), AXIS_COLOUR, closed=False)
    painter.end()
    return pixmap


def pixmap_of(grey: np.ndarray) -> QPixmap:
    """Grey levels (rows, columns) uint8 as a pixmap."""
    grey = np.ascontiguousarray(grey)
    image = QImage(grey.data, grey.shape[1], grey.shape[0], grey.shape[1], QImage.Format_Grayscale8)
    return QPixmap.fromImage(image)  # copies


def _draw_cross(painter: QPainter, picture: Thumbnail, point_lps_mm: np.ndarray) -> None:
    x, y = (float(c) for c in picture.place(np.asarray(point_lps_mm)))
    for colour, width in (("#000000", 3.4), (CROSS_COLOUR, 1.8)):  # dark below: seen on bone, too
        painter.setPen(QPen(QColor(colour), width))
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            painter.drawLine(QPointF(x + _GAP * dx, y + _GAP * dy), QPointF(x + _ARM * dx, y + _ARM * dy))


def _draw_line(painter: QPainter, places: np.ndarray, colour: str, closed: bool) -> None:
    line = QPolygonF([QPointF(float(x), float(y)) for x, y in places])
    painter.setBrush(Qt.NoBrush)
    for ink, width in ((QColor(0, 0, 0, 140), 2.8), (QColor(colour), 1.3)):
        pen = QPen(ink, width)
        pen.setJoinStyle(Qt.RoundJoin)
        painter.setPen(pen)
        (painter.drawPolygon if closed else painter.drawPolyline)(line)
