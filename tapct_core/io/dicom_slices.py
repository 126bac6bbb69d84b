"""One DICOM image file each: its header without the pixels, its place in the patient, its values in words."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import open_regular
from .dicom_opening import open_dicom

HEADER_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesDate",
    "StudyDate",
    "AcquisitionDate",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "InstanceNumber",
    "PatientID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ConvolutionKernel",
    "WindowWidth",
    "WindowCenter",
]
"""All that choosing and placing a series needs; no name, no birth date."""
PLANE_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class of a CT image (DICOM PS3.6)."""
VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OF OW PN SH SL SQ SS ST TM UI UL UN US UT".split()
"""Value representations as they stand in the header of an explicit transfer syntax (DICOM PS3.5)."""


@dataclass(frozen=True)
class Slice:
    """One image file: its header without the pixels, and where it lies."""

    path: Path
    header: Any
    position: np.ndarray  # (3,) LPS mm of the first pixel's centre
    axes: np.ndarray  # (2, 3) LPS directions: along a row, down a column
    frame: int | None = None  # of an enhanced multi-frame image, whose header here is made for this frame
    frames: int = 1  # in its file

    @property
    def series(self) -> tuple[str, ...]:
        """What makes slices one series."""
        return series_of(self.header)

    @property
    def uid(self) -> str:
        """SOPInstanceUID, from the file's own meta header where the data set has lost it."""
        return text(self.header, "SOPInstanceUID") or text(self.header.file_meta, "MediaStorageSOPInstanceUID")

    @property
    def spacing(self) -> np.ndarray:
        """(between rows, between columns) in mm, in this order by the standard."""
        return np.array(self.header.PixelSpacing, dtype=np.float64)

    @property
    def size(self) -> tuple[int, int]:
        return int(self.header.Rows), int(self.header.Columns)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings and log to itself: they quote values of the header, which may name a patient."""
    import pydicom

    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def is_dicom(head: bytes) -> bool:
    """Whether a file's first 132 bytes are DICOM: the preamble's mark, or a bare element of group 0002 or 0008.

    Files without a preamble (ACR-NEMA exports, cut-off meta headers) begin with any low element of these groups, in
    either byte order; what follows must be a value representation, or a length that such an element can have.
    """
    if head[128:132] == b"DICM":
        return True
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[at : at + 2], order) for at in (0, 2))
        if len(head) >= 8 and group in (0x0002, 0x0008) and element <= 0x0070:
            length = int.from_bytes(head[4:8], order)
            return head[4:6] in VRS or (length < 1024 and length % 2 == 0)
    return False


def read_header(path: Path) -> Any | None:
    """The header of one DICOM file without its pixels; None for what is no DICOM.

    Raises UserError for a DICOM file that cannot be parsed, or a CT image that ends before its pixels' size.
    """
    damaged = UserError(f"{path.name} is truncated or damaged; copy it again, or remove it if it is not needed")
    try:
        with open_regular(path) as file:
            if not is_dicom(file.read(132)):
                return None
        header = open_dicom(path, HEADER_TAGS)
        whole = not is_ct_image(header) or "Rows" in header
    except Exception:  # a broken file can raise anything from struct.error to RecursionError
        raise damaged from None
    if not whole:
        raise damaged
    return header


def is_ct_image(header: Any) -> bool:
    """Whether the header, or the file's meta header, says that it is a CT image (and not a report or a screen)."""
    return CT_IMAGE in (text(header, "SOPClassUID"), text(header.file_meta, "MediaStorageSOPClassUID"))


def plane_of(path: Path, header: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """(position, axes) of one grey-valued frame; None where the header speaks of no such plane.

    Raises UserError where a CT speaks of one, but in values that cannot be: it is a slice that would be missed.
    """
    if not all(text(header, key) for key in PLANE_TAGS):
        if any(key in header for key in PLANE_TAGS) and text(header, "Modality") == "CT" and _unreadable(header):
            raise UserError(f"{path.name} is damaged: its place in the patient cannot be read; copy it again")
        return None
    if number(header, "NumberOfFrames", 1) != 1 or number(header, "SamplesPerPixel", 1) != 1:
        return None
    try:
        position = np.array(header.ImagePositionPatient, dtype=np.float64).reshape(3)
        axes = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        spacing = np.array(header.PixelSpacing, dtype=np.float64).reshape(2)
        if min(int(header.Rows), int(header.Columns)) < 1 or not (spacing.min() > 0 and spacing.max() < np.inf):
            raise ValueError("no size")
        if not np.isfinite([*position, *axes.ravel()]).all():
            raise ValueError("no place")
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{path.name} is damaged: its place in the patient cannot be read; copy it again") from None
    return position, axes


def _unreadable(header: Any) -> bool:
    """Whether one of the plane's values is there but cannot be converted, in contrast to being left empty."""
    for key in PLANE_TAGS:
        try:
            header.get(key)
        except Exception:  # pydicom converts on access, and a broken value can raise anything
            return True
    return False


def text(header: Any, key: str) -> str:
    """A header's value in words, several joined by DICOM's own backslash; "" where there is none or it is broken."""
    try:
        value = header.get(key)
        several = hasattr(value, "__iter__") and not isinstance(value, str)
        return "" if value is None else "\\".join(str(v) for v in value) if several else str(value).strip()
    except Exception:  # pydicom converts on access, and a broken value can raise anything
        return ""


def number(header: Any, key: str, default: float) -> float:
    """A header's value as a float; ``default`` where it is missing, empty or no number."""
    try:
        return float(text(header, key) or default)
    except ValueError:
        return default


def series_of(header: Any) -> tuple[str, ...]:
    """A series' UID, or for files that lost it, what else the header says of it."""
    uid = text(header, "SeriesInstanceUID")
    return (uid,) if uid else ("", text(header, "SeriesNumber"), text(header, "SeriesDescription"))


def date_of(header: Any) -> str:
    """YYYYMMDD of the series, else the study, else the acquisition; "" where none is a day of the calendar."""
    dates = (day(text(header, key)) for key in ("SeriesDate", "StudyDate", "AcquisitionDate"))
    return next((found for found in dates if found), "")


def day(words: str) -> str:
    """YYYYMMDD of DICOM's DA, ACR-NEMA's dots allowed; "" for what no calendar has, as anonymisers write it."""
    digits = words.strip().replace(".", "")
    if not (len(digits) == 8 and digits.isascii() and digits.isdigit()):
        return ""
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).strftime("%Y%m%d").zfill(8)
    except ValueError:
        return ""


def window_of(header: Any) -> tuple[float, float] | None:
    """(width, level) HU that the header suggests first."""
    try:
        width, level = (float(np.atleast_1d(header[key].value)[0]) for key in ("WindowWidth", "WindowCenter"))
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return (width, level) if width > 0 and np.isfinite([width, level]).all() else None
