"""Nothing painted is lost: strokes, classes and dates go to disk within seconds, and come back after a crash.

    autosave/
      3f2a….lock            held by the process that works on it
      3f2a…/session.json    scans (file, series, name, date), classes
      3f2a…/strokes-0.safetensors   painted voxels of scan 0: index (N, 3) int32, value (N,) uint8
      volumes/HASH.safetensors      HU and affine of a scan that came from no file

A session is replaced as a whole, so that a kill in the middle leaves the one before. Strokes of scans that were closed
meanwhile are among them. What a result was computed from is here; the result itself follows from it, and undo begins
anew with what was resumed.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from tapct_core.atomic import atomic_folder, atomic_path
from tapct_core.errors import UserError
from tapct_core.files import require_regular
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.strict_json import read_json
from tapct_core.volume import CTVolume, Source

from .jobs import Job
from .layers import ct_image
from .painting import Kept, LabelClass, painted_voxels, painting_of
from .recovery import Recovery, left_behind, state_folder
from .scan import origin_of

if TYPE_CHECKING:
    from .session import Session

FORMAT = "tapct-session-1"
WORDS = "session.json"


def autosave_folder() -> Path:
    """Where painted work is kept."""
    return state_folder() / "autosave"


@dataclass(frozen=True)
class Unfinished:
    """Work that a process left behind: where it lies, when it was saved, how many scans have strokes."""

    folder: Path
    saved: float
    scans: int

    @property
    def words(self) -> str:
        """For people."""
        when = time.strftime("%d %b %H:%M", time.localtime(self.saved))
        return f"Painted work of {when} on {self.scans} scan{'s' if self.scans > 1 else ''} is still here."

    def discard(self) -> None:
        """Removes it."""
        for entry in _read_words(self.folder)["scans"]:
            if entry.get("volume"):
                (self.folder.parent / "volumes" / entry["volume"]).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def unfinished() -> list[Unfinished]:
    """What was left behind by processes that are gone, the newest first. Damaged folders are passed over."""
    folders = (folder for folder in autosave_folder().glob("*") if (folder / WORDS).is_file())
    return left_behind(folders, _left)


def _left(folder: Path) -> Unfinished:
    words = _read_words(folder)
    return Unfinished(folder, float(words["saved"]), sum(bool(entry["strokes"]) for entry in words["scans"]))


class Autosave(Recovery):
    """Saves one session while there is something new. Get it with :func:`autosave_of`."""

    def __init__(self, session: Session) -> None:
        super().__init__(autosave_folder())
        self._session = ref(session)
        self._job: Job | None = None
        painting_of(session).strokes_changed.connect(self._on_changed)
        painting_of(session).classes_changed.connect(self._on_changed)
        session.scans_changed.connect(self._on_changed)

    def _gone(self) -> bool:
        session = self._session()
        return session is None or session.viewer is None

    def _busy(self) -> bool:
        return self._job is not None and self._job.running

    def save(self) -> Job | None:
        """Starts saving now; None when there is nothing painted. ``saved`` follows."""
        session = self._session()
        work: list[_Painted | Kept] = [
            _Painted(scan.volume, scan.name, scan.date, scan.parts["strokes"].data)
            for scan in session.scans
            if "strokes" in scan.parts
        ]
        work += painting_of(session).kept
        self._dirty = False
        if not work:
            return None
        classes = list(painting_of(session).classes)
        self._hold()
        self._job = Job("Autosave", lambda job: _write(self.entry, work, classes), done=self._on_saved)
        return self._job.start()

    def _on_saved(self, _: None) -> None:
        for old in self._replaces:
            old.discard()
        self._replaces = []
        self.saved.emit()


_autosaves: WeakKeyDictionary[Session, Autosave] = WeakKeyDictionary()


def autosave_of(session: Session) -> Autosave:
    """The autosave of a session, started on first use."""
    if session not in _autosaves:
        _autosaves[session] = Autosave(session)
    return _autosaves[session]


@dataclass(frozen=True)
class _Painted:
    """A scan that is open, and its strokes, which may still be painted on."""

    volume: CTVolume
    name: str
    date: str
    strokes: np.ndarray


def _write(folder: Path, work: list[_Painted | Kept], classes: list[LabelClass]) -> None:
    from safetensors.numpy import save_file

    entries: list[dict[str, Any]] = []
    with atomic_folder(folder, private=True) as part:
        for number, one in enumerate(work):
            index, value, entry = _described(one)
            if len(index):
                entry["strokes"] = f"strokes-{number}.safetensors"
                # safetensors writes memory as it lies
                save_file(
                    {"index": np.ascontiguousarray(index), "value": np.ascontiguousarray(value)},
                    part / entry["strokes"],
                )
            if not entry["path"]:
                entry["volume"] = _keep_volume(folder.parent / "volumes", one.volume)
            entries.append(entry)
        words = {
            "format": FORMAT,
            "saved": time.time(),
            "classes": [{"value": one.value, "name": one.name, "colour": one.colour} for one in classes],
            "scans": entries,
        }
        (part / WORDS).write_text(json.dumps(words, indent=1), encoding="utf-8")


def _described(one: _Painted | Kept) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Painted voxels, their values, and what is said of the scan."""
    if isinstance(one, Kept):
        one.settle()
        index, value, content, (path, series), how = one.index, one.value, one.content, one.origin, one.how
    else:
        index, value = painted_voxels(one.strokes)
        content, (path, series), how = one.volume.content_hash, origin_of(one.volume), one.volume.source.how
    entry = {"name": one.name, "date": one.date, "strokes": "", "content": content, "path": path, "series": series}
    entry |= {"reading": dict(how)} if how else {}
    return index, value, entry


def _keep_volume(folder: Path, volume: CTVolume) -> str:
    from safetensors.numpy import save_file

    path = folder / f"{volume.content_hash}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, private=True) as part:
            save_file({"hu": np.ascontiguousarray(volume.hu), "affine": np.array(volume.geometry.affine)}, part)
    return path.name


def _read_words(folder: Path) -> dict[str, Any]:
    words = read_json(folder / WORDS, 1 << 26)
    if words["format"] != FORMAT:
        raise ValueError(words["format"])
    return words


@dataclass(frozen=True)
class Resumed:
    """What was read back of one scan."""

    volume: CTVolume
    name: str
    date: str
    index: np.ndarray
    value: np.ndarray


def read_back(old: Unfinished) -> tuple[list[LabelClass], list[Resumed]]:
    """Classes and scans of unfinished work. Raises UserError when a scan's file is gone or is another now."""
    words = _read_words(old.folder)
    classes = [LabelClass(one["value"], one["name"], tuple(one["colour"])) for one in words["classes"]]
    scans = []
    for entry in words["scans"]:
        volume = _read_volume(old.folder.parent, entry)
        if volume.content_hash != entry["content"]:
            raise UserError(f"{entry['path']} is another scan than the one that was painted on; put the first one back")
        arrays = {"index": np.zeros((0, 3), np.int32), "value": np.zeros(0, np.uint8)}
        if entry["strokes"]:
            arrays = _arrays(old.folder / entry["strokes"])
        scans.append(Resumed(volume, entry["name"], entry["date"], arrays["index"], arrays["value"]))
    return classes, scans


def _read_volume(folder: Path, entry: dict[str, Any]) -> CTVolume:
    if entry["path"]:
        path = Path(entry["path"])
        series = (entry["series"] or None) if path.is_dir() else None
        return load_ct(path, series, **entry.get("reading", {}))
    arrays = _arrays(folder / "volumes" / entry["volume"])
    return CTVolume(arrays["hu"], Geometry(arrays["hu"].shape, arrays["affine"]), Source("array"))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        require_regular(path)
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"what was painted cannot be read back: {path.name} is damaged or gone ({error})") from None


def take_up(session: Session, old: Unfinished, classes: list[LabelClass], scans: list[Resumed]) -> None:
    """Puts unfinished work into a session; on the interface thread. A scan that is open already is painted on."""
    painting_of(session).set_classes(classes)
    for one in scans:
        scan = next((s for s in session.scans if s.volume.content_hash == one.volume.content_hash), None)
        if scan is None:
            scan = session.scan_of(session.viewer.add_layer(ct_image(one.volume, one.name)))
        if one.date and not scan.date:
            session.set_date(scan, one.date)
        painting_of(session).put(scan, one.index, one.value)
    autosave_of(session).replaces(old)
