"""No decision is lost: the study goes to disk within seconds, and comes back after a crash.

A study that has a file is saved into it. One that has none yet is kept among the program's own files, beside a
pointer to each study that is being worked on:

    studies/
      3f2a….json        a study without a file of its own, or {"opened": its file}
      3f2a….lock        held by the process that works on it
      3f2a….painting    a mask that was not finished, see painted.py
      scans/HASH.nii.gz a scan that came from no file

What a clean end leaves behind is offered again only if it has no file of its own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from qtpy.QtCore import QCoreApplication, QLockFile, Signal

from tapct_core.atomic import atomic_path
from tapct_core.errors import UserError
from tapct_core.export.folder import file_stem
from tapct_core.io.nifti import write_scan
from tapct_core.lesions import Lesion, Study
from tapct_core.lesions.study_file import LARGEST_STUDY, load_study, save_study
from tapct_core.lesions.timepoints import snapshot
from tapct_core.strict_json import read_json
from tapct_core.write_lock import opened_mark

from ...jobs import Job
from ...recovery import Recovery, left_behind, state_folder
from .painted import painting_of, read_painting, write_painting

if TYPE_CHECKING:
    from psygnal import SignalInstance

    from tapct_core.volume import CTVolume

    from .editor import StudyEditor

OPENED = "opened"


class Painter(Protocol):
    """Where masks are painted: a widget whose ``stroked`` tells of each stroke."""

    stroked: SignalInstance
    destroyed: Any

    def unfinished(self) -> Lesion | None:
        """The lesion that is being painted, with what is painted so far; None where there is nothing yet."""

    def done(self) -> None:
        """Puts it into the study."""


def studies_folder() -> Path:
    """Where studies without a file of their own are kept."""
    return state_folder() / "studies"


@dataclass(frozen=True)
class UnfinishedStudy:
    """A study that a process left behind. ``file`` is its own file, None if it has none."""

    entry: Path
    saved: float
    file: Path | None
    lesions: int

    @property
    def words(self) -> str:
        """For people."""
        when = time.strftime("%d %b %H:%M", time.localtime(self.saved))
        what = f"The study {self.file.name}" if self.file else "A study that was never saved to a file"
        painting = ", with a mask that was being painted" if painting_of(self.entry).is_file() else ""
        return f"{what}, {self.lesions} lesion{'' if self.lesions == 1 else 's'}{painting}, of {when} is still here."

    @property
    def painting(self) -> Lesion | None:
        """The lesion that was being painted. Raises UserError for a damaged file."""
        return read_painting(self.entry)

    def remove(self) -> None:
        """Removes the entry; a study's own file stays, and the scans of one that has none."""
        painting_of(self.entry).unlink(missing_ok=True)
        self.entry.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes what is kept of it; a study's own file stays."""
        if self.file is None:
            for timepoint in load_study(self.entry).timepoints:
                if is_kept(timepoint.path):
                    Path(timepoint.path).unlink(missing_ok=True)
        self.remove()


def unfinished_studies() -> list[UnfinishedStudy]:
    """What was left behind by processes that are gone, the newest first. Damaged entries are passed over."""
    return left_behind(studies_folder().glob("*.json"), _left)


def _left(entry: Path) -> UnfinishedStudy:
    words = read_json(entry, LARGEST_STUDY)
    file = Path(words[OPENED]) if OPENED in words else None
    return UnfinishedStudy(entry, entry.stat().st_mtime, file, len(load_study(file or entry).lesions))


class StudyRecovery(Recovery):
    """Saves one editor while there is something new. Get it with :func:`recovery_of`."""

    failed = Signal(str)
    """Why the study could not be saved; it is tried again after the next change."""

    def __init__(self, editor: StudyEditor) -> None:
        super().__init__(studies_folder(), ".json")
        self._editor: StudyEditor | None = editor
        self._job: Job | None = None
        self._file_lock: QLockFile | None = None
        self._painter: Painter | None = None
        editor.changed.connect(self._on_changed)
        QCoreApplication.instance().aboutToQuit.connect(self.close)

    def paints(self, painter: Painter | None) -> None:
        """Whose strokes are kept, too; None: nobody's any more."""
        self._painter = painter
        if painter is not None:
            painter.stroked.connect(self._on_changed)
            painter.destroyed.connect(self._on_painter_gone)

    def _on_painter_gone(self, *_: object) -> None:
        self._painter = None

    def take(self, path: Path | None) -> None:
        """Keeps others away from a study's file (None: from none). Raises UserError where somebody works on it."""
        if path is not None and self._file_lock is not None and self._file_lock.fileName() == str(opened_mark(path)):
            return
        lock = None
        if path is not None:
            lock = QLockFile(str(opened_mark(path)))
            lock.setStaleLockTime(0)  # however long it is held: only a process that is gone loses it
            if not lock.tryLock(0) and lock.error() == QLockFile.LockFailedError:
                raise UserError(f"{path.name} is being worked on in another window; close it there first")
        if self._file_lock is not None:
            self._file_lock.unlock()
        self._file_lock = lock

    def save(self, wait: bool = False) -> None:
        """Saves now. A study without a file and without lesions is nothing to lose yet.

        Scans that are in no file are written first, beside the interface thread unless ``wait``.
        """
        editor = self._editor
        self._dirty = False
        painted = self._painter is not None and self._painter.unfinished() is not None
        if editor is None or not (editor.study.lesions or editor.path or painted):
            return
        try:
            self._hold()
            without_file = self._without_file(editor)
            if without_file and not wait:
                self._bring_scans(editor, without_file)
                return
            if without_file:
                paths = self._written(snapshot(editor.study), editor.path, without_file, lambda *_: None)
                editor.note(lambda study: set_paths(study, paths))
            if editor.path is not None:
                editor.save()
                self._write_pointer(editor.path)
            else:
                save_study(snapshot(editor.study), self.entry)
            if self._painter is not None:
                write_painting(self.entry, editor.study, self._painter.unfinished())
        except UserError as error:
            self.failed.emit(f"The study could not be saved: {error}")
            return
        except OSError as error:
            self.failed.emit(cannot_write(error))
            return
        for old in self._replaces:
            if old.entry != self.entry:
                old.remove()
        self._replaces = []
        self.saved.emit()

    @staticmethod
    def _without_file(editor: StudyEditor) -> dict[str, CTVolume]:
        """Scans that are in no file, by time point. Raises UserError for one that is nowhere else either."""
        found = {t.name: editor.volume_of(t.name) for t in editor.study.timepoints if not t.path}
        lost = [name for name, volume in found.items() if volume is None]
        if lost:
            raise UserError(f"the scan {lost[0]!r} is in no file and not open; open it again, or remove its time point")
        return found

    def leave(self) -> None:
        """Another study comes: saves this one, which stays to be offered at the next start if it has no file."""
        self._end()
        self._begin_entry()

    def close(self) -> None:
        """The work ends as it should: saves, lets go of the files, and leaves nothing to resume that has a file."""
        self._timer.stop()
        if self._editor is not None:
            self._end()
            self.take(None)
            _recoveries.pop(self._editor, None)
            self._editor = None

    def _end(self) -> None:
        if self._painter is not None:
            self._painter.done()
        self.save(wait=True)
        with contextlib.suppress(OSError):  # it was said already why nothing can be written there
            painting_of(self.entry).unlink(missing_ok=True)
        if self._editor.path is not None or not self._editor.study.lesions:
            self.entry.unlink(missing_ok=True)
        self._lock.unlock()

    def _bring_scans(self, editor: StudyEditor, volumes: dict[str, CTVolume]) -> None:
        """Gives scans that came from no file one; then the study is saved."""
        if self._job is not None and self._job.running:
            self._dirty = True
            return
        study, path, entry = snapshot(editor.study), editor.path, self.entry

        def done(paths: dict[str, Path]) -> None:
            if self.entry == entry:  # else another study came meanwhile, and this one was saved by that
                editor.note(lambda study: set_paths(study, paths))
                self.save()

        def failed(error: Exception) -> None:
            words = cannot_write(error) if isinstance(error, OSError) else f"The study could not be saved: {error}"
            self.failed.emit(words)

        function = lambda job: self._written(study, path, volumes, job.report)  # noqa: E731
        self._job = Job("Keeping scans", function, owner=self, done=done, failed=failed).start()

    @staticmethod
    def _written(
        study: Study, path: Path | None, volumes: dict[str, CTVolume], report: Callable[[int, int], None]
    ) -> dict[str, Path]:
        """Files of scans beside the study's own file, or among the program's own -> path by time point."""
        if path is not None:
            return bring_scans(study, volumes, path, report)
        folder = studies_folder() / "scans"
        return {name: write_scan(v, folder / f"{v.content_hash[:32]}.nii.gz") for name, v in volumes.items()}

    def _write_pointer(self, path: Path) -> None:
        text = json.dumps({OPENED: str(path.absolute())})
        if not self.entry.is_file() or self.entry.read_text(encoding="utf-8") != text:
            with atomic_path(self.entry, private=True) as part:
                part.write_text(text, encoding="utf-8")

    def _gone(self) -> bool:
        if self._editor is not None and self._editor.session.viewer is None:
            self.close()
        return self._editor is None


_recoveries: WeakKeyDictionary[StudyEditor, StudyRecovery] = WeakKeyDictionary()


def recovery_of(editor: StudyEditor) -> StudyRecovery:
    """The recovery of an editor, started on first use."""
    if editor not in _recoveries:
        _recoveries[editor] = StudyRecovery(editor)
    return _recoveries[editor]


def cannot_write(error: OSError) -> str:
    """Why a file could not be written, in one sentence with its remedy; not the name of a part that nobody knows."""
    folder = f"the folder {Path(error.filename).parent}" if error.filename else "its folder"
    if error.errno == errno.ENOSPC:
        return f"The study could not be saved: the disk of {folder} is full. Make room, or “Save as …” somewhere else."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"The study could not be saved: {folder} may not be written in. “Save as …” somewhere else."
    reason = (error.strerror or str(error)).rstrip(".")
    return f"The study could not be saved in {folder}: {reason}. Try again, or “Save as …” somewhere else."


def is_kept(path: str) -> bool:
    """Whether a scan's file is one of the program's own."""
    return bool(path) and Path(path).is_relative_to(studies_folder() / "scans")


def set_paths(study: Study, paths: dict[str, Path]) -> None:
    """Gives time points the files of their scans."""
    for timepoint in study.timepoints:
        if timepoint.name in paths:
            timepoint.path = str(Path(paths[timepoint.name]).absolute())


def bring_scans(study: Study, volumes: dict[str, CTVolume], target: Path, report: Callable[[int, int], None]) -> dict:
    """Writes scans that have no file of a person's beside a study's file ``target`` -> path by time point.

    ``volumes`` are those of the open time points. Raises UserError for a scan that is neither open nor in a file.
    """
    folder = target.parent / f"{target.stem}_scans"
    without_file = [timepoint for timepoint in study.timepoints if not timepoint.path or is_kept(timepoint.path)]
    paths = {}
    for number, timepoint in enumerate(without_file):
        report(number, len(without_file))
        path = folder / f"{file_stem(study, timepoint.name)}.nii.gz"
        if timepoint.path:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(path, private=True) as part:
                shutil.copyfile(timepoint.path, part)
        elif timepoint.name in volumes:
            write_scan(volumes[timepoint.name], path)
        else:
            raise UserError(f"the scan {timepoint.name!r} is in no file and not open; remove it from the study")
        paths[timepoint.name] = path
    return paths
