"""Opening, saving, exporting and resuming a study."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
)

from tapct_core.errors import UserError
from tapct_core.export.folder import export_all
from tapct_core.lesions.study_file import read_study
from tapct_core.lesions.timepoints import set_series, snapshot

from ...callbacks import living
from ...jobs import Job, JobBar, sentence
from ...scans.asking import Asked, WordDialog
from ...unfinished_box import UnfinishedBox
from .exchange import ExchangeRow
from .opening import add_scans, closed, read_scans
from .other_scans import OtherScans
from .painted import put_painting
from .recovery import bring_scans, cannot_write, recovery_of, set_paths, unfinished_studies
from .relocate import missing
from .timepoints_button import TimepointsButton, count

if TYPE_CHECKING:
    from tapct_core.lesions import Lesion

    from .editor import StudyEditor

FILES = "Study (*.json)"
SAVING = "Saving"
WITH_PATIENT = (
    "SEG and SR hold the patient's name, ID and dates, as their images do; table and report hold the patient's key, "
    "dates and initials.\n\nLeave the patient out (DICOM PS3.15, basic profile)? Scans and lesions are then numbered, "
    "and SEG and SR no longer refer to their images."
)
"""What is asked before an export."""


class StudyBar(QGroupBox):
    """The study's file, who reads it, and what can be done with the whole of it."""

    opened = Signal()
    """A study was opened and its scans were read."""
    exported = Signal(list)
    """Files that were written."""

    def __init__(self, editor: StudyEditor, bar: JobBar) -> None:
        super().__init__("Study")
        self.editor, self.bar = editor, bar
        self.recovery = recovery_of(editor)
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.reader = QLineEdit(editor.reader)
        self.reader.setToolTip("Initials or a role: each decision is stored with it, and with the time")
        self.reader.textEdited.connect(self._on_reader)
        column = QVBoxLayout(self)
        self.unfinished_box = UnfinishedBox("Unfinished study", unfinished_studies(), self._on_resume)
        column.addWidget(self.unfinished_box)
        self.unfinished_box.offer()
        grid = QGridLayout()
        for place, (text, hint, slot) in enumerate(
            (
                ("Open …", "A study's JSON file; its scans are opened with it", self._on_open),
                ("Save as …", "One JSON file a patient; from then on every change goes into it", self._on_save_as),
                ("Export …", "Table, report with pictures, DICOM SEG and SR, into a folder", self._on_export),
            )
        ):
            button = QPushButton(text)
            button.setToolTip(hint)
            button.clicked.connect(lambda _checked, slot=slot: slot())
            grid.addWidget(button, 0, place)
        self.timepoints = TimepointsButton(editor, self._run)
        self.timepoints.open_closed.connect(self.open_closed)
        self.timepoints.opened.connect(self._on_located)
        grid.addWidget(self.timepoints, 0, 3)
        column.addLayout(grid)
        self.exchange = ExchangeRow(editor, self._run)
        column.addWidget(self.exchange)
        row = QHBoxLayout()
        row.addWidget(QLabel("Reader"))
        row.addWidget(self.reader, 1)
        column.addLayout(row)
        column.addWidget(self.state)
        self.others = OtherScans(editor, self.timepoints.remove, self.timepoints.ask_date)
        column.addWidget(self.others)
        self.recovery.saved.connect(self.refresh)
        self.recovery.failed.connect(self.state.setText)
        editor.changed.connect(living(self.refresh))
        self.refresh()

    @property
    def asks(self) -> bool:
        """Whether something here waits for a person: unfinished work, lost files, scans of other patients."""
        return self._lost or not self.unfinished_box.isHidden() or not self.others.isHidden()

    def summary(self) -> str:
        """What is open and where it is saved, in plain words."""
        return re.sub("<[^>]*>", "", self.state.text())

    _lost = False

    def refresh(self) -> None:
        """Says what is open and where it is saved."""
        editor, study = self.editor, self.editor.study
        name = f"<b>{editor.path.name}</b>" if editor.path else "New, in no file of yours yet"
        words = [f"{name}: {count(study.timepoints, 'scan')}, {count(study.lesions, 'lesion')}."]
        unopened = [t.name for t in study.timepoints if editor.scan_of(t.name) is None]
        if unopened:
            words.append(f"Not open: {', '.join(unopened)}.")
        gone = missing(study)
        self._lost = bool(gone)
        if gone:
            lost = ", ".join(timepoint.name for timepoint in gone)
            words.append(f"⚠ Not where the study says: {lost}. Time points ▾ has “Locate …”.")
        self.state.setText(" ".join(words))
        self.state.setToolTip(
            str(editor.path) if editor.path else "Kept among the program's own files until you save it"
        )
        if self.reader.text() != editor.reader:
            self.reader.setText(editor.reader)

    def _on_reader(self, text: str) -> None:
        self.editor.reader = text.strip()

    # What was left behind.

    def _on_resume(self) -> None:
        old = self.unfinished_box.work
        try:
            if old.file is not None:
                self.open_study(old.file)
            else:
                study, _ = read_study(old.entry)
                self.recovery.take(None)
                self.recovery.leave()
                self.editor.path = None
                self.editor.begin(study)
                self.open_closed()
        except UserError as error:
            show_error(str(error))
            return
        self._painted = old.painting
        self._put_painting()
        self.recovery.replaces(old)
        self.unfinished_box.hide()

    _painted: Lesion | None = None
    """What was being painted, until its scans are open."""

    def _put_painting(self) -> None:
        """What was being painted comes back as one step, once all of its scans are open."""
        painted, volumes = self._painted, self._volumes()
        if painted is None or not set(painted.findings) <= set(volumes):
            return
        self._painted, editor = None, self.editor
        editor.do(f"paint {painted.name}", lambda study: put_painting(study, painted, volumes, editor.reader))

    # Open, save, export.

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a study", "", FILES)
        if path:
            try:
                self.open_study(Path(path))
            except UserError as error:
                show_error(str(error))

    def open_study(self, path: Path) -> None:
        """Takes up a study's file and opens its scans. What was worked on before is saved first.

        Raises UserError when it cannot be read or is open in another window.
        """
        read_study(path)  # before anything is given up for it
        self.recovery.take(path)
        self.recovery.leave()
        self.editor.load(path)
        self.recovery.save()
        self.open_closed()

    def open_closed(self) -> Job | None:
        """Opens the scans of the study that are not open; None when there are none."""
        timepoints = closed(self.editor)
        if not timepoints:
            self.opened.emit()
            return None

        def done(read: tuple) -> None:
            scans, notes, asked = read

            def all_there() -> None:
                for note in notes:
                    show_error(note)
                self.refresh()
                self._put_painting()
                self.opened.emit()
                self._ask(asked)

            add_scans(self.editor, scans, all_there)

        return self._run("Opening scans", lambda job: read_scans(job, timepoints), done)

    def _on_located(self) -> None:
        self.refresh()
        self.opened.emit()

    def _ask(self, asked: list[tuple[str, Asked]]) -> None:
        """Asks how scans are to be read that do not open without a person's word; the study keeps what was said."""
        if not asked:
            return
        name, one = asked[0]
        dialog = WordDialog(one, self)

        def finished(_: int) -> None:
            if dialog.result() == WordDialog.Accepted:
                how = one.said(dialog.chosen).how
                self.editor.note(lambda study: set_series(study, name, "", how))
                self.open_closed()
            else:
                self._ask(asked[1:])

        dialog.finished.connect(finished)
        dialog.setAttribute(Qt.WA_DeleteOnClose)
        dialog.open()

    def _on_save_as(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the study as", "study.json", FILES)
        if path:
            self.save_as(Path(path))

    def save_as(self, path: Path) -> Job | None:
        """Saves the study to a file, which is its own from then on; scans that are in no file are written beside it."""
        path = path if path.suffix else path.with_suffix(".json")
        study, volumes = snapshot(self.editor.study), self._volumes()
        try:
            self.recovery.take(path)
        except UserError as error:
            show_error(str(error))
            return None

        def done(paths: dict[str, Path]) -> None:
            self.editor.note(lambda study: set_paths(study, paths))
            try:
                self.editor.save(path)
            except (UserError, OSError) as error:
                show_error(cannot_write(error) if isinstance(error, OSError) else str(error))
                return
            self.recovery.save()
            self.refresh()

        return self._run(f"{SAVING} {path.name}", lambda job: bring_scans(study, volumes, path, job.report), done)

    def _on_export(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Export into a folder")
        if not folder:
            return
        answers = QMessageBox.Yes | QMessageBox.No | QMessageBox.Cancel
        answer = QMessageBox.question(self, "Export", WITH_PATIENT, answers, QMessageBox.No)
        if answer != QMessageBox.Cancel:
            self.export(Path(folder), deidentified=answer == QMessageBox.Yes)

    def export(self, folder: Path, deidentified: bool = False) -> Job:
        """Writes table, report, SEG and SR into a folder, with the patient or without; says which."""
        study, volumes = snapshot(self.editor.study), self._volumes()

        def done(result: tuple) -> None:
            files, notes = result
            show_info("\n".join([f"{len(files)} files in {folder}: {', '.join(file.name for file in files)}", *notes]))
            self.exchange.exported = str(folder)
            self.exported.emit(files)

        def work(job: Job) -> tuple:
            return export_all(study, volumes, folder, job.report, job.cancelled, deidentified)

        return self._run("Exporting", work, done)

    def _volumes(self) -> dict:
        scans = {t.name: self.editor.scan_of(t.name) for t in self.editor.study.timepoints}
        return {name: scan.volume for name, scan in scans.items() if scan is not None}

    def _run(self, title: str, function: Callable, done: Callable) -> Job:
        def failed(error: Exception) -> None:
            saving = isinstance(error, OSError) and title.startswith(SAVING)
            show_error(cannot_write(error) if saving else sentence(title, error))

        job = Job(title, function, owner=self, done=done, failed=failed)
        self.bar.watch(job)
        return job.start()
