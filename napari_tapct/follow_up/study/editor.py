"""The study that a viewer works on: who decides, what is selected, and every change with its way back.

The parts of the follow-up widget talk through the editor. A time point of the study is bound to a scan of the session;
it stays in the study when the scan's layer is closed, since its findings do.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from psygnal import Signal

from tapct_core.errors import UserError
from tapct_core.lesions import Finding, Lesion, Study, Timepoint
from tapct_core.lesions.study_file import read_study, save_study, scan_path
from tapct_core.lesions.timepoints import (
    forget_timepoint,
    insert_timepoint,
    rename_timepoint,
    set_date,
    set_series,
    snapshot,
)

from ...scan import DATE, Scan, differs_in_patient, origin_of, patient_of, same_path
from ...session import Session, session_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from tapct_core.volume import CTVolume

T = TypeVar("T")
STEPS = 200
"""Changes that can be undone."""


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
        self.study = Study("")
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
        self._bound: dict[str, tuple[Scan, str]] = {}
        self._left_out: WeakSet[Scan] = WeakSet()
        self._vouched: WeakSet[Scan] = WeakSet()
        self._doubts: WeakKeyDictionary[Scan, str] = WeakKeyDictionary()
        self._loose: dict[str, CTVolume] = {}
        self._before: list[tuple[str, Study]] = []
        self._after: list[tuple[str, Study]] = []
        self._stamp = ""
        session.scans_changed.connect(self._on_scans_changed)
        self._on_scans_changed()

    def do(self, words: str, change: Callable[[Study], T]) -> T:
        """Applies one change that can be undone and returns what it returns; ``words`` say it ("accept L1").

        The study is as before when the change raises; a change that changes nothing leaves no step.
        """
        before = snapshot(self.study)
        try:
            result = change(self.study)
        except BaseException:
            self.study = before
            raise
        if self.study != before:
            self._before = [*self._before, (words, before)][-STEPS:]
            self._after = []
            self._settle()
        return result

    def note(self, change: Callable[[Study], object]) -> None:
        """Applies what is no decision (a proposal, a grown mask) to every remembered state, so that undo keeps it.

        ``change`` must do nothing where its lesion or time point is not there.
        """
        self._each(change)
        self._settle()

    def undo(self) -> str | None:
        """Takes the last change back and returns its words; None when there is none."""
        return self._step(self._before, self._after)

    def redo(self) -> str | None:
        """Makes the change again that was taken back last and returns its words; None when there is none."""
        return self._step(self._after, self._before)

    @property
    def undo_words(self) -> str | None:
        """What :meth:`undo` would take back."""
        return self._before[-1][0] if self._before else None

    @property
    def redo_words(self) -> str | None:
        """What :meth:`redo` would make again."""
        return self._after[-1][0] if self._after else None

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
        return self._bound.get(name or "", (None, ""))[0]

    def volume_of(self, name: str) -> CTVolume | None:
        """The volume of a time point that is open, or was open and is in no file yet."""
        scan = self.scan_of(name)
        return scan.volume if scan is not None else self._loose.get(name)

    def timepoint_of(self, scan: Scan | None) -> str | None:
        """The time point of a scan; None for a scan that belongs to none."""
        return next((name for name, (bound, _) in self._bound.items() if bound is scan), None)

    @property
    def other_patients(self) -> dict[str, str]:
        """Names of open scans that seem to be of another patient than the first one's, and what says so.

        Those that the reader has vouched for are left out.
        """
        open_ = [(t.name, self.scan_of(t.name)) for t in self.study.timepoints if self.scan_of(t.name) is not None]
        found = {name: differs_in_patient(open_[0][1].volume, scan.volume) for name, scan in open_}
        return {name: words for name, words in found.items() if words and self.scan_of(name) not in self._vouched}

    @property
    def doubtful(self) -> dict[str, str]:
        """Names of open scans that may be of another patient by what they show, and what says so."""
        found = {
            self.timepoint_of(scan): words
            for scan, words in self._doubts.items()
            if words and scan not in self._vouched
        }
        return {name: words for name, words in found.items() if name is not None}

    def doubt(self, name: str, words: str) -> None:
        """Notes what speaks against a scan being of the study's patient; "" for nothing."""
        scan = self.scan_of(name)
        if scan is not None and self._doubts.get(scan, "") != words:
            self._doubts[scan] = words
            self.changed.emit()

    def same_patient(self, name: str) -> None:
        """The reader vouches that a scan is of the study's patient, whatever speaks against it; until it is closed."""
        self._vouched.add(self.scan_of(name))
        self.changed.emit()

    def of_different_patients(self, *names: str | None) -> str:
        """Why scans must not be compared: one of them seems to be of another patient; "" where none does."""
        others = self.other_patients
        return "; ".join(f"{name} has {others[name]} than {self._reference()}" for name in names if name in others)

    def _reference(self) -> str:
        return next(t.name for t in self.study.timepoints if self.scan_of(t.name) is not None)

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
        self.study, self._before, self._after, self._bound, self._loose = study, [], [], {}, {}
        self.selected = self.timepoint = None
        self.chosen = False
        self._left_out = WeakSet(scan for scan in self.session.scans if self._known(scan) is None)
        self._adopt()
        self._settle()
        self.selection_changed.emit()

    @property
    def left_out(self) -> list[Scan]:
        """Open scans that are not of the study: they were open when it came."""
        return [scan for scan in self.session.scans if scan in self._left_out]

    def add(self, scan: Scan) -> None:
        """Takes a scan that was left out into the study."""
        self._left_out.discard(scan)
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

    def _step(self, source: list[tuple[str, Study]], target: list[tuple[str, Study]]) -> str | None:
        if not source:
            return None
        words, study = source.pop()
        target.append((words, self.study))
        self.study = study
        self._settle()
        return words

    def _settle(self) -> None:
        """What is bound, selected and compared must be there; then everybody is told."""
        if self.selected not in {lesion.uid for lesion in self.study.lesions}:
            self.select(None)
        names = [timepoint.name for timepoint in self.study.timepoints]
        for name in [name for name in self._bound if name not in names]:  # its time point was removed
            scan, _ = self._bound.pop(name)
            self._left_out.add(scan)
            self._loose[name] = scan.volume  # for undo
        without_file = {
            timepoint.name for study in self._states() for timepoint in study.timepoints if not timepoint.path
        }
        self._loose = {name: volume for name, volume in self._loose.items() if name in without_file}
        if self.timepoint not in names:
            self.chosen = False
            self.compare((names[1:] or [None])[0])
        self.changed.emit()

    def _on_scans_changed(self) -> None:
        if self._adopt():
            self._settle()

    def _adopt(self) -> bool:
        """Binds scans to time points, old ones by their file, new ones as new time points; whether anything changed.

        Which scans there are is no decision: it goes into every remembered state, and undo does not take it back.
        """
        open_ = self.session.scans
        changed = False
        for name, (scan, called) in list(self._bound.items()):
            if scan not in open_:
                self._unbind(name)
                changed = True
            elif scan.name != called:
                self._rename(name, scan)
                changed = True
        wanted = [scan for scan in open_ if scan not in self._left_out]
        for scan in wanted:
            if self.timepoint_of(scan) is None:
                self._bind(scan)
                self._put_hidden_last()
                changed = True
            name = self.timepoint_of(scan)
            if scan.date and scan.date != self.study.timepoints[self.study.order(name)].date:
                self._each(lambda study, name=name, date=scan.date: set_date(study, name, date))
                changed = True
        return changed

    def _put_hidden_last(self) -> None:
        """While nothing is dated or marked, scans stand as they were opened, those that came hidden after the others.

        Whoever opens several at once shows the one to begin with. What is looked at now says nothing: it is the scan
        that was opened last.
        """
        if not self.study.lesions and not any(timepoint.date for timepoint in self.study.timepoints):
            hidden = {name for name, (scan, _) in self._bound.items() if scan.opened_hidden}
            self._each(lambda study: study.timepoints.sort(key=lambda timepoint: timepoint.name in hidden))

    def _known(self, scan: Scan) -> Timepoint | None:
        """The unbound time point of a scan's file, or of its name if it has no file."""
        path, series = origin_of(scan.volume)
        for known in self.study.timepoints:
            same_file = same_path(known.path, path) and known.series_uid in ("", series)
            if known.name not in self._bound and (same_file or (not path and known.name == scan.name)):
                return known
        return None

    def _bind(self, scan: Scan) -> None:
        """To the time point it is of, to a new one if there is none."""
        path, series = origin_of(scan.volume)
        known = self._known(scan)
        if known is not None:
            if known.date:
                scan.layer.metadata[DATE] = known.date
            self._each(lambda study: set_series(study, known.name, series))
            self._bound[known.name] = scan, scan.name
            return
        taken = {timepoint.name for timepoint in self.study.timepoints}
        name = next(n for n in (scan.name, *(f"{scan.name} ({i})" for i in range(2, 1000))) if n not in taken)
        new, patient = Timepoint(name, path, scan.date, series), patient_of(scan.volume)
        self._each(lambda study: insert_timepoint(study, replace(new), patient))
        self._bound[name] = scan, scan.name

    def _unbind(self, name: str) -> None:
        """The scan was closed. One in no file is held until it is in one, or forgotten where nothing was found."""
        scan, _ = self._bound.pop(name)
        if not self.study.timepoints[self.study.order(name)].path:
            if any(name in lesion.findings for lesion in self.study.lesions):
                self._loose[name] = scan.volume
            else:
                self._each(lambda study: forget_timepoint(study, name))

    def _rename(self, old: str, scan: Scan) -> None:
        """The time point follows its layer's new name, unless another one has it."""
        new = old if any(known.name == scan.name for known in self.study.timepoints) else scan.name
        self._each(lambda study: rename_timepoint(study, old, new))
        del self._bound[old]
        self._bound[new] = scan, scan.name
        if self.timepoint == old:
            self.timepoint = new

    def _states(self) -> list[Study]:
        """The study as it is, and as undo and redo remember it."""
        return [self.study, *(study for _, study in (*self._before, *self._after))]

    def _each(self, change: Callable[[Study], object]) -> None:
        for study in self._states():
            change(study)


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
