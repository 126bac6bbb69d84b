"""What every kind of crash recovery shares: an entry on disk for each piece of work, a lock that says somebody is at
it, and a timer that saves while there is something new.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from qtpy.QtCore import QCoreApplication, QLockFile, QObject, QTimer, Signal

from .preferences import preference


class LeftBehind(Protocol):
    """Work of a process that is gone; ``saved`` in seconds since 1970."""

    saved: float


Left = TypeVar("Left", bound=LeftBehind)


def state_folder() -> Path:
    """$TAPCT_STATE, else the place where this system keeps what programs remember."""
    if os.environ.get("TAPCT_STATE"):
        return Path(os.environ["TAPCT_STATE"])
    import platformdirs

    return Path(platformdirs.user_state_dir("napari-tapct", appauthor=False))


def lock_of(entry: Path) -> QLockFile:
    """The lock beside an entry. However long it is held: only a process that is gone loses it."""
    lock = QLockFile(str(entry.with_suffix(".lock")))
    lock.setStaleLockTime(0)
    return lock


def left_behind(entries: Iterable[Path], read: Callable[[Path], Left]) -> list[Left]:
    """What processes that are gone left behind, the newest first. Damaged entries are passed over."""
    found = []
    for entry in entries:
        lock = lock_of(entry)
        if not lock.tryLock(0):
            continue  # somebody is at it
        lock.unlock()
        try:
            found.append(read(entry))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda one: -one.saved)


class Recovery(QObject):
    """Saves one piece of work into an entry of its own for as long as it lives. The heirs say what and how."""

    saved = Signal()

    def __init__(self, folder: Path, suffix: str = "") -> None:
        super().__init__(QCoreApplication.instance())
        self._folder, self._suffix = folder, suffix
        self._dirty = False
        self._replaces: list[Any] = []
        self._begin_entry()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._on_tick)
        self._timer.start(1000 * int(preference("autosave_seconds")))

    def replaces(self, old: Any) -> None:
        """``old`` was taken up: it is removed when this work is on disk."""
        self._replaces.append(old)
        self._dirty = True

    def save(self) -> object:
        """Saves now, or starts to; ``saved`` follows."""
        raise NotImplementedError

    def _begin_entry(self) -> None:
        """A new entry, held by nobody yet."""
        self.entry = self._folder / f"{uuid.uuid4().hex}{self._suffix}"
        self._lock = lock_of(self.entry)

    def _hold(self) -> None:
        """Says that somebody is at the entry."""
        self.entry.parent.mkdir(parents=True, exist_ok=True)
        self._lock.tryLock(0)

    def _on_changed(self, *_: object) -> None:
        self._dirty = True

    def _gone(self) -> bool:
        """Whether what is saved is gone, so that nothing more will come."""
        raise NotImplementedError

    def _busy(self) -> bool:
        """Whether it is being saved."""
        return False

    def _on_tick(self) -> None:
        if self._gone():
            self._timer.stop()
        elif self._dirty and not self._busy():
            self.save()
