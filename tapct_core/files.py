"""Opening what others wrote: regular files alone, and never more of one than was said beforehand.

A named pipe would hang whoever opens it, a device has no end, and a sparse file of 100 GB costs its sender nothing.
So a file's kind and size are asked of the open handle, before a byte is read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

DEFAULT_LARGEST_GB = 8.0
LARGEST = "TAPCT_LARGEST_GB"
"""The environment variable that raises (or lowers) what one input may take in memory."""


def largest_bytes() -> int:
    """The most bytes (10^9 a GB) that one input may take once it is unpacked: $TAPCT_LARGEST_GB, else 8 GB.

    2,000 slices of 1,024 x 1,024 take 4 GB of HU. Raises UserError where the variable is no number above 0.
    """
    return round(number_from_environment(LARGEST, DEFAULT_LARGEST_GB) * 1e9)


def number_from_environment(name: str, default: float) -> float:
    """A number above 0 (inf for no limit) from an environment variable. Raises UserError for anything else."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise UserError(f"the environment variable {name} is {text!r}; give a number of GB, such as {default:g}")
    return min(value, 1e12)


def require_fits(needed: int, what: str) -> None:
    """Raise UserError where ``needed`` bytes are over :func:`largest_bytes`; ``what`` begins the line."""
    limit = largest_bytes()
    if needed > limit:
        raise UserError(
            f"{what} would take {needed / 1e9:,.1f} GB of memory and the limit is {limit / 1e9:g}; "
            f"if it is right, set the environment variable {LARGEST} higher"
        )


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, without waiting for whatever else may stand under its name.

    Raises UserError for a pipe, a socket or a device, OSError (FileNotFoundError, IsADirectoryError, ...) as ``open``.
    """
    path = Path(path)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _no_file(path) from None
        raise
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "it is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise _no_file(path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def require_regular(path: str | Path) -> None:
    """For files that a library opens by their name: raise as :func:`open_regular`, and UserError for one too large."""
    with open_regular(path) as file:
        require_fits(os.fstat(file.fileno()).st_size, Path(path).name)


def _no_file(path: Path) -> UserError:
    return UserError(f"{path.name} is no file but a pipe, a socket or a device; name a file")


def read_limited(path: str | Path, limit: int) -> bytes:
    """All of a regular file of at most ``limit`` bytes. Raises UserError for more, and as :func:`open_regular`."""
    with open_regular(path) as file:
        data = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else None
    if data is None or len(data) > limit:
        raise UserError(f"{Path(path).name} has more than {limit:,} bytes, which nothing of its kind has")
    return data
