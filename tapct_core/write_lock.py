"""One program at a time writes a file. Advisory: it holds among programs that ask for it, as all of ours do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PATIENCE_S = 10.0
"""Writing takes milliseconds; who waits longer waits for a program that hangs."""


def opened_mark(path: str | Path) -> Path:
    """The file that a window holds for as long as it works on the file ``path``; who only writes it does not ask."""
    path = Path(path).absolute()
    return path.with_name(f".{path.name}.open")


def _writing_mark(path: Path) -> Path:
    """The file that stands for the right to write ``path`` where folders cannot be locked: not the window's own."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def write_lock(path: str | Path) -> Iterator[None]:
    """Holds the right to write ``path`` while the block runs; nothing stays behind, not after a kill either.

    Raises UserError when another program holds it for PATIENCE_S. A file system that knows no locks gives none.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from None
    end = time.monotonic() + PATIENCE_S
    while (handle := _taken(path)) is None:
        if time.monotonic() > end:
            raise UserError(f"another program is writing in the folder of {path.name}; save again when it has finished")
        time.sleep(0.005)
    try:
        yield
    finally:
        os.close(handle)  # which lets go


def _refused(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path.name}: {error.strerror}; choose a folder that you may write to")


def _taken(path: Path) -> int | None:
    """An open handle that holds the lock; None while somebody else does."""
    if fcntl is None:
        try:  # Windows removes such a file with its last handle, so a kill lets go as well
            return os.open(_writing_mark(path), os.O_CREAT | os.O_EXCL | os.O_TEMPORARY)
        except (FileExistsError, PermissionError):
            return None
    try:
        handle = os.open(path.parent, os.O_RDONLY)  # the folder: the file itself is replaced at every save
    except OSError as error:
        raise _refused(path, error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks
        return handle
    return handle
