"""Two names on one disk swapped in one step, where the system can: nobody ever sees neither of them."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h, from Linux 3.15 and glibc 2.28
_RENAME_SWAP = 2  # sys/stdio.h, from macOS 10.12 on APFS


def exchange(one: Path, other: Path) -> bool:
    """Swap what two existing names stand for; False where the system or the file system cannot, and nothing was done.

    Raises OSError for all other refusals (no such name, no right to it).
    """
    call = _call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(one))


@cache
def _call() -> Callable[[bytes, bytes], bool] | None:
    """The system's call as (one, other) -> whether it went well; None where there is none."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            swap = library.renamex_np
            return lambda one, other: swap(one, other, ctypes.c_uint(_RENAME_SWAP)) == 0
        rename = library.renameat2
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return None
    return lambda one, other: rename(_AT_FDCWD, one, _AT_FDCWD, other, ctypes.c_uint(_RENAME_EXCHANGE)) == 0
