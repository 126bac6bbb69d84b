"""Segmentation data sets in the layouts in which they are distributed. One file a layout, each with ``read(root)``."""

from __future__ import annotations

from pathlib import Path

from . import amos22, folder, lits17
from .cases import Dataset

READERS = {"amos22": amos22.read, "lits17": lits17.read, "folder": folder.read}
"""Layout -> ``read(root) -> Dataset``."""


def read_dataset(layout: str, root: Path) -> Dataset:
    """The data set in ``root``. Raises UserError where it does not lie there as it is distributed."""
    return READERS[layout](Path(root))
