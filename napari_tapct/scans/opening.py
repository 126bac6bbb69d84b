"""Opening scans beside the interface thread: what the Open buttons, a drop and the File menu have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from napari.layers import Layer
from napari.utils.notifications import show_info, show_warning
from napari.utils.progress import cancelable_progress
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QWidget

from tapct_core.errors import NeedsWord, UserError
from tapct_core.io import SeriesInfo, list_series, load_ct, load_labels
from tapct_core.io.checks import LooksLikeLabels
from tapct_core.io.suffixes import stem_of
from tapct_core.volume import CTVolume, LabelMap

from ..inner import main_window
from ..jobs import Job
from ..layers import ct_image, ct_name, labels_layer
from ..session import Session
from .asking import Asked, WordDialog
from .series_picker import SeriesPicker, thumbnail

Read = tuple[str, CTVolume | LabelMap, tuple[float, float] | None]
"""What was read: its name, itself, and the lowest and highest HU of a CT."""

Found = tuple[list[Read], list[str], list[Asked]]
"""What was read, why others were not, and what a person has to say first."""


class Opener(QObject):
    """Opens files and folders in one viewer. What is being read, and a picker that waits, go with ``parent``."""

    opened = Signal(list)
    """The layers that were added."""

    def __init__(self, session: Session, parent: QWidget | None, watch: Callable[[Job], Any]) -> None:
        """``watch`` shows a job's progress and lets a person cancel it."""
        super().__init__(parent)
        self._session, self._watch = session, watch
        self._waiting: list[Path] = []
        self._job: Job | None = None
        self._picker: SeriesPicker | WordDialog | None = None
        self._asked: list[Asked] = []

    def open(self, paths: Iterable[Path]) -> None:
        """Opens whatever was dropped, one after the other. Files that wait at the same time are read together."""
        self._waiting += paths
        QTimer.singleShot(0, self._next)

    def open_files(self, paths: Sequence[Path]) -> Job:
        """Reads files and adds them. One that cannot be read keeps no other from being opened."""
        paths, known = list(paths), self._open_slices()
        title = f"Reading {paths[0].name if len(paths) == 1 else f'{len(paths)} files'}"
        return self._run(title, lambda job: read_files(job, paths, known), self._add)

    def open_folder(self, folder: Path) -> Job:
        """Looks which CT series a folder holds; several are shown to choose from."""
        function = partial(look_into, folder=folder)
        return self._run(f"Looking into {folder.name}", function, partial(self._choose, folder))

    def open_series(self, folder: Path, series: Sequence[SeriesInfo]) -> Job:
        """Reads the chosen series of a folder; none chosen means the only one."""
        uids = [one.uid for one in series] or [None]
        return self._run(f"Reading {folder.name}", lambda job: read_series(job, folder, uids), self._add)

    def _ask(self) -> None:
        """Asks a person of the next scan that needs their word, and reads it by that; nobody else waits for it."""
        if not self._asked or not isalive(self):
            return
        asked = self._asked.pop(0)
        self._picker = dialog = WordDialog(asked, self.parent())

        def finished(_: int) -> None:
            self._picker = None
            if dialog.result() == WordDialog.Accepted:
                again = asked.said(dialog.chosen)
                self._run(f"Reading {asked.path.name}", lambda job: read_asked(job, again), self._add)
            else:
                self._ask()
                self._go_on()

        dialog.finished.connect(finished)
        dialog.setAttribute(Qt.WA_DeleteOnClose)
        dialog.open()

    def _run(self, title: str, function: Callable[[Job], Any], done: Callable[[Any], None]) -> Job:
        self._job = Job(title, function, owner=self, done=done, ended=self._go_on)
        self._watch(self._job)
        return self._job.start()

    def _go_on(self, *_: object) -> None:
        QTimer.singleShot(0, self._next)

    def _next(self) -> None:
        if not isalive(self) or not self._waiting or self._picker is not None:
            return
        if self._job is not None and self._job.running:
            return
        files = self._waiting[: next((i for i, path in enumerate(self._waiting) if path.is_dir()), None)]
        if files:
            del self._waiting[: len(files)]
            self.open_files(files)
        else:
            self.open_folder(self._waiting.pop(0))

    def _choose(self, folder: Path, found: tuple[list[SeriesInfo], list]) -> None:
        series, pictures = found
        if len(series) <= 1:
            self.open_series(folder, series)
            return
        self._picker = picker = SeriesPicker(series, pictures, self.parent())

        def finished(_: int) -> None:
            self._picker = None
            if picker.result() == SeriesPicker.Accepted and picker.chosen:
                self.open_series(folder, picker.chosen)
            else:
                self._go_on()

        picker.finished.connect(finished)
        picker.setAttribute(Qt.WA_DeleteOnClose)
        picker.open()

    def _open_slices(self) -> set[Path]:
        """Files of the DICOM series that are open."""
        sources = [scan.volume.source.dicom for scan in self._session.scans]
        return {path for dicom in sources if dicom for path in dicom.files}

    def _add(self, found: Found) -> None:
        read, notes, asked = found
        self._asked += asked
        viewer = self._session.viewer
        if viewer is None:
            return
        for note in notes:
            show_warning(note)
        layers = [viewer.add_layer(_layer(*one)) for one in read]
        first = next((scan for scan in self._session.scans if scan.layer in layers), None)
        if first is not None:
            self._session.show(first)
        if layers:
            self.opened.emit(layers)
        elif not notes and not asked:
            show_info("What was dropped belongs to series that are open already")
        self._ask()


_openers: WeakKeyDictionary[Session, Opener] = WeakKeyDictionary()


def opener_of(session: Session) -> Opener:
    """The opener of the Scans widget, else one that shows its progress in napari's activity dock."""
    opener = _openers.get(session)
    if opener is None or not isalive(opener):
        opener = _openers[session] = Opener(session, main_window(session.viewer), in_activity_dock)
    return opener


def open_with(session: Session, opener: Opener) -> None:
    """From now on whatever is opened in the session's viewer is read by ``opener``."""
    _openers[session] = opener


def in_activity_dock(job: Job) -> None:
    """Shows a job where napari shows progress, with its button to cancel."""
    bar = _Activity(job)
    job.changed.connect(bar.follow)


class _Activity(cancelable_progress):
    """napari's progress bar of a job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        super().__init__(total=0, desc=job.title)

    def follow(self) -> None:
        """Takes over how far the job is."""
        if not self._job.running:
            self.close()
        elif self._job.total:
            self.total = self._job.total
            self.update(self._job.steps - self.n)

    def cancel(self) -> None:
        """What napari's button does."""
        super().cancel()
        self._job.cancel()


def read_files(job: Job, paths: list[Path], known: set[Path]) -> Found:
    """CTs and label maps, why others could not be read, and those of which a person must say how; on a worker's thread.

    ``known`` are slices of series that are open: slices dropped one by one are not read a hundred times.
    Raises the first UserError where nothing could be read.
    """
    read: list[Read] = []
    refused: list[UserError] = []
    asked: list[Asked] = []
    for number, path in enumerate(paths):
        job.report(number, len(paths))
        if job.cancelled():
            break
        if path in known:
            continue
        try:
            volume = load_ct(path)
        except LooksLikeLabels:
            read.append((stem_of(path), load_labels(path), None))
        except NeedsWord as error:
            asked.append(Asked(path, error))
        except UserError as error:
            refused.append(error)
        else:
            read.append(_with_range(volume, stem_of(path)))
            known |= set(volume.source.dicom.files) if volume.source.dicom else set()
    return _unless_all_refused(read, refused, asked)


def read_series(job: Job, folder: Path, uids: list[str | None]) -> Found:
    """Series of a folder, as :func:`read_files`."""
    read, refused, asked = [], [], []
    for number, uid in enumerate(uids):
        job.report(number, len(uids))
        if job.cancelled():
            break
        try:
            read.append(_with_range(load_ct(folder, series=uid), folder.name))
        except NeedsWord as error:
            asked.append(Asked(folder, error, {"series": uid} if uid else {}))
        except UserError as error:
            refused.append(error)
    return _unless_all_refused(read, refused, asked)


def read_asked(job: Job, asked: Asked) -> Found:
    """A scan as a person said that it is to be read; it may need another word."""
    name = asked.path.name if asked.path.is_dir() else stem_of(asked.path)
    try:
        return [_with_range(load_ct(asked.path, **asked.how), name)], [], []
    except NeedsWord as error:
        return [], [], [Asked(asked.path, error, asked.how)]


def look_into(job: Job, folder: Path) -> tuple[list[SeriesInfo], list]:
    """The CT series of a folder, and a thumbnail of each where there are several; on a worker's thread."""
    series = [one for one in list_series(folder) if one.modality == "CT"]
    pictures: list = []
    for number, one in enumerate(series):
        job.report(number, len(series))
        if job.cancelled():
            break
        pictures.append(thumbnail(one) if len(series) > 1 else None)
    return series, pictures


def _unless_all_refused(read: list[Read], refused: list[UserError], asked: list[Asked]) -> Found:
    if refused and not read and not asked:
        raise refused[0]
    return read, [str(error) for error in refused], asked


def _with_range(volume: CTVolume, name: str) -> Read:
    return ct_name(volume, name), volume, (float(volume.hu.min()), float(volume.hu.max()))


def _layer(name: str, volume: CTVolume | LabelMap, hu_range: tuple[float, float] | None) -> Layer:
    if isinstance(volume, LabelMap):
        return Layer.create(*labels_layer(volume, name))
    return ct_image(volume, name, hu_range)
