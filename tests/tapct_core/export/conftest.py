"""Two time points made from the real DICOM series: new UIDs and dates, a part of each slice, anatomy shifted, and
two dark round lesions in the liver, of which one shrinks."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tapct_core.io import load_ct

SIDE, SHIFT = 192, (6, -4)
"""Pixels of the part; by how many rows and columns the follow-up's part is moved, so that anatomy moves back."""
LESIONS = {"shrinks": ((70, 60, 9), (12.0, 8.0)), "stays": ((120, 60, 10), (9.0, 9.0))}
"""Row, column and slice in the baseline's part; radius in mm at both time points."""
DARKER = 70


def add_lesions(pixels, number, moved, when):
    """Balls (mm) of ``DARKER`` HU less, in one slice; ``moved`` (rows, columns) from the baseline's part."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    for (row, column, slice_), radii in LESIONS.values():
        away = ((rows - row - moved[0]) ** 2 + (columns - column - moved[1]) ** 2) * 0.9765625**2
        pixels[away + ((number - 1 - slice_) * 2.0) ** 2 <= radii[when] ** 2] -= DARKER


def write_series(source, target, start, date, when):
    """A part of every slice as a series of its own; positions stay, so the pixels' move is a move of the patient."""
    target.mkdir()
    files = sorted(source.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    study, series, frame = (generate_uid() for _ in range(3))
    for number, path in enumerate(files, start=1):
        slice_ = pydicom.dcmread(path)
        rows, columns = (slice(s, s + SIDE) for s in start)
        pixels = slice_.pixel_array[rows, columns].copy()
        add_lesions(pixels, number, (-when * SHIFT[0], -when * SHIFT[1]), when)
        slice_.PixelData = pixels.tobytes()
        slice_.Rows = slice_.Columns = SIDE
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = CTImageStorage
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.PatientID, slice_.PatientName = "phantom-7", "Secret^Name"
        slice_.StudyDate = slice_.SeriesDate = slice_.AcquisitionDate = slice_.ContentDate = date
        slice_.InstanceNumber = number
        slice_.save_as(target / f"{number:03d}.dcm")
    return target


@pytest.fixture(scope="session")
def dicom_pair(data_dir, tmp_path_factory):
    """``folders`` and ``volumes`` of a baseline and a follow-up; ``moved_mm`` takes a place of one to the other."""
    source = data_dir / "dicom" / "ts_example_series"
    folder = tmp_path_factory.mktemp("dicom")
    first = (150, 110)
    second = (first[0] + SHIFT[0], first[1] + SHIFT[1])
    folders = [
        write_series(source, folder / "baseline", first, "20250102", 0),
        write_series(source, folder / "followup", second, "20250405", 1),
    ]
    volumes = [load_ct(path) for path in folders]
    spacing = volumes[0].geometry.spacing_mm
    moved = np.array([-SHIFT[1] * spacing[2], -SHIFT[0] * spacing[1], 0.0])
    return SimpleNamespace(folders=folders, volumes=volumes, moved_mm=moved)


@pytest.fixture
def checker_errors():
    """What dciodvfy, an independent checker, objects to in a file, as lines; skips where it is not installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy on this machine: apt-get install dicom3tools")

    def errors_of(path):
        check = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, errors="replace")
        lines = (check.stdout + check.stderr).splitlines()
        assert any("Segmentation" in line or "SR" in line for line in lines), lines  # it took the file for what it is
        return [line for line in lines if line.startswith("Error")]

    return errors_of
