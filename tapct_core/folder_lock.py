"""Who holds a folder? A lock that the kernel lets go of when its holder dies, however it dies.

Advisory, as all locks between programs that know of each other: it holds among ours. Where there are none (Windows'
folders, some network file systems), a folder counts as held until nothing in it has changed for a day.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

STALE_S = 24 * 3600.0


class FolderLock:
    """One folder, held or not. ``close`` lets go, and so does the end of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._handle = folder, -1

    def take(self, stale_s: float = STALE_S) -> bool:
        """Hold the folder; False where somebody else does, where it is gone, and without locks until it is old."""
        if fcntl is None:
            return self._is_older(stale_s)
        try:
            handle = os.open(self.folder, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(handle), os.stat(self.folder))  # not removed and made anew meanwhile
        except BlockingIOError:
            mine = False
        except OSError:  # a file system without locks, or the folder is gone
            mine = self._is_older(stale_s)
        if not mine:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def close(self) -> None:
        """Let go."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _is_older(self, seconds: float) -> bool:
        try:
            changed = max(path.stat().st_mtime for path in (self.folder, *self.folder.iterdir()))
        except OSError:
            return False
        return time.time() - changed > seconds


def knows_locks(folder: Path) -> bool:
    """Whether locks on folders work where ``folder`` lies."""
    if fcntl is None:
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
