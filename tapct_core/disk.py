"""What a disk refuses, in one line with the remedy, whichever library was told."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NUMBER = re.compile(r"os error (\d+)|code: (\d+)")


class DiskFullError(UserError):
    """No space left: an archive run stops at it, since every further scan would end the same way."""


def disk_error(path: str | Path, error: OSError) -> UserError:
    """The line for what the system refused of ``path``: DiskFullError where it has no space left."""
    if error.errno in FULL:
        return DiskFullError(f"there is no space left to write {path}; free some or name another folder")
    return UserError(f"{path} cannot be written ({error.strerror or error}); name another folder")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What goes wrong with the disk in the block becomes the line of :func:`disk_error` about ``path``.

    Also where safetensors says it, whose error is no OSError but holds the system's number in its words.
    """
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error
    except Exception as error:
        number = _NUMBER.search(str(error))
        if type(error).__name__ != "SafetensorError" or not number:
            raise
        code = int(number[1] or number[2])
        raise disk_error(path, OSError(code, os.strerror(code))) from error
