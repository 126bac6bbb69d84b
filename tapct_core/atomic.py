"""Files and folders that are either whole or not there: written under a temporary name, flushed, then renamed.

    name                    what a person asked for
    .part-name-3f2a9c01/    what is being written (name in it), locked by who writes it
    .old-name-3f2a9c01/     the folder that stood there (name in it), for the moment of its replacement, where two
                            names cannot be swapped in one step

What a killed process left is removed by the next one that writes the same name, or put back where the name would
otherwise be missing. A link stays a link: what it points to is replaced. A file keeps the permissions of the one
that it replaces.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError
from .exchange import exchange
from .folder_lock import FolderLock, knows_locks

PART, OLD = ".part-", ".old-"
PRIVATE, PRIVATE_FOLDER = 0o600, 0o700
"""For what holds findings of a patient."""
NAME_KEPT = 48
"""Letters of a name that its temporary folder repeats: together they stay under a file system's limit."""
PATIENCE_S, MOVING_S = 1.0, 10.0
"""How long a reader waits for a folder that is being replaced, and what no two moves take where locks are not known."""


@contextmanager
def atomic_path(path: str | Path, private: bool = False) -> Iterator[Path]:
    """A temporary file name beside ``path`` that becomes ``path`` when the block ends well.

    The name keeps the suffixes, since some writers choose a format by them. Whatever happens in the
    block, ``path`` is either the old file or the whole new one, and nothing else stays behind.
    ``private``: a new file can be read by its owner alone.
    """
    path = _behind_links(path)
    _require_replaceable(path)
    with _part_of(path) as folder:
        part = folder / path.name
        yield part
        _set_mode(part, path, private)
        _flush(part)
        os.replace(part, path)
        _flush(path.parent)


@contextmanager
def atomic_folder(path: str | Path, private: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends well.

    A folder that stood there is swapped with it in one step and deleted. Where the system cannot swap, it is moved
    aside first, and :func:`restore` puts it back should the process die between the two moves; readers never see a
    mixture. ``private``: a new folder can be entered by its owner alone.
    """
    path = _behind_links(path)
    _require_replaceable(path)
    with _part_of(path) as folder:
        part = folder / path.name  # the lock is on the folder round it: some writers make theirs anew
        part.mkdir()
        yield part
        for file in part.rglob("*"):
            usual_permissions(file)
        if path.is_dir():
            part.chmod(stat.S_IMODE(path.stat().st_mode))
        elif private:
            part.chmod(PRIVATE_FOLDER)
        publish(part, path)


def publish(part: Path, path: Path) -> None:
    """Give a finished folder the name ``path``; what stood there is deleted afterwards. Flushed to the disk first."""
    for place, _, names in os.walk(part):
        for name in names:
            _flush(Path(place, name))
        _flush(Path(place))
    while True:
        there = path.exists()
        try:
            if not there:
                os.rename(part, path)
            elif exchange(part, path):
                _remove(part)
            else:
                _replace_in_two_moves(part, path)
            break
        except OSError:
            if path.exists() == there:
                raise  # else another process made or removed it at this moment
    _flush(path.parent)


def restore(path: str | Path) -> bool:
    """Put back a folder whose replacement was cut short; whether ``path`` is there now.

    For readers that find nothing under a name. One that is being replaced just now is waited for.
    """
    path = _behind_links(path)
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        found = sorted(path.parent.glob(f"{OLD}{_glob_of(path)}-*/{glob.escape(path.name)}"))
        if not found or time.monotonic() > end:
            return False
        lock = FolderLock(found[0].parent)
        if not lock.take(MOVING_S):
            time.sleep(0.01)
            continue
        try:
            if not path.exists():
                os.rename(found[0], path)
                found[0].parent.rmdir()
        except OSError:  # another reader was first
            pass
        finally:
            lock.close()
    return True


def clean(path: str | Path) -> None:
    """Remove what killed writers of ``path`` left beside it, and nothing that somebody still writes."""
    path = _behind_links(path)
    if not path.parent.is_dir():
        return
    for prefix in (PART, OLD):
        for folder in path.parent.glob(f"{prefix}{_glob_of(path)}-????????"):
            if prefix == OLD and not path.exists() and restore(path):
                continue
            lock = FolderLock(folder)
            if lock.take():
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()


def usual_permissions(path: Path) -> None:
    """What any new file gets, for a file that a library made for its owner alone, as safetensors does."""
    if path.is_file() and path.stat().st_mode & 0o077 == 0:
        path.chmod(_usual_mode(path.parent))


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A new folder for what will be ``path``, locked while the block runs and gone after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clean(path)
    locks = knows_locks(path.parent)
    while True:
        part = path.parent / f"{PART}{path.name[:NAME_KEPT]}-{secrets.token_hex(4)}"
        part.mkdir(PRIVATE_FOLDER)  # whatever permissions the result gets: nobody looks on while it is made
        lock = FolderLock(part)
        if not locks or lock.take():
            break
        with suppress(OSError):  # somebody who cleans up was faster than the lock
            part.rmdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        lock.close()


def _replace_in_two_moves(part: Path, path: Path) -> None:
    old = path.parent / f"{OLD}{path.name[:NAME_KEPT]}-{secrets.token_hex(4)}"
    old.mkdir()
    lock = FolderLock(old)
    lock.take()
    try:
        os.rename(path, old / path.name)
        try:
            os.rename(part, path)
        except OSError:
            if not path.exists():
                os.rename(old / path.name, path)
                old.rmdir()
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        lock.close()


def _require_replaceable(path: Path) -> None:
    """A pipe, a socket or a device is nobody's old file: renamed over, /dev/null would be gone for everybody."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is no file but a pipe, a socket or a device; name a file to write")


def _behind_links(path: str | Path) -> Path:
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _set_mode(part: Path, path: Path, private: bool) -> None:
    """The permissions of the file that is replaced, else those of a new one."""
    if path.is_file():
        part.chmod(stat.S_IMODE(path.stat().st_mode))
    elif private:
        part.chmod(PRIVATE)
    else:
        usual_permissions(part)


def _usual_mode(folder: Path) -> int:
    """The permissions of a new file, found by making one: asking for the umask sets it, for every thread."""
    probe = folder / f"{PART}{secrets.token_hex(4)}"
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
        probe.unlink()


def _flush(path: Path) -> None:
    """Have the disk keep what was written, so that a name never outlives its content in a power cut.

    Raises OSError where the disk is full after all, as network file systems say it only now.
    """
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if folder or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:
        if not folder:  # some file systems do not flush folders
            raise
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    """What was replaced, a folder or (in a folder's way) a file."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _glob_of(path: Path) -> str:
    return glob.escape(path.name[:NAME_KEPT])
