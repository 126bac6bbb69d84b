"""The Scans widget: open CTs, see a patient's time points in order, window them, read off values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from tapct_core.io.suffixes import BY_FORMAT

from ..autosave import autosave_of, read_back, take_up, unfinished
from ..callbacks import living
from ..jobs import Job, JobBar, sentence
from ..panel import fit_width, scrolling_column
from ..reading import reading_of
from ..session import session_of
from ..status import StatusLine
from ..tabs import share_dock
from ..unfinished_box import UnfinishedBox
from .opening import Opener, open_with
from .window import WindowBox

if TYPE_CHECKING:
    from napari.viewer import Viewer

FILES = f"CT or labels ({' '.join(f'*{end}' for ends in BY_FORMAT.values() for end in ends)});;All files (*)"
DATE_FORM = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
ASK = "date?"


class ScansWidget(QWidget):
    """Docked widget. Scans opened by the File menu or by dropping them are listed like those opened here."""

    opened = Signal(list)
    """The layers that were added for a person, however they asked."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.bar = JobBar()
        self.opener = Opener(self.session, self, self.bar.watch)
        open_with(self.session, self.opener)
        self.opener.opened.connect(self.opened)
        column = scrolling_column(self)
        reading_of(self.session)
        autosave_of(self.session)
        self.unfinished_box = UnfinishedBox("Unfinished work", unfinished(), self._on_resume)
        column.addWidget(self.unfinished_box)
        self.unfinished_box.offer()
        column.addLayout(self._open_row())
        column.addWidget(self.bar)
        column.addWidget(self._time_points(), 1)
        column.addWidget(WindowBox(self.session))
        column.addWidget(self._under_the_mouse())
        fit_width(self, column)
        share_dock(self)
        self.session.scans_changed.connect(living(self.refresh))
        self.session.features_changed.connect(living(self._on_features))
        self.refresh()

    def _open_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        for text, hint, slot in (
            ("Open files …", "NIfTI, NRRD, MetaImage, or a slice of a DICOM series", self._on_open_files),
            ("DICOM folder …", "A folder with one or more series", self._on_open_folder),
            ("From PACS …", "A patient's CTs over DICOMweb; nothing is asked before you do", self._on_pacs),
        ):
            button = QPushButton(text)
            button.setToolTip(hint)
            button.clicked.connect(slot)
            row.addWidget(button)
        return row

    def _on_resume(self) -> None:
        old = self.unfinished_box.work
        self.unfinished_box.hide()

        def done(found: tuple) -> None:
            take_up(self.session, old, *found)
            self.opened.emit([scan.layer for scan in self.session.scans])

        def failed(error: Exception) -> None:
            self.unfinished_box.show()
            show_error(sentence("Resuming", error))

        job = Job("Reading unfinished work", lambda job: read_back(old), owner=self, done=done, failed=failed)
        self.bar.watch(job)
        job.start()

    def _time_points(self) -> QGroupBox:
        box = QGroupBox("Time points")
        column = QVBoxLayout(box)
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["Date", "Scan", "Features"])
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QTableWidget.SelectRows)
        self.table.setSelectionMode(QTableWidget.SingleSelection)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.Stretch)
        header.setSectionResizeMode(2, QHeaderView.ResizeToContents)
        self.table.setMinimumHeight(110)
        self.table.cellClicked.connect(self._on_row)
        self.table.itemChanged.connect(self._on_edited)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        column.addWidget(self.table)
        column.addWidget(self.hint)
        return box

    def _under_the_mouse(self) -> QGroupBox:
        box = QGroupBox("Under the mouse")
        self.status = StatusLine(self.session)
        QVBoxLayout(box).addWidget(self.status)
        return box

    def refresh(self) -> None:
        """Lists the session's scans anew."""
        scans = self.session.scans
        self.table.blockSignals(True)
        self.table.setRowCount(len(scans))
        for row, scan in enumerate(scans):
            cells = (scan.date or ASK, scan.name, "yes" if scan.features is not None else "–")
            for place, text in enumerate(cells):
                cell = QTableWidgetItem(text)
                if place:
                    cell.setFlags(cell.flags() & ~Qt.ItemIsEditable)
                self.table.setItem(row, place, cell)
            if scan is self.session.active:
                self.table.selectRow(row)
        self.table.blockSignals(False)
        undated = sum(not scan.date for scan in scans)
        if not scans:
            self.hint.setText("Nothing is open yet. Try File > Open Sample > TAP-CT.")
        elif undated and len(scans) > 1:
            self.hint.setText(
                f"{undated} of {len(scans)} scans have no date in their files. Double-click “{ASK}” and type "
                "YYYY-MM-DD, so that they stand in order."
            )
        else:
            self.hint.setText("Click a row to show that scan." if len(scans) > 1 else "")

    def _on_features(self, scan: Any) -> None:
        self.refresh()

    def _on_row(self, row: int, place: int) -> None:
        self.session.show(self.session.scans[row])

    def _on_edited(self, cell: QTableWidgetItem) -> None:
        text = cell.text().strip()
        if DATE_FORM.fullmatch(text) or not text:
            self.session.set_date(self.session.scans[cell.row()], text)
        else:
            self.refresh()
            self.hint.setText(f"“{text}” is not a date; type it as YYYY-MM-DD.")

    def _on_open_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Open CTs or label maps", "", FILES)
        if paths:
            self.open_files([Path(path) for path in paths])

    def _on_open_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a folder of DICOM slices")
        if path:
            self.open_folder(Path(path))

    def _on_pacs(self) -> None:
        from .pacs_dialog import PacsDialog

        dialog = PacsDialog(self.opener.open, self)
        dialog.setAttribute(Qt.WA_DeleteOnClose)
        dialog.show()

    def open_files(self, paths: Sequence[Path]) -> Job:
        """Reads files off the interface thread and adds them."""
        return self.opener.open_files(paths)

    def open_folder(self, folder: Path) -> Job:
        """Looks which CT series a folder holds; several are shown to choose from."""
        return self.opener.open_folder(folder)
