"""A small real pair on disk: see :mod:`tests.tapct_core.pairs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tapct_core.io.nifti import write_scan
from tests.tapct_core.pairs import moved_pair


@dataclass(frozen=True)
class Pair:
    """Two files of one patient: LPS mm of the baseline + ``shift_mm`` are LPS mm of the follow-up."""

    before: Path
    after: Path
    shift_mm: np.ndarray
    places: np.ndarray
    """LPS mm (3, 3) of the three lesions in the baseline."""


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Pair:
    """The follow-up shows the same patient, scanned again on a table that was moved, with other noise."""
    folder, made = tmp_path_factory.mktemp("pair"), moved_pair()
    files = folder / "baseline.nii.gz", folder / "followup.nii.gz"
    for volume, file in zip((made.before, made.after), files, strict=True):
        write_scan(volume, file)
    return Pair(*files, made.shift_mm, made.places)
