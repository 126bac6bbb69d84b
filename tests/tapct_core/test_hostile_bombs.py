"""Small files that would be large: each is refused, or read, in a child that may not take more than a gigabyte."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from .hostile import run_child

AFFINE = np.diag([-1.5, -1.5, 2.5, 1.0])


def nifti(path: Path, shape=(64, 64, 64), claims=None, dtype=np.int16, tail: int = 0) -> Path:
    header = nib.Nifti1Image(np.zeros((2, 2, 2), dtype), AFFINE).header
    header.set_data_shape(claims or shape)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    hu = np.random.default_rng(0).integers(-1000, 400, shape).astype(dtype)
    with open(path, "wb") as file:
        file.write(header.binaryblock + bytes(4) + hu.tobytes("F"))
        if tail:
            file.truncate(tail)
    return path


def sparse_nifti(folder):
    nifti(folder / "a.nii", tail=100 * 10**9)


def zeros_in_gzip(folder):
    """3 GB of zeros behind a header that says so."""
    head = nifti(folder / "h.nii", (2, 2, 2), (2000, 2000, 400)).read_bytes()[:352]
    packer = zlib.compressobj(9, wbits=31)
    with open(folder / "a.nii.gz", "wb") as file:
        file.write(packer.compress(head))
        for _ in range(400):
            file.write(packer.compress(bytes(8_000_000)))
        file.write(packer.flush())


def tail_in_gzip(folder):
    content = nifti(folder / "h.nii").read_bytes() + bytes(3 * 10**8)
    (folder / "a.nii.gz").write_bytes(gzip.compress(content, 9))


def sparse_gzip(folder):
    (folder / "a.nii.gz").write_bytes(gzip.compress(nifti(folder / "h.nii").read_bytes()))
    with open(folder / "a.nii.gz", "r+b") as file:
        file.truncate(100 * 10**9)


def nrrd(folder, encoding: str, sizes: str, data: bytes, tail: int = 0):
    head = f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\nendian: little\n"
    head += f"encoding: {encoding}\nspace directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\n\n"
    with open(folder / "a.nrrd", "wb") as file:
        file.write(head.encode() + data)
        if tail:
            file.truncate(tail)


def nrrd_bzip2(folder):
    nrrd(folder, "bzip2", "2000 2000 500", bz2.compress(bytes(900_000)) * 100)


def nrrd_gzip(folder):
    nrrd(folder, "gzip", "4000 4000 300", gzip.compress(bytes(10**8), 9) * 100)


def nrrd_sparse(folder):
    nrrd(folder, "raw", "20 20 20", bytes(16000), 100 * 10**9)


def nrrd_sparse_gzip(folder):
    nrrd(folder, "gzip", "20 20 20", gzip.compress(bytes(16000)), 100 * 10**9)


def mha_header(folder):
    head = "ObjectType = Image\nNDims = 3\nDimSize = 20 20 20\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n"
    (folder / "a.mha").write_bytes(head.encode() + b"Comment = x\n" * 10**6 + b"ElementDataFile = LOCAL\n")


# DICOM


def dicom(folder, deflated: bytes | None = None, extra=None, rows=16, **tags) -> Path:
    """Four slices; the data set's own bytes follow the header where ``deflated`` gives them."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    folder = folder / "series"
    folder.mkdir()
    for k in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{k}"
        meta.TransferSyntaxUID = (
            "1.2.840.10008.1.2.1.99" if deflated is not None else tags.get("syntax", "1.2.840.10008.1.2.1")
        )
        d = FileDataset(str(folder / f"{k}.dcm"), {}, file_meta=meta, preamble=bytes(128))
        d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        d.Modality, d.SeriesInstanceUID, d.StudyInstanceUID, d.PatientID = "CT", "1.2.3", "1.2", "x"
        d.ImagePositionPatient, d.ImageOrientationPatient = [0, 0, 2.5 * k], [1, 0, 0, 0, 1, 0]
        d.PixelSpacing, d.Rows, d.Columns = [1, 1], rows, rows
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation, d.SamplesPerPixel = 16, 16, 15, 1, 1
        d.PhotometricInterpretation, d.RescaleSlope, d.RescaleIntercept = "MONOCHROME2", 1, -1024
        d.PixelData = tags.get("pixels") or np.random.default_rng(k).integers(0, 1400, (16, 16)).astype("<i2").tobytes()
        if tags.get("pixels"):
            d["PixelData"].is_undefined_length = True
        d["PixelData"].VR = "OB" if tags.get("pixels") else "OW"
        path = folder / f"{k}.dcm"
        d.save_as(path, enforce_file_format=True)
        if deflated is not None:
            whole = path.read_bytes()
            length = 144 + int.from_bytes(whole[140:144], "little")
            inner = zlib.decompress(whole[length:], -15)
            packer = zlib.compressobj(9, wbits=-15)
            with open(path, "wb") as file:
                file.write(whole[:length] + packer.compress(inner))
                for _ in range(40):
                    file.write(packer.compress(deflated))
                file.write(packer.flush())
        if extra is not None:
            whole = path.read_bytes()
            place = whole.index(b"\x08\x00\x60\x00")  # the modality
            path.write_bytes(whole[:place] + extra + whole[place:])
    return folder


def dicom_deflated(folder):
    """Each slice inflates to 400 MB of one private element after another."""
    dicom(folder, b"\xfd\xff\x10\x10OB\0\0\x80\x96\x98\x00" + bytes(10_000_000))


def dicom_empty_items(folder):
    """A sequence of unknown length with two million empty items, in each slice."""
    dicom(
        folder,
        extra=b"\x08\x00\x51\x00SQ\0\0\xff\xff\xff\xff"
        + b"\xfe\xff\x00\xe0\0\0\0\0" * 2_000_000
        + b"\xfe\xff\xdd\xe0\0\0\0\0",
    )


def dicom_nested(folder):
    item = b"\x08\x00\x51\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    dicom(folder, extra=item * 100_000)


def dicom_sparse(folder):
    for path in dicom(folder).iterdir():
        with open(path, "r+b") as file:
            file.truncate(20 * 10**9)


def encapsulated(frame: bytes) -> bytes:
    from pydicom.encaps import encapsulate

    return encapsulate([frame])


def dicom_jpeg2000(folder):
    """A codestream of a few bytes that says it is 60,000 x 60,000."""
    size = (
        b"\xff\x51\x00\x29\x00\x00"
        + (60_000).to_bytes(4, "big") * 2
        + bytes(8)
        + (60_000).to_bytes(4, "big") * 2
        + bytes(8)
        + b"\x00\x01\x0f\x01\x01"
    )
    dicom(folder, syntax="1.2.840.10008.1.2.4.90", pixels=encapsulated(b"\xff\x4f" + size + bytes(100)))


def dicom_jpeg(folder):
    frame = b"\xff\xd8\xff\xc3\x00\x0b\x10\xff\xff\xff\xff\x01\x01\x11\x00" + bytes(50) + b"\xff\xd9"
    dicom(folder, syntax="1.2.840.10008.1.2.4.70", pixels=encapsulated(frame))


def dicom_jpeg_ls(folder):
    frame = b"\xff\xd8\xff\xf7\x00\x0b\x10\xff\xff\xff\xff\x01\x01\x11\x00" + bytes(50) + b"\xff\xd9"
    dicom(folder, syntax="1.2.840.10008.1.2.4.80", pixels=encapsulated(frame))


def dicom_rows(folder):
    dicom(folder, rows=65535)


# Studies


def study(folder, lesions):
    (folder / "a.json").write_text(json.dumps({"timepoints": [{"name": "a", "path": "a.nii"}], "lesions": lesions}))


def mask(shape) -> dict:
    bits = base64.b64encode(zlib.compress(b"\xff" * (int(np.prod(shape)) // 8), 9)).decode()
    return {"grid": list(shape), "start": [0, 0, 0], "shape": list(shape), "bits": bits}


def study_masks(folder):
    one = mask([640, 640, 640])
    study(folder, [{"name": str(i), "findings": {"a": {"point_lps_mm": [0, 0, 0], "mask": one}}} for i in range(20)])


def study_one_mask(folder):
    huge = mask([8, 8, 8]) | {"grid": [10**6] * 3, "shape": [10**6] * 3}
    study(folder, [{"name": "x", "findings": {"a": {"point_lps_mm": [0, 0, 0], "mask": huge}}}])


def study_mask_overflows(folder):
    huge = mask([8, 8, 8]) | {"grid": [2**32] * 3, "shape": [2**32, 2**32, 1]}
    study(folder, [{"name": "x", "findings": {"a": {"point_lps_mm": [0, 0, 0], "mask": huge}}}])


def study_lists(folder):
    (folder / "a.json").write_text('{"lesions": [' + "[]," * 30_000_000 + "[]]}")


def study_brackets(folder):
    (folder / "a.json").write_text("[" * 10_000_000)


def study_digits(folder):
    (folder / "a.json").write_text('{"timepoints": [' + "9" * 50_000_000 + "]}")


def study_sparse(folder):
    with open(folder / "a.json", "wb") as file:
        file.truncate(50 * 10**9)


def sidecar(folder):
    nifti(folder / "a.nii")
    with open(folder / "a.labels.json", "wb") as file:
        file.truncate(50 * 10**9)


BOMBS = [
    sparse_nifti, zeros_in_gzip, tail_in_gzip, sparse_gzip, nrrd_bzip2, nrrd_gzip, nrrd_sparse, nrrd_sparse_gzip,
    mha_header, dicom_deflated, dicom_empty_items, dicom_nested, dicom_sparse, dicom_jpeg2000, dicom_jpeg,
    dicom_jpeg_ls, dicom_rows, study_masks, study_one_mask, study_mask_overflows, study_lists, study_brackets,
    study_digits, study_sparse, sidecar,
]  # fmt: skip
QUICK = {"sparse_nifti", "nrrd_sparse", "dicom_jpeg2000", "study_masks", "study_sparse"}

OPEN = """
from tapct_core.io import load_ct, load_labels
from tapct_core.lesions.study_file import load_study
import os
for name in sorted(os.listdir(folder)):
    path = folder / name
    if name in ("h.nii", "a.labels.json"):
        continue
    attempt(lambda: load_study(path) if name.endswith(".json") else load_ct(path), name)
    if not path.is_dir() and not name.endswith(".json"):
        attempt(lambda: load_labels(path), name)
"""


@pytest.mark.parametrize(
    "bomb",
    [pytest.param(one, id=one.__name__, marks=() if one.__name__ in QUICK else pytest.mark.slow) for one in BOMBS],
)
def test_a_bomb_costs_no_gigabyte(bomb, tmp_path, monkeypatch):
    monkeypatch.setenv("TAPCT_LARGEST_GB", "1")
    bomb(tmp_path)
    counts = run_child(OPEN, tmp_path, memory_gb=1.5, cpu_s=60)
    assert sum(counts.values()) >= 1 and counts.get("read", 0) <= (
        2 if bomb in (sidecar, mha_header, sparse_gzip, nrrd_sparse_gzip) else 0
    )


def test_the_plain_ones_of_these_makers_are_read(tmp_path):
    """What the bombs are made of is read without its charge, so it is the charge that is refused."""
    nifti(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    dicom(tmp_path)
    assert run_child(OPEN, tmp_path)["read"] == 3


def test_a_deflated_series_is_read(tmp_path):
    dicom(tmp_path, b"")
    assert run_child(OPEN, tmp_path) == {"read": 1}
