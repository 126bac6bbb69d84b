"""Files and folders that are either whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file name beside ``path`` that becomes ``path`` when the block ends well.

    The name keeps the suffixes, since some writers choose a format by them. Whatever happens in the
    block, ``path`` is either the old file or the whole new one, and nothing else stays behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        usual_permissions(part)
        os.replace(part, path)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends well.

    A folder that stood there is moved aside first and deleted last, so a crash between the two
    renames leaves it beside, and readers never see a mixture.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=path.parent))
    try:
        part.chmod(0o777 & ~_umask())
        yield part
        for file in part.rglob("*"):
            usual_permissions(file)
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=path.parent)) / path.name
            os.rename(path, old)
        os.rename(part, path)
        if old is not None:
            shutil.rmtree(old.parent, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def usual_permissions(path: Path) -> None:
    """What any new file gets, for a file that a library made for its owner alone, as safetensors does."""
    if path.is_file() and path.stat().st_mode & 0o077 == 0:
        path.chmod(0o666 & ~_umask())


def _umask() -> int:
    """The process's umask, which mkdtemp ignores; asking for it is only possible by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
