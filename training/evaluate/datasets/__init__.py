"""Data sets in the layouts in which they are distributed, one file a layout.

A file whose ``read(root)`` gives a ``Dataset`` is a layout for segmentation, by the file's name: adding one is adding a
file. The others read what the other tasks need.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from .cases import Dataset


def _readers() -> dict[str, Callable[[Path], Dataset]]:
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        read = getattr(import_module(f".{path.stem}", __name__), "read", None)
        if read is not None and inspect.signature(read).return_annotation in (Dataset, "Dataset"):
            found[path.stem] = read
    return found


READERS = _readers()
"""Layout -> ``read(root) -> Dataset``."""


def read_dataset(layout: str, root: Path) -> Dataset:
    """The data set in ``root``. Raises UserError where it does not lie there as it is distributed."""
    return READERS[layout](Path(root))
