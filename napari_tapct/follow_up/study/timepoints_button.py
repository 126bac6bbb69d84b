"""The menu of a study's time points: open, locate, date, put earlier, remove."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMenu, QMessageBox, QPushButton

from tapct_core.errors import UserError
from tapct_core.lesions.timepoints import calendar_date, move_timepoint, remove_timepoint, set_date, snapshot

from ...jobs import Job
from .opening import add_scans, closed, read_scans
from .recovery import set_paths
from .relocate import missing, require_same_scan, siblings

if TYPE_CHECKING:
    from .editor import StudyEditor


class TimepointsButton(QPushButton):
    """What can be done with one time point, and with those that are not open."""

    open_closed = Signal()
    """A person wants the scans that are not open."""
    opened = Signal()
    """Scans that were located have been opened."""

    def __init__(self, editor: StudyEditor, run: Callable[[str, Callable, Callable], Job]) -> None:
        """``run`` starts a job: title, function, and what is done with its result."""
        super().__init__("Time points ▾")
        self.editor, self._run = editor, run
        self.setMenu(QMenu(self))
        self.menu().aboutToShow.connect(self._fill_menu)

    def _fill_menu(self) -> None:
        menu = self.menu()
        menu.clear()
        menu.addAction("Open those that are not open", self.open_closed.emit).setEnabled(bool(closed(self.editor)))
        for timepoint in missing(self.editor.study):
            menu.addAction(f"Locate {timepoint.name} …", partial(self._on_locate, timepoint.name))
        menu.addSeparator()
        for scan in self.editor.left_out:
            menu.addAction(f"Add {scan.name}", partial(self.editor.add, scan))
        for timepoint in self.editor.study.timepoints:
            menu.addAction(f"Date of {timepoint.name} …", partial(self.ask_date, timepoint.name))
        for before, timepoint in pairwise(self.editor.study.timepoints):
            if not (before.date and timepoint.date and before.date < timepoint.date):
                words = f"{timepoint.name} was before {before.name}"
                menu.addAction(words, partial(self.put_earlier, timepoint.name))
        for timepoint in self.editor.study.timepoints:
            menu.addAction(f"Remove {timepoint.name} …", partial(self.remove, timepoint.name))

    def put_earlier(self, name: str) -> None:
        """A time point changes places with the one before it; where their dates leave it open. Can be undone."""
        order = self.editor.study.order(name)
        try:
            self.editor.do(f"{name} earlier", lambda study: move_timepoint(study, name, order - 1))
        except UserError as error:
            show_error(str(error))

    def ask_date(self, name: str) -> None:
        """Asks for a time point's date."""
        known = self.editor.study.timepoints[self.editor.study.order(name)].date
        asked = f"Date of {name}, YYYY-MM-DD; it decides the order of time"
        text, given = QInputDialog.getText(self, "Date", asked, text=known)
        if given:
            try:
                self.give_date(name, text)
            except UserError as error:
                show_error(str(error))

    def give_date(self, name: str, text: str) -> None:
        """A person's date for a time point, and with it its place in time. Raises UserError for what is no date."""
        day = calendar_date(text)
        if not day:
            raise UserError(f"“{text.strip()}” is not a date; type it as YYYY-MM-DD")
        same = [t.name for t in self.editor.study.timepoints if t.date == day and t.name != name]
        asked = f"{same[0] if same else ''} is of {day} too. Give {name} the same date?"
        if same and QMessageBox.question(self, "Two scans of one date", asked) != QMessageBox.Yes:
            return
        scan = self.editor.scan_of(name)
        if scan is not None:
            self.editor.session.set_date(scan, day)
        else:
            self.editor.do(f"date of {name}", lambda study: set_date(study, name, day))
        if same:
            self.editor.keep_date(name)  # it was asked just now

    def _on_locate(self, name: str) -> None:
        old = Path(self.editor.study.timepoints[self.editor.study.order(name)].path)
        if old.suffix:
            path, _ = QFileDialog.getOpenFileName(self, f"Where is {old.name}?", "", "All files (*)")
        else:
            path = QFileDialog.getExistingDirectory(self, f"Where is the folder {old.name}?")
        if path:
            self.locate(name, Path(path))

    def locate(self, name: str, path: Path) -> Job:
        """Opens the scan of a time point from where it lies now, and others that moved with it; all are checked."""
        study = snapshot(self.editor.study)
        places = {name: path, **siblings(study, name, path)}

        def function(job: Job) -> tuple[dict[str, Path], tuple]:
            moved = [replace(study.timepoints[study.order(one)], path=str(place)) for one, place in places.items()]
            scans, notes, asked = read_scans(job, moved)
            notes += [f"{one}: {refused.error}" for one, refused in asked]
            right = []
            for scan in scans:
                try:
                    require_same_scan(study, scan[0], scan[1])
                    right.append(scan)
                except UserError as error:
                    notes.append(f"{scan[0]}: {error}")
            return {scan[0]: places[scan[0]] for scan in right}, (right, notes)

        def done(found: tuple) -> None:
            paths, (scans, notes) = found
            self.editor.note(lambda study: set_paths(study, paths))

            def all_there() -> None:
                for note in notes:
                    show_error(note)
                self.opened.emit()

            add_scans(self.editor, scans, all_there)

        return self._run("Looking for moved scans", function, done)

    def remove(self, name: str) -> bool:
        """Takes a time point out of the study and closes its scan; asks first where findings would go with it."""
        editor = self.editor
        found = [one.name for one in editor.study.lesions if name in one.findings]
        if found:
            asked = (
                f"{name} has findings of {count(found, 'lesion')} ({', '.join(found)}). "
                "Remove it with them? Undo brings them back."
            )
            if QMessageBox.question(self, "Remove a time point with findings?", asked) != QMessageBox.Yes:
                return False
        scan = editor.scan_of(name)
        editor.do(f"remove {name}", lambda study: remove_timepoint(study, name))
        if scan is not None:
            editor.session.viewer.layers.remove(scan.layer)
        return True


def count(things: list, what: str) -> str:
    """ "1 scan", "2 scans"."""
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"
