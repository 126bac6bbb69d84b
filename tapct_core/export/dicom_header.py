"""What a SEG or SR takes over from its source images, made valid first: sources come from anonymisers and old archives.

Type 2 attributes may be missing there, dates may be ones that no calendar has, text in any character set. Here they
are complete, empty where they say nothing, and text goes out as UTF-8 (ISO_IR 192).
Standard: DICOM PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.6.2 (Image Plane), PS3.5 6.2 (value
representations), 9.1 (UIDs).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..io.dicom_slices import day, number, text

UTF8 = "ISO_IR 192"
UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
WORDS = ("PatientID", "PatientName", "AccessionNumber", "StudyID", "ReferringPhysicianName")
"""Type 2, taken over to the letter: an archive files the new object by them."""
SEXES = ("M", "F", "O")


def clean_header(image: Any, file_affine: np.ndarray, even: bool = True) -> Any:
    """A new data set with all that highdicom takes from a source image, and nothing else.

    ``file_affine`` takes the file's index (column, row, slice) to LPS mm: orientation, pixel spacing and the distance
    of slices come from it, for SliceThickness may be empty, or be that of the beam. Slices that are not ``even`` have
    no one distance: what is said of them is the thickness alone, their own where it is a number.
    """
    from pydicom.dataset import Dataset

    clean = Dataset()
    clean.SpecificCharacterSet = UTF8
    for key in UIDS:
        setattr(clean, key, _uid(image, key))
    for key in WORDS:
        setattr(clean, key, _plain(text(image, key)))
    sex = text(image, "PatientSex").upper()
    clean.PatientSex = sex if sex in SEXES else ""
    clean.PatientBirthDate, clean.StudyDate = (day(text(image, key)) for key in ("PatientBirthDate", "StudyDate"))
    clean.StudyTime = _time(text(image, "StudyTime"))
    clean.Modality = text(image, "Modality") or "CT"
    clean.PositionReferenceIndicator = ""
    clean.Rows, clean.Columns = int(image.Rows), int(image.Columns)
    spacing = np.linalg.norm(file_affine[:3, :3], axis=0)
    columns, rows, _ = (file_affine[:3, :3] / spacing).T
    clean.ImageOrientationPatient = [_decimal(c) for c in (*columns, *rows)]
    clean.ImagePositionPatient = [_decimal(float(c)) for c in image.ImagePositionPatient]
    clean.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    clean.SliceThickness = clean.SpacingBetweenSlices = _decimal(spacing[2])
    if not even:
        del clean.SpacingBetweenSlices
        own = number(image, "SliceThickness", 0.0)
        clean.SliceThickness = _decimal(own if 0 < own < np.inf else spacing[2])
    return clean


def _uid(image: Any, key: str) -> str:
    """A UID that the standard allows, from the meta header where the data set has lost it; else ""."""
    meta = getattr(image, "file_meta", {})
    for found in (text(image, key), text(meta, f"MediaStorage{key}")):
        if len(found) <= 64 and re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", found, re.ASCII):
            return found
    return ""


def _plain(words: str) -> str:
    return "".join(c for c in words if c.isprintable() and c != "\\").strip()


def _time(words: str) -> str:
    """HHMMSS.FFFFFF of DICOM's TM, colons of ACR-NEMA allowed; "" for what no clock shows."""
    digits = words.replace(":", "").strip()
    found = re.fullmatch(r"(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,6})?)?)?", digits, re.ASCII)
    if not found or int(found[1]) > 23 or int(found[2] or 0) > 59 or int(found[3] or 0) > 59:
        return ""
    return digits


def _decimal(value: float) -> str:
    """A number in the 16 characters that DS holds."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))
