"""Reading CTs and label maps by content, and writing label maps back onto the grid they belong to.

Read: NIfTI (.nii, .nii.gz), a DICOM folder or one of its files (enhanced multi-frame too), NRRD, MetaImage (.mha,
.mhd), and a zip archive of one of these; docs/formats.md says what is read, repaired, asked about and refused. A volume
comes in HU, axial-first LPS, with the exact way back in its Source. Refused with one line
(UserError): what is missing, empty, truncated or damaged; more than one volume in time; colour and complex data;
axes that are singular or sheared; missing, duplicate, leaning or unevenly spaced slices; all NaN; and what its
modality or its values show to be no CT.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from ..files import open_regular
from ..geometry import axis_codes
from ..volume import CTVolume, LabelMap
from . import dicom, nifti
from .checks import unpacked_head
from .dicom import SeriesInfo, list_series
from .inventory import Row, inventory
from .labels import save_labels
from .readers import HEAD_BYTES, reader_of
from .suffixes import BY_FORMAT
from .zipped import MAGIC, unzipped

__all__ = ["Row", "SeriesInfo", "inventory", "list_series", "load_ct", "load_labels", "save_labels", "scan_info"]

FORMATS = " or ".join(f"{name} ({', '.join(suffixes)})" for name, suffixes in BY_FORMAT.items())


def load_ct(
    path: str | os.PathLike,
    series: str | None = None,
    *,
    hu_offset: float | None = None,
    phase: int | None = None,
    resample: bool = False,
) -> CTVolume:
    """Read one CT into HU (z, y, x), axial-first LPS.

    ``path`` is a file, a zip archive that holds one scan, or a folder of DICOM slices (subfolders included); a DICOM
    file stands for its whole series in the same folder. ``series`` is the SeriesInstanceUID to take from several,
    ``phase`` (from 1) the phase to take from a 4D series. ``hu_offset`` is a person's word for what has to be added to
    the values to make them HU (-1024 where an intercept was lost, 0 for "they are HU"); they are not judged then.
    ``resample`` is their word that slices of a tilted gantry, or unevenly apart, may be put on a regular grid.
    Raises UserError, one line, for all that the module's docstring names.
    """
    said = {"hu_offset": hu_offset, "phase": phase, "resample": resample or None}
    volume = _read_ct(Path(path), series, **{key: value for key, value in said.items() if value is not None})
    how = tuple((key, value) for key, value in said.items() if value is not None)
    return replace(volume, source=replace(volume.source, how=how))


def _read_ct(
    path: Path, series: str | None, hu_offset: float | None = None, phase: int | None = None, resample: bool = False
) -> CTVolume:
    kind = kind_of(path)
    if kind == "zip":
        with unzipped(path) as inside:
            volume = _read_ct(inside, series, hu_offset, phase, resample)
            return replace(volume, source=replace(volume.source, path=path))
    if kind != "dicom" and (series is not None or phase is not None):
        what = "series" if series is not None else "phase"
        raise UserError(f"{path.name} is no DICOM folder, so it has no {what} to choose; leave --{what} out")
    with _in_one_line(path):
        if kind == "dicom":
            return dicom.read_ct(path, series, hu_offset, phase, resample)
        return (reader_of(_head_of(path)) or _not_read(path)).read_ct(path, hu_offset)


def load_labels(path: str | os.PathLike) -> LabelMap:
    """Read one label map (NIfTI, NRRD or MetaImage) into (z, y, x), axial-first LPS, with names where they are kept.

    Raises UserError as :func:`load_ct` does, and for values that are not whole numbers from 0 to 65535.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "zip":
        with unzipped(path) as inside:
            labels = load_labels(inside)
            return replace(labels, source=replace(labels.source, path=path))
    if kind == "dicom":
        raise UserError(f"{path.name} is DICOM; label maps are read from NIfTI, NRRD or MetaImage, so convert it first")
    with _in_one_line(path):
        return (reader_of(_head_of(path)) or _not_read(path)).read_labels(path)


def scan_info(path: str | os.PathLike, series: str | None = None, **how) -> dict[str, object]:
    """What ``tapct info`` prints of a CT: plain lists, numbers and words, nothing of the patient; ``how`` as load_ct.

    ``shape`` and ``spacing_mm`` are [z, y, x] of the volume as it is worked on, ``orientation`` the
    directions in which the *file's* axes (x, y, z) grow, such as "LPS"; ``hu_range`` is [min, max].
    Raises UserError as :func:`load_ct` does: the voxels are read too.
    """
    volume = load_ct(path, series, **how)
    series_read = volume.source.dicom
    return {
        "shape": list(volume.geometry.shape),
        "spacing_mm": [round(s, 6) for s in volume.geometry.spacing_mm],
        "orientation": axis_codes(volume.source.file_affine),
        "hu_range": [int(volume.hu.min()), int(volume.hu.max())],
        "kind": volume.source.kind,
        "date": series_read.date if series_read else "",
        "series_description": series_read.description if series_read else "",
    }


def kind_of(path: Path) -> str:
    """ "nifti", "dicom", "nrrd", "metaimage" or "zip", by what the file holds, whatever it is called.

    Raises UserError when it does not exist, is empty, or is none of them.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path")
    if path.is_dir():
        return "dicom"
    head = _head_of(path)
    reader = reader_of(head)
    if reader is not None:
        return reader.kind_of(head)
    if head.startswith(MAGIC):
        return "zip"
    return "dicom" if dicom.is_dicom(head) else _not_read(path)


def _head_of(path: Path) -> bytes:
    """The first bytes of a file, unpacked where it is a packed NIfTI. Raises UserError where there are none."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror}); check its permissions") from None
    if not head:
        raise UserError(f"{path.name} is empty; copy it again")
    if head[:2] == b"\x1f\x8b":
        head = unpacked_head(path, HEAD_BYTES)
        return head if nifti.kind_of(head) else _not_read(path)
    return head


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    """What the system refuses half-way: a file that goes while it is read, a disk that is pulled, too little memory."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path.name} cannot be read ({error.strerror or error}); check that it is still there"
        ) from None
    except MemoryError:
        raise UserError(f"there is not enough memory to read {path.name}; close other programs") from None


def _not_read(path: Path) -> str:
    raise UserError(f"{path.name} is not a format this reads (or its header is damaged); give {FORMATS}")
