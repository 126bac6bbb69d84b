"""CTs to break: a small real CT, and files made from it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

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


COUNT, SIZE = 6, 64


@pytest.fixture(scope="session")
def real_series(data_dir: Path) -> Path:
    return data_dir / "dicom" / "ts_example_series"


@pytest.fixture(scope="session")
def real_slices(real_series: Path) -> list[pydicom.Dataset]:
    """Six neighbouring slices of the real series, a 64 x 64 corner with body and air, uncompressed, with UIDs."""
    slices = []
    study, series = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["series"])
    for number, path in enumerate(sorted(real_series.iterdir())[:COUNT]):
        dataset = pydicom.dcmread(path)
        pixels = np.ascontiguousarray(dataset.pixel_array[150 : 150 + SIZE, 60 : 60 + SIZE])
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.Rows = dataset.Columns = SIZE
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset["PixelData"].is_undefined_length = False
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        slices.append(dataset)
    return slices


@pytest.fixture
def write(tmp_path, real_slices):
    """Write copies of the slices, ``change(dataset, number)`` applied, under names in no order -> the folder."""

    def written(change=None, folder="series", names="slice{0:02d}.dcm", order=None) -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        for number, place in enumerate(order if order is not None else (3, 0, 5, 1, 4, 2)):
            dataset = deepcopy(real_slices[number])
            if change is not None and change(dataset, number) is False:
                continue
            dataset.save_as(target / names.format(place), enforce_file_format=True)
        return target

    return written
