"""Which of a folder's DICOM series to open: thumbnails and descriptions to choose from."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from tapct_core.hu_windows import grey_levels
from tapct_core.io import SeriesInfo
from tapct_core.io.dicom_opening import open_dicom, require_size

log = logging.getLogger(__name__)

THUMBNAIL = 96
"""Pixels of the longer side."""


def thumbnail(series: SeriesInfo) -> np.ndarray | None:
    """The slice half way along as grey levels, uint8 (rows, columns), in the soft tissue window; None if unreadable."""
    rows, columns = series.shape[1:]
    try:
        header = open_dicom(series.middle_file, pixel_bytes=rows * columns * 8)
        require_size(header, rows, columns, series.middle_file.name)
        step = max(1, max(header.Rows, header.Columns) // (2 * THUMBNAIL))
        stored = header.pixel_array[::step, ::step].astype(np.float32)
        hu = stored * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
    except Exception as error:  # whatever a damaged file raises, the series can still be chosen by its words
        log.info("no thumbnail: %s", type(error).__name__)
        return None
    return grey_levels(hu)


def words(series: SeriesInfo) -> str:
    """A series as a person tells it from others."""
    date = f"{series.date[:4]}-{series.date[4:6]}-{series.date[6:8]}" if len(series.date) == 8 else "no date"
    kernel = f", kernel {series.kernel}" if series.kernel else ""
    return f"{series.description or 'no description'}\n{date}, {series.slices} slices{kernel}"


class SeriesPicker(QDialog):
    """``chosen`` holds the series that are ticked; at first the one with most slices is."""

    def __init__(
        self, series: Sequence[SeriesInfo], pictures: Sequence[np.ndarray | None], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Which series?")
        self._series = list(series)
        self.list = QListWidget()
        self.list.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.list.setMinimumSize(420, 320)
        most = max(range(len(self._series)), key=lambda i: self._series[i].slices)
        for i, (one, picture) in enumerate(zip(self._series, pictures, strict=True)):
            item = QListWidgetItem(words(one))
            item.setFlags(item.flags() | Qt.ItemIsUserCheckable)
            item.setCheckState(Qt.Checked if i == most else Qt.Unchecked)
            if picture is not None:
                item.setIcon(icon_of(picture))
            self.list.addItem(item)
        buttons = QDialogButtonBox(QDialogButtonBox.Open | QDialogButtonBox.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addWidget(QLabel(f"This folder holds {len(self._series)} CT series. Tick those to open."))
        column.addWidget(self.list)
        column.addWidget(buttons)

    @property
    def chosen(self) -> list[SeriesInfo]:
        """The ticked series."""
        ticked = [self.list.item(i).checkState() == Qt.Checked for i in range(self.list.count())]
        return [one for one, on in zip(self._series, ticked, strict=True) if on]


def icon_of(grey: np.ndarray) -> QIcon:
    """A picture (rows, columns) uint8 as an icon of THUMBNAIL pixels."""
    grey = np.ascontiguousarray(grey)
    image = QImage(grey.data, grey.shape[1], grey.shape[0], grey.shape[1], QImage.Format_Grayscale8).copy()
    return QIcon(QPixmap.fromImage(image).scaled(THUMBNAIL, THUMBNAIL, Qt.KeepAspectRatio, Qt.SmoothTransformation))
