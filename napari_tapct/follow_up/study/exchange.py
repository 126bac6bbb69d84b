"""Findings in and out of other programs: *Import …* files into the study, *Send …* exported ones to the PACS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from .importing import FILES, Importer, ImportResult
from .sending import FILES as SENT
from .sending import SendDialog

if TYPE_CHECKING:
    from ...jobs import Job
    from .editor import StudyEditor


class ExchangeRow(QWidget):
    """The two buttons. ``run`` starts a job by its title, its work and what is done with the result."""

    def __init__(self, editor: StudyEditor, run: Callable[[str, Callable, Callable], Job]) -> None:
        super().__init__()
        self._editor, self._run = editor, run
        self.exported = ""
        """The folder that was exported into last."""
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.import_button, self.send_button = QPushButton("Import findings …"), QPushButton("Send to PACS …")
        self.import_button.setToolTip("Of other programs: SEG, RTSTRUCT, SR, label maps, a CSV of points")
        self.import_button.clicked.connect(lambda _checked: self._on_import())
        self.send_button.setToolTip("SEG and SR that were exported, to the study they belong to")
        self.send_button.clicked.connect(lambda _checked: self._on_send())
        row.addWidget(self.import_button)
        row.addWidget(self.send_button)

    def _on_import(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Import findings", "", FILES)
        if paths:
            self.import_files([Path(path) for path in paths])

    def import_files(self, paths: list[Path], timepoint: str = "") -> Job:
        """Findings of other programs into the study, as one step; a list says what became of each."""
        importer = Importer(self._editor, paths, timepoint)

        def place_at(files: list[str], name: str) -> None:
            self.import_files([path for path in paths if path.name in files], name)

        def done(placed: list) -> None:
            importer.bring(placed)
            ImportResult(placed, self._editor.study, place_at, self).open()

        title = f"Importing {paths[0].name if len(paths) == 1 else f'{len(paths)} files'}"
        return self._run(title, importer.read, done)

    def _on_send(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "SEG and SR to send", self.exported, SENT)
        if paths:
            dialog = SendDialog([Path(path) for path in paths], self)
            dialog.setAttribute(Qt.WA_DeleteOnClose)
            dialog.show()
