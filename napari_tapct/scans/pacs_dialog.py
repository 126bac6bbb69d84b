"""*From PACS …*: a patient's CT series with dates and pictures, those of prior studies proposed; got, and opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from tapct_core.errors import UserError
from tapct_core.pacs import Connection, RemoteSeries, find_series, get_series, picture_of, proposed, with_priors

from ..jobs import Job, JobBar
from .pacs_server import ServerBar
from .series_picker import THUMBNAIL, icon_of

Found = tuple[list[RemoteSeries], list[RemoteSeries]]
"""All series of the patients, and those that are proposed."""
SERIES = Qt.UserRole
_folder = ""
"""Where scans were put last, while the program runs."""


class PacsDialog(QDialog):
    """Asks for a patient, shows what there is, fetches what is ticked. ``open_folders`` opens what has come."""

    def __init__(self, open_folders: Callable[[list[Path]], object], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("From PACS")
        self.resize(760, 620)
        self._open_folders = open_folders
        self.bar = JobBar()
        self.server = ServerBar(self.bar)
        self.patient, self.name, self.accession = QLineEdit(), QLineEdit(), QLineEdit()
        self.name.setPlaceholderText("DOE^J*")
        form = QFormLayout()
        for words, line in (("Patient ID", self.patient), ("or name", self.name), ("or accession no.", self.accession)):
            form.addRow(words, line)
            line.returnPressed.connect(self.find)
        self.find_button = QPushButton("Find")
        self.find_button.clicked.connect(lambda _checked: self.find())
        self.get_button = QPushButton("Get and open")
        self.get_button.clicked.connect(lambda _checked: self.get())
        for button in (self.find_button, self.get_button, self.bar.cancel_button):
            button.setAutoDefault(False)  # Enter in a line means Find; it would press Cancel as well
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["Series", "Date", "Images"])
        self.tree.setIconSize(QSize(THUMBNAIL // 2, THUMBNAIL // 2))
        # napari's theme draws an empty box in the colour of the list.
        self.tree.setStyleSheet("QTreeWidget::indicator:unchecked { border: 1px solid gray; }")
        self.tree.setSelectionMode(QAbstractItemView.NoSelection)
        self.tree.header().setSectionResizeMode(0, QHeaderView.Stretch)
        self.tree.header().setStretchLastSection(False)
        self.tree.itemChanged.connect(lambda *_: self._say())
        self.hint = QLabel("Ticked at first: the latest study, and the like of it in each prior one.")
        self.hint.setWordWrap(True)
        column = QVBoxLayout(self)
        column.addWidget(self.server)
        column.addLayout(form)
        column.addWidget(self.find_button)
        column.addWidget(self.tree, 1)
        column.addWidget(self.hint)
        column.addWidget(self.bar)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.get_button)
        column.addLayout(row)
        self._pictures: Job | None = None
        self._say()

    def find(self) -> Job | None:
        """Asks for the patient's series."""
        asked = {"patient": self.patient.text(), "name": self.name.text(), "accession": self.accession.text()}
        return self.server.run("Asking the PACS", lambda job, server: find(server, asked), self._show)

    @property
    def chosen(self) -> list[RemoteSeries]:
        """The series that are ticked."""
        return [item.data(0, SERIES) for item in self._items() if item.checkState(0) == Qt.Checked]

    def _items(self) -> list[QTreeWidgetItem]:
        studies = [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]
        return [study.child(k) for study in studies for k in range(study.childCount())]

    def _show(self, found: Found) -> None:
        series, picked = found
        self.tree.clear()
        studies: dict[str, QTreeWidgetItem] = {}
        for one in reversed(series):  # the latest first
            if one.study_uid not in studies:
                who = f"{one.patient_name or 'no name'} ({one.patient_id or 'no ID'})"
                words = f"{who}: {one.study_description or 'no description'}"
                studies[one.study_uid] = QTreeWidgetItem(self.tree, [words, day(one.date), ""])
                studies[one.study_uid].setFlags(Qt.ItemIsEnabled)
            texts = [one.description or "no description", day(one.date), str(one.images or "?")]
            item = QTreeWidgetItem(studies[one.study_uid], texts)
            item.setData(0, SERIES, one)
            item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsUserCheckable)
            item.setCheckState(0, Qt.Checked if one in picked else Qt.Unchecked)
        self.tree.expandAll()
        self._say()
        self._look(series)

    def _look(self, series: list[RemoteSeries]) -> None:
        """Fetches a picture of each series, the latest first; nobody waits for them."""
        if self._pictures is not None:
            self._pictures.drop()
        self._pictures = self.server.run(
            "Looking at each series", lambda job, server: look(job, server, series[::-1]), lambda _: None,
            part=self._put_picture,
        )  # fmt: skip

    def _put_picture(self, part: tuple[str, np.ndarray]) -> None:
        uid, picture = part
        for item in self._items():
            if item.data(0, SERIES).series_uid == uid:
                item.setIcon(0, icon_of(picture))

    def _say(self) -> None:
        chosen = self.chosen
        patients = {one.patient_id for one in chosen}
        self.get_button.setEnabled(bool(chosen) and len(patients) == 1)
        if len(patients) > 1:
            self.hint.setText("These are of several patients. A follow-up has one: untick the others.")
        elif chosen:
            images = sum(one.images for one in chosen)
            self.hint.setText(f"{len(chosen)} series, {images} images. What is here already is not fetched again.")

    def get(self, folder: Path | None = None) -> Job | None:
        """Fetches what is ticked into a folder that a person chooses, and opens it."""
        global _folder
        if folder is None:
            words = QFileDialog.getExistingDirectory(self, "Put the scans into", _folder)
            if not words:
                return None
            folder = Path(words)
        _folder = str(folder)
        if self._pictures is not None:
            self._pictures.drop()
        chosen = self.chosen

        def done(folders: list[Path]) -> None:
            self._open_folders(folders)
            self.accept()

        def ended() -> None:
            if job is not None and job.cancelled():
                show_info("Stopped. What has come is kept; “Get and open” goes on from there.")

        job = self.server.run(f"Getting {len(chosen)} series", lambda j, s: get(j, s, chosen, folder), done, ended)
        return job


def find(server: Connection, asked: dict[str, str]) -> Found:
    """The series of the patients asked for, with prior studies, and those proposed; on a worker's thread."""
    found = find_series(server, **asked)
    if not found:
        raise UserError(f"{server.host} has no CT for that; check what you asked for")
    everything = with_priors(server, found)
    picked = []
    for patient in dict.fromkeys(one.patient_id for one in found):
        first = proposed([one for one in found if one.patient_id == patient])
        picked += proposed([one for one in everything if one.patient_id == patient], first[-1]) if first else []
    return everything, picked


def look(job: Job, server: Connection, series: list[RemoteSeries]) -> None:
    """Sends (UID, picture) of each series that has one; on a worker's thread."""
    for number, one in enumerate(series):
        job.report(number, len(series))
        if job.cancelled():
            break
        picture = picture_of(server, one)
        if picture is not None:
            job.send((one.series_uid, picture))


def get(job: Job, server: Connection, series: list[RemoteSeries], folder: Path) -> list[Path]:
    """The folders of the series, all whole; on a worker's thread."""
    total, before, folders = sum(max(1, one.images) for one in series), 0, []
    for one in series:
        came = get_series(
            server, one, folder, lambda done, _, before=before: job.report(before + done, total), job.cancelled
        )
        if came is None:
            break
        folders.append(came)
        before += max(1, one.images)
    return folders


def day(date: str) -> str:
    """YYYYMMDD for people."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else "no date"
