"""The DICOM images that SEG and SR refer to; sources that cannot be referred to are refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..io.dicom_frames import frame_header
from ..io.dicom_opening import open_dicom
from ..io.dicom_resample import onto_slices
from ..io.dicom_slices import quiet
from ..lesions import Finding, Lesion, Study, new_uid
from ..volume import CTVolume
from .dicom_header import clean_header

MANUFACTURER, MODEL = "napari-tapct", "tapct"
NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")

EVEN = 0.02
"""Distances of slices that differ by less than this share of the smallest are one distance."""


@dataclass(frozen=True)
class Frame:
    """A frame of a multi-frame image: the image's UIDs and the frame's number from 1."""

    sop_class: str
    sop_instance: str
    number: int


def require_dicom(volume: CTVolume, what: str) -> None:
    """Raise UserError unless the scan was read from DICOM. ``what`` is SEG or SR."""
    if volume.source.dicom is None:
        raise UserError(
            f"a DICOM {what} refers to the DICOM images it was made from, and this scan came from "
            f"{volume.source.kind}; use the DICOM series, or write a CSV instead"
        )


def source_images(volume: CTVolume, what: str) -> list[Any]:
    """Headers of the scan's slices in the order of its file (foot to head), for highdicom; see :mod:`.dicom_header`.

    Raises UserError for a scan that was not DICOM, for files that are gone, and for headers without the UIDs that a
    reference needs, or with one for several slices (some anonymisers empty them, some write the same everywhere).
    """
    require_dicom(volume, what)
    series, native = volume.source.dicom, volume.source.native
    even = native is None or np.ptp(np.diff(native.at[:, 0])) < EVEN
    with quiet():
        headers = {path: _header(path) for path in dict.fromkeys(series.files)}
        images = [headers[path] for path in series.files]
        try:
            if series.frames:
                images = [frame_header(image, n - 1) for image, n in zip(images, series.frames, strict=True)]
            images = [clean_header(image, volume.source.file_affine, even) for image in images]
        except Exception:  # the file is another one now: what was there when the scan was opened is not
            raise UserError("the files of the DICOM series have changed since it was opened; open it again") from None
    for image in images:
        missing = [key for key in NEEDED if not image.get(key)]
        if missing:
            raise UserError(
                f"the DICOM series has no valid {missing[0]}, so a {what} cannot refer to it; "
                "use the series as the scanner or the archive sent it"
            )
    if not series.frames and len({image.SOPInstanceUID for image in images}) < len(images):
        raise UserError(
            f"several slices of the DICOM series have one SOPInstanceUID, so a {what} cannot tell them apart; "
            "use the series as the scanner or the archive sent it"
        )
    return images


def _header(path: Path) -> Any:
    try:
        return open_dicom(path, pixels=False)
    except Exception as error:  # gone, or damaged meanwhile
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise UserError(f"a slice of the DICOM series cannot be read any more ({reason}); put it back") from None


def each_by_itself(volume: CTVolume, images: list[Any]) -> tuple[list[Any], dict[str, Frame]]:
    """Frames as images of their own, for highdicom, which takes many images or one with many frames.

    -> (images, what each stands for by its SOP instance UID); single images stay, with {}.
    """
    frames = volume.source.dicom.frames
    if not frames:
        return images, {}
    from pydicom.uid import CTImageStorage

    own, stands_for = [copy(image) for image in images], {}
    for image, number in zip(own, frames, strict=True):
        uid = new_uid()
        stands_for[uid] = Frame(image.SOPClassUID, image.SOPInstanceUID, number)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid
    return own, stands_for


def refer_to_frames(made: Any, stands_for: dict[str, Frame]) -> None:
    """Put the images and frames in ``made``, in place, wherever it refers to an image that :func:`each_by_itself` made.

    A frame is named where pixels were derived from it; where images are only listed, each is once.
    Standard: DICOM PS3.3 C.7.6.16.2.6 (Derivation Image), C.12.2 (Common Instance Reference).
    """

    def put(item: Any) -> Frame:
        frame = stands_for[item.ReferencedSOPInstanceUID]
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class, frame.sop_instance
        return frame

    if not stands_for:
        return
    for group in made.PerFrameFunctionalGroupsSequence:
        for source in (one for item in group.DerivationImageSequence for one in item.SourceImageSequence):
            source.ReferencedFrameNumber = put(source).number
    for series in made.ReferencedSeriesSequence:
        listed = {put(one).sop_instance: one for one in series.ReferencedInstanceSequence}
        series.ReferencedInstanceSequence = list(listed.values())


@contextmanager
def said_in_one_line(what: str) -> Iterator[None]:
    """What a library refuses while a SEG or SR is made becomes a UserError; its warnings, which may quote a patient's
    data, are kept to itself."""
    try:
        with quiet():
            yield
    except (UserError, OSError):
        raise
    except Exception as error:  # highdicom and pydicom raise all kinds for headers that do not suit them
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"a DICOM {what} cannot be made for this series ({reason}); use the series as the scanner or the archive "
            "sent it, or write a CSV"
        ) from error


def label_text(text: str, most: int = 64) -> str:
    """A name as DICOM's short text values hold it: no control characters, no backslash (it parts values)."""
    plain = "".join(c if c.isprintable() and c != "\\" else " " for c in text)
    return " ".join(plain.split())[:most].strip() or "unnamed"


def file_order(mask_zyx: np.ndarray, volume: CTVolume) -> np.ndarray:
    """A scan-sized mask (z, y, x) -> (slices, rows, columns) as the DICOM files hold it, slice by slice."""
    stored = volume.source.orientation.undo(mask_zyx).T
    native = volume.source.native
    return stored if native is None else onto_slices(stored, native)


def pixel_of(points_lps_mm: np.ndarray, image: Any) -> np.ndarray:
    """LPS points (n, 3) -> (column, row) of one slice as SCOORD counts them: 0.5 is the first pixel's centre.

    DICOM PS3.3 C.18.6.1.2: the top left corner of the top left pixel is (0, 0).
    """
    origin = np.array(image.ImagePositionPatient, dtype=np.float64)
    along, down = np.array(image.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(s) for s in image.PixelSpacing)
    offset = np.asarray(points_lps_mm, dtype=np.float64) - origin
    return np.column_stack([offset @ along / between_columns, offset @ down / between_rows]) + 0.5


def nearest_slice(point_lps_mm: np.ndarray, images: list[Any]) -> int:
    """Index of the slice whose plane lies nearest to a point."""
    along, down = np.array(images[0].ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    normal = np.cross(along, down)
    heights = np.array([np.array(image.ImagePositionPatient, dtype=np.float64) @ normal for image in images])
    return int(np.abs(heights - np.asarray(point_lps_mm) @ normal).argmin())


def findings_at(study: Study, timepoint: str) -> list[tuple[Lesion, Finding]]:
    """All that a time point has, lesion by lesion."""
    return [(lesion, lesion.findings[timepoint]) for lesion in study.lesions if timepoint in lesion.findings]


def software_version() -> str:
    """The package's version, at most the 64 characters DICOM allows."""
    from .. import __version__

    return __version__[:64]
