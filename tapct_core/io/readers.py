"""The readers of volume files, out of the table of :mod:`.suffixes`.

A reader is a module with ``kind_of(head)``, which tells its files by their first bytes, ``read_ct(path, hu_offset)``,
``read_labels(path)`` and, for what a header alone says, ``read_source(path)``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from .suffixes import BY_FORMAT, READ_BY, suffix_of

READERS = [import_module(f".{name}", __package__) for name in dict.fromkeys(READ_BY.values())]
HEAD_BYTES = 4096
"""By so many first bytes a file is known."""


def reader_of(head: bytes) -> ModuleType | None:
    """Who reads a file that begins so; None for what is no volume file."""
    return next((reader for reader in READERS if reader.kind_of(head)), None)


def reader_named(path: Path) -> ModuleType:
    """Who reads files of this name, which is one of a volume file: packed files tell nothing by their first bytes."""
    suffix = suffix_of(path)
    return import_module(f".{next(READ_BY[name] for name in READ_BY if suffix in BY_FORMAT[name])}", __package__)
