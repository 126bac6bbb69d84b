"""CTs to break: a small real CT, and files made from it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.volume import CTVolume


@pytest.fixture(scope="session")
def small_hu(data_dir: Path) -> np.ndarray:
    """A corner of a real CT in its file's order (x, y, z), (40, 30, 20) int16 HU with air, fat and bone."""
    image = nib.load(data_dir / "ct" / "crlm_ct_1004_ct.nii.gz")
    return np.asfortranarray(np.asanyarray(image.dataobj)[60:100, 70:100, 10:30])


@pytest.fixture
def refused() -> Callable[..., str]:
    """Call ``read(path)``: it must end in one UserError line, hold little memory, and match ``words``."""

    def check(read: Callable, path: Path, words: str = ".", limit: int = 64 << 20) -> str:
        tracemalloc.start()
        try:
            with pytest.raises(UserError, match=words) as caught:
                read(path)
            assert tracemalloc.get_traced_memory()[1] < limit
        finally:
            tracemalloc.stop()
        message = str(caught.value)
        assert "\n" not in message
        return message

    return check


@pytest.fixture
def right_or_refused() -> Callable[..., CTVolume | None]:
    """Call ``read(path)``: a volume or a UserError of one line, no other exception, little memory."""

    def check(read: Callable, path: Path, limit: int = 64 << 20) -> CTVolume | None:
        tracemalloc.start()
        try:
            return read(path)
        except UserError as error:
            assert "\n" not in str(error)
            return None
        finally:
            held = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert held < limit

    return check
