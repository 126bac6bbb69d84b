"""*Import …*: other programs' findings into the study, as one step that can be undone, and a list of what became of
each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from tapct_core.imports import Placed, import_findings
from tapct_core.imports.placing import bring
from tapct_core.io import load_ct
from tapct_core.lesions import Study
from tapct_core.lesions.timepoints import how_to_read, snapshot

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume

    from ...jobs import Job
    from .editor import StudyEditor

FILES = "Findings (*.dcm *.nii *.nii.gz *.nrrd *.mha *.mhd *.csv *.tsv);;All files (*)"


class Importer:
    """What an import needs of the study as it stands, taken on the interface thread; ``read`` runs beside it."""

    def __init__(self, editor: StudyEditor, files: Sequence[Path], timepoint: str = "") -> None:
        """``timepoint`` is where a person says that findings belong which do not say so themselves."""
        self._editor, self._files, self._timepoint = editor, list(files), timepoint
        self._before, self._after = snapshot(editor.study), snapshot(editor.study)
        self._open = {t.name: editor.volume_of(t.name) for t in self._before.timepoints}

    def read(self, job: Job) -> list[Placed]:
        """Places all findings in a copy of the study. Scans that are not open are read. Raises UserError."""
        return import_findings(self._after, self._files, self._volume, self._timepoint)

    def bring(self, placed: list[Placed]) -> int:
        """Puts what was placed into the study as one step; the number of findings."""
        count = sum(not one.failed for one in placed)
        words = f"import {count} finding{'' if count == 1 else 's'}"
        known = {lesion.uid for lesion in self._editor.study.lesions}
        self._editor.do(words, lambda study: bring(study, self._before, self._after))
        new = [lesion.uid for lesion in self._editor.study.lesions if lesion.uid not in known]
        if new:
            self._editor.select(new[0])
        return count

    def _volume(self, name: str) -> CTVolume:
        if self._open.get(name) is None:
            timepoint = self._before.timepoints[self._before.order(name)]
            path = Path(timepoint.path)
            self._open[name] = load_ct(path, **how_to_read(timepoint, path))
        return self._open[name]


class ImportResult(QDialog):
    """What became of each finding, those without a place first. Where some do not say to which scan they belong, a
    person can: ``place_at`` is called with their files and the time point."""

    def __init__(
        self, placed: list[Placed], study: Study, place_at: Callable[[list[str], str], object], parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Import")
        self.resize(620, 320)
        rows = sorted(placed, key=lambda one: not one.failed)
        failed = sum(one.failed for one in rows)
        column = QVBoxLayout(self)
        said = f"{len(rows) - failed} of {len(rows)} findings are in the study; Undo takes them out again."
        column.addWidget(QLabel(said + (" Those without a place stand first." if failed else "")))
        self.table = QTableWidget(len(rows), 3)
        self.table.setHorizontalHeaderLabels(["Finding", "Time point", "Result"])
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.NoEditTriggers)
        self.table.horizontalHeader().setSectionResizeMode(2, QHeaderView.Stretch)
        for number, one in enumerate(rows):
            words = (one.found.name, one.timepoint or "not placed", one.done)
            for place, text in enumerate(words):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{one.found.file}: {text}")
                self.table.setItem(number, place, item)
        self.table.resizeColumnsToContents()
        column.addWidget(self.table)
        files = list(dict.fromkeys(one.found.file for one in rows if one.failed and not one.found.names_a_scan))
        if files:
            column.addLayout(self._asking(files, study, place_at))
        box = QDialogButtonBox(QDialogButtonBox.Close)
        box.rejected.connect(self.reject)
        column.addWidget(box)
        self.setAttribute(Qt.WA_DeleteOnClose)

    def _asking(self, files: list[str], study: Study, place_at: Callable) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(QLabel(f"{', '.join(files)} does not say to which scan it belongs:"), 1)
        self.choice = QComboBox()
        self.choice.addItems([timepoint.name for timepoint in study.timepoints])
        self.place_button = QPushButton("Place there")

        def place() -> None:
            self.accept()
            place_at(files, self.choice.currentText())

        self.place_button.clicked.connect(place)
        row.addWidget(self.choice)
        row.addWidget(self.place_button)
        return row
