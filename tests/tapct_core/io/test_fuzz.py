"""2,500 mutated files a format: each ends in a volume or in one line, within memory; never in another exception.

The seeds are fixed, so a file that fails is made again by its number. Bytes are flipped, cut, repeated and overwritten
with extreme numbers, mostly in the header; the sources are a few kB.
"""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from tapct_core.errors import UserError
from tapct_core.io import list_series, load_ct, load_labels
from tests.tapct_core.io import writing

COUNT, BLOCKS = 2500, 5
MEMORY = 96 << 20
"""Bytes that reading a mutated file of a few kB may hold at its peak."""
EXTREMES = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"nan "]
VOLUMES = ("nii", "nii.gz", "nrrd", "nrrd gzip", "nrrd list", "mha", "mha deflate", "mha list")
WORDS = [b"-1", b"0", b"1e308", b"nan", b"99999999999", b"", b"none", b"\n", b":", b"=", b"("]


def mutated(whole: bytes, head: int, rng: np.random.Generator) -> bytes:
    """``whole`` with one to four mutations, three of four of them in its first ``head`` bytes."""
    data = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        end = min(head, len(data)) if rng.random() < 0.75 else len(data)
        at = int(rng.integers(0, max(1, end)))
        kind = rng.integers(0, 7)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[at : at + 1] = bytes([int(rng.integers(0, 256))])
        elif kind == 2:
            extreme = EXTREMES[rng.integers(0, len(EXTREMES))]
            data[at : at + len(extreme)] = extreme
        elif kind == 3:
            data[at : at + int(rng.integers(1, 9))] = WORDS[rng.integers(0, len(WORDS))]
        elif kind == 4:
            del data[at : at + int(rng.integers(1, 40))]
        elif kind == 5:
            data[at:at] = data[at : at + int(rng.integers(1, 40))]
        else:
            del data[at if rng.random() < 0.3 else len(data) - int(rng.integers(0, 200)) :]
    return bytes(data)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """HU (x, y, z) of a ball of tissue in air."""
    x, y, z = np.mgrid[:12, :10, :6]
    noise = np.random.default_rng(0).normal(0, 12, x.shape)
    return (np.where((x - 6) ** 2 + (y - 5) ** 2 < 16, 50, -1000) + noise).round().astype(np.int16)


def sources(name: str, values: np.ndarray, folder: Path) -> tuple[bytes, int]:
    """(a whole file of the format, bytes of its header)."""
    if name.startswith("nii"):
        path = folder / f"a.{name}"
        nib.Nifti1Image(values, np.diag([-1.5, -1.5, 2.5, 1])).to_filename(path)
        return path.read_bytes(), 352 if name == "nii" else 10_000
    if name == "dicom":
        return writing.ct_slice(values[:, :, 0].T, 0), 900
    if name.endswith("list"):  # the header alone, its slices in files beside it
        for k in range(values.shape[2]):
            (folder / f"{k}.raw").write_bytes(values[:, :, k].tobytes(order="F"))
        whole = writing.volume_file(name.removesuffix(" list"), values)
        names = "".join(f"{k}.raw\n" for k in range(values.shape[2]))
        if name.startswith("nrrd"):
            whole = whole[: whole.index(b"\n\n") + 1] + f"data file: LIST\n{names}".encode()
        else:
            whole = whole[: whole.index(b"LOCAL\n")] + f"LIST\n{names}".encode()
        return whole, len(whole)
    whole = writing.volume_file(name, values)
    return whole, whole.index(b"\n\n" if name.startswith("nrrd") else b"LOCAL\n") + 8


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize(
    "name", ["nii", "nii.gz", "nrrd", "nrrd gzip", "nrrd list", "mha", "mha deflate", "mha list", "dicom"]
)
def test_a_mutated_file_is_a_volume_or_a_line(tmp_path, values, name, block):
    whole, head = sources(name, values, tmp_path)
    folder = tmp_path / "series"
    folder.mkdir()
    if name == "dicom":  # one slice of five is mutated
        for k in range(1, 5):
            (folder / f"{k}.dcm").write_bytes(writing.ct_slice(values[:, :, k].T, k))
    path = folder / "0.dcm" if name == "dicom" else tmp_path / "scan"
    read = 0
    tracemalloc.start()
    try:
        for number in range(block * COUNT // BLOCKS, (block + 1) * COUNT // BLOCKS):
            rng = np.random.default_rng([number, len(name)])
            if name == "nii.gz" and number % 2:  # what is inside the stream, which is whole
                path.write_bytes(gzip.compress(mutated(gzip.decompress(whole), 352, rng), 1))
            else:
                path.write_bytes(mutated(whole, head, rng))
            tracemalloc.reset_peak()
            for reader in (load_ct, list_series if name == "dicom" else load_labels):
                try:
                    reader(folder if name == "dicom" else path)
                    read += 1
                except UserError as error:
                    assert "\n" not in str(error), (number, str(error))
                except BaseException as error:
                    raise AssertionError(f"file {number} of {name}: {error!r}") from error
            assert tracemalloc.get_traced_memory()[1] < MEMORY, number
    finally:
        tracemalloc.stop()
    assert 10 < read < 2 * COUNT // BLOCKS


def test_the_sources_are_read_whole(tmp_path, values):
    for name in VOLUMES:
        (tmp_path / "scan").write_bytes(sources(name, values, tmp_path)[0])
        volume = load_ct(tmp_path / "scan")
        assert np.array_equal(volume.source.orientation.undo(volume.hu), np.maximum(values, -1024)), name
    (tmp_path / "series").mkdir()
    for k in range(6):
        (tmp_path / "series" / f"{k}.dcm").write_bytes(writing.ct_slice(values[:, :, k].T, k))
    assert np.array_equal(load_ct(tmp_path / "series").hu, np.maximum(values.T, -1024))
    assert pydicom.dcmread(tmp_path / "series" / "0.dcm").Rows == 10
