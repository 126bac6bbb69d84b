"""The study that a viewer works on: who decides, what is selected, and every change with its way back.

The parts of the follow-up widget talk through the editor. A time point of the study is bound to a scan of the session;
it stays in the study when the scan's layer is closed, since its findings do.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from psygnal import Signal

from tapct_core.errors import UserError
from tapct_core.lesions import Finding, Lesion, Study
from tapct_core.lesions.study_file import read_study, save_study, scan_path
from tapct_core.lesions.timepoints import snapshot

from ...scan import Scan
from ...session import Session, session_of
from .bound_scans import BoundScans
from .history import History
from .patient_check import PatientCheck

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from tapct_core.volume import CTVolume

T = TypeVar("T")


class StudyEditor:
    """One viewer's study. Get it with :func:`editor_of`; hold that, never its ``study``: undo puts another there."""

    changed = Signal()
    """The study is another: a decision, a mask, a time point, undo, or a file that was opened."""
    selection_changed = Signal()
    mask_lost = Signal(str, str, bool)
    """A finding was moved off its mask: tracking UID, time point, and whether a person had drawn it."""
    timepoint_changed = Signal()
    """Another follow-up is compared."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._history = History(Study(""))
        self._scans = BoundScans(session, self._history)
        self._patients = PatientCheck(self._history, self._scans)
        self.path: Path | None = None
        """The study's file, None while it has none."""
        self.reader = _login()
        """Who decides, as the study's file will say."""
        self.selected: str | None = None
        """Tracking UID of the lesion that all parts show."""
        self.timepoint: str | None = None
        """Name of the follow-up that is compared."""
        self.chosen = False
        """Whether a person has chosen it."""
        self._stamp = ""
        session.scans_changed.connect(self._on_scans_changed)
        self._on_scans_changed()

    @property
    def study(self) -> Study:
        """The study as it is now."""
        return self._history.study

    def do(self, words: str, change: Callable[[Study], T]) -> T:
        """Applies one change that can be undone and returns what it returns; ``words`` say it ("accept L1").

        The study is as before when the change raises; a change that changes nothing leaves no step.
        """
        result, changed = self._history.do(words, change)
        if changed:
            self._settle()
        return result

    def note(self, change: Callable[[Study], object]) -> None:
        """Applies what is no decision (a proposal, a grown mask) to every remembered state, so that undo keeps it.

        ``change`` must do nothing where its lesion or time point is not there.
        """
        self._history.each(change)
        self._settle()

    def undo(self) -> str | None:
        """Takes the last change back and returns its words; None when there is none."""
        return self._settled(self._history.undo())

    def redo(self) -> str | None:
        """Makes the change again that was taken back last and returns its words; None when there is none."""
        return self._settled(self._history.redo())

    @property
    def undo_words(self) -> str | None:
        """What :meth:`undo` would take back."""
        return self._history.undo_words

    @property
    def redo_words(self) -> str | None:
        """What :meth:`redo` would make again."""
        return self._history.redo_words

    def select(self, uid: str | None) -> None:
        """Shows one lesion in all parts, or none."""
        if uid is not None:
            self.study.lesion(uid)
        if uid != self.selected:
            self.selected = uid
            self.selection_changed.emit()

    @property
    def lesion(self) -> Lesion | None:
        """The selected lesion."""
        return None if self.selected is None else self.study.lesion(self.selected)

    def finding(self, timepoint: str | None = None) -> Finding | None:
        """The selected lesion's finding at a time point, the compared one unless said otherwise."""
        return self.lesion.findings.get(timepoint or self.timepoint or "") if self.lesion else None

    def set_timepoint(self, name: str) -> None:
        """A person compares another follow-up. Raises UserError for an unknown name."""
        self.study.order(name)
        self.chosen = True
        self.compare(name)

    def compare(self, name: str | None) -> None:
        """Compares another follow-up, or none; nobody has chosen it."""
        if name != self.timepoint:
            self.timepoint = name
            self.timepoint_changed.emit()

    def scan_of(self, name: str | None) -> Scan | None:
        """The open scan of a time point; None while it is not open."""
        return self._scans.scan_of(name)

    def volume_of(self, name: str) -> CTVolume | None:
        """The volume of a time point that is open, or was open and is in no file yet."""
        return self._scans.volume_of(name)

    def timepoint_of(self, scan: Scan | None) -> str | None:
        """The time point of a scan; None for a scan that belongs to none."""
        return self._scans.timepoint_of(scan)

    @property
    def other_patients(self) -> dict[str, str]:
        """Names of open scans that seem to be of another patient than the first one's, and what says so."""
        return self._patients.others

    @property
    def doubtful(self) -> dict[str, str]:
        """Names of open scans that may be of another patient by what they show, and what says so."""
        return self._patients.doubtful

    @property
    def same_dates(self) -> dict[str, str]:
        """Names of time points that came with another one's date, and that one's name, until a person says it is so."""
        return self._scans.same_dates

    def keep_date(self, name: str) -> None:
        """A person says that a time point is of the date that another one has, too."""
        self._scans.keep_date(name)
        self.changed.emit()

    def doubt(self, name: str, words: str) -> None:
        """Notes what speaks against a scan being of the study's patient; "" for nothing."""
        if self._patients.doubt(name, words):
            self.changed.emit()

    def same_patient(self, name: str) -> None:
        """The reader vouches that a scan is of the study's patient, whatever speaks against it; until it is closed."""
        self._patients.vouch(name)
        self.changed.emit()

    def of_different_patients(self, *names: str | None) -> str:
        """Why scans must not be compared: one of them seems to be of another patient; "" where none does."""
        return self._patients.why_not_compared(*names)

    def load(self, path: str | Path) -> None:
        """Takes up a study's file; its scans are bound as far as they are open. Raises UserError if it cannot be read.

        What was undone or could be undone before is forgotten.
        """
        path = Path(path)
        study, stamp = read_study(path)
        for timepoint in study.timepoints:
            timepoint.path = str(scan_path(path, timepoint).absolute())
        self.path, self._stamp = path, stamp
        self.begin(study)

    def begin(self, study: Study) -> None:
        """Works on ``study`` from here on, whose scans' paths are absolute or count from where the program runs.

        Scans that are open and not of this study are left out of it.
        """
        self._history.begin(study)
        self.selected = self.timepoint = None
        self.chosen = False
        self._scans.begin()
        self._adopt()
        self._settle()
        self.selection_changed.emit()

    @property
    def left_out(self) -> list[Scan]:
        """Open scans that are not of the study: they were open when it came."""
        return self._scans.left_out

    def add(self, scan: Scan) -> None:
        """Takes a scan that was left out into the study."""
        self._scans.take_in(scan)
        self._on_scans_changed()

    def save(self, path: str | Path | None = None) -> Path:
        """Writes the study to ``path``, from then on its file, or to the file that it has; returns the file.

        Raises UserError when there is no file, when another program has changed it since, and for scans in no file.
        """
        target = Path(path) if path is not None else self.path
        if target is None:
            raise UserError("the study has no file yet; choose one with 'Save study as …'")
        nowhere = [timepoint.name for timepoint in self.study.timepoints if not timepoint.path]
        if nowhere or not self.study.timepoints:
            what = f"the scan {nowhere[0]!r} is in no file" if nowhere else "the study has no scans"
            raise UserError(f"{what}; a study's file names the files of its scans")
        written = snapshot(self.study)
        for timepoint in written.timepoints:
            timepoint.path = _shortened(timepoint.path, target)
        self._stamp = save_study(written, target, self._stamp if path is None else None)
        self.path = target
        return target

    def _settle(self) -> None:
        """What is bound, selected and compared must be there; then everybody is told."""
        if self.selected not in {lesion.uid for lesion in self.study.lesions}:
            self.select(None)
        names = [timepoint.name for timepoint in self.study.timepoints]
        self._scans.release()
        if self.timepoint not in names:
            self.chosen = False
            self.compare((names[1:] or [None])[0])
        self.changed.emit()

    def _settled(self, words: str | None) -> str | None:
        """After a step back or forth, if there was one."""
        if words is not None:
            self._settle()
        return words

    def _adopt(self) -> bool:
        changed, renamed = self._scans.adopt()
        self.timepoint = renamed.get(self.timepoint, self.timepoint)
        return changed

    def _on_scans_changed(self) -> None:
        if self._adopt():
            self._settle()


def _shortened(path: str, study_path: Path) -> str:
    """A scan's path as the study's file says it: relative when it lies in the study's folder or below."""
    folder = study_path.absolute().parent
    return str(Path(path).relative_to(folder)) if path and Path(path).is_relative_to(folder) else path


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a system without accounts
        return "reader"


_editors: WeakKeyDictionary[Viewer, StudyEditor] = WeakKeyDictionary()


def editor_of(viewer: Viewer) -> StudyEditor:
    """The editor of a viewer, made on first use. napari hands widgets a proxy; the viewer itself is the key."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _editors:
        _editors[viewer] = StudyEditor(session_of(viewer))
    return _editors[viewer]
