"""A scan in a zip archive, unpacked for as long as it is read: one volume file, or a DICOM series."""

from __future__ import annotations

import errno
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..files import require_fits
from .checks import DEFLATE_RATIO
from .suffixes import suffix_of

MAGIC = b"PK\x03\x04"
MOST_FILES = 100_000
"""More than any series has; an archive that lists more is damage or no scan."""


@contextmanager
def unzipped(path: Path) -> Iterator[Path]:
    """The volume file, or else the folder, that an archive holds; gone when the block ends.

    Raises UserError for what is damaged, has a password, holds several volumes, or claims more than it can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="tapct-zip-") as folder:
            entries = [entry for entry in archive.infolist() if _is_wanted(entry)]
            _check(path, entries)
            folder = Path(folder, path.name)  # so that whoever reads what is in it says the archive's name
            for entry in entries:
                _extract(archive, entry, folder, path)
            volumes = [one for entry in entries if suffix_of(one := Path(folder, *_parts(entry))) and one.is_file()]
            if len(volumes) > 1:
                names = ", ".join(sorted(one.name for one in volumes)[:5])
                raise UserError(f"{path.name} holds {len(volumes)} volumes ({names}); unpack it and choose one")
            yield volumes[0] if volumes else folder
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = "has a password" if "password" in str(error) else "is truncated or damaged"
        raise UserError(f"{path.name} {reason}; unpack it yourself and give what is in it") from None


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: str, path: Path) -> None:
    """One entry into the folder, which the library keeps its name within. Raises UserError for what the system refuses:
    places in the archive that are none, a name that is too long or another entry's folder, a full disk."""
    try:
        archive.extract(entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"there is no room to unpack {path.name}; free some space, or set TMPDIR") from None
        raise zipfile.BadZipFile(str(error)) from None
    except Exception as error:  # LZMA, struct and others say in their own ways that what they were given is none
        raise zipfile.BadZipFile(str(error)) from None


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    """Files, without those that systems put beside them."""
    name = PurePosixPath(entry.filename)
    return not entry.is_dir() and not name.name.startswith(".") and "__MACOSX" not in name.parts


def _parts(entry: zipfile.ZipInfo) -> list[str]:
    return [part for part in PurePosixPath(entry.filename).parts if part not in ("..", "/")]


def _check(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if not entries or len(entries) > MOST_FILES:
        raise UserError(f"{path.name} holds {len(entries)} files; give an archive of one scan")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > DEFLATE_RATIO * path.stat().st_size:
        raise UserError(f"{path.name} claims to hold {claimed:,} bytes, more than it can; copy it again")
    require_fits(claimed, f"{path.name}, unpacked,")
