"""A CT in Hounsfield units, or its labels, with the place of every voxel and the way back to the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import UserError
from .geometry import Geometry, GeometryError, Orientation

AIR_HU = -1024
"""What lies outside a scan; padding values below it are turned into it on reading."""


@dataclass(frozen=True)
class DicomSeries:
    """What a DICOM series says of itself that SEG, SR and the time axis need later. No patient name.

    ``sop_instance_uids`` and ``files`` stand in the order of the volume's z axis (foot to head).
    ``date`` is YYYYMMDD (series, else study, else acquisition), "" where the header has none.
    """

    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    sop_instance_uids: tuple[str, ...]
    files: tuple[Path, ...]
    date: str = ""
    description: str = ""
    patient_key: str = ""
    """A keyed hash of the patient's ID (:mod:`tapct_core.patient_key`), to tell patients apart without naming them."""
    frames: tuple[int, ...] = ()
    """Of an enhanced multi-frame image, the number of each slice's frame, from 1; () for single images."""
    sex: str = ""
    """DICOM's code for the patient's sex (M, F, O), "" where the header has none."""


@dataclass(frozen=True, eq=False)
class Native:
    """Where the slices of a series lie in the grid (slice, row, column) that it was resampled on.

    ``at`` (n, 3) is the grid's fractional index (slice, row, column) of each slice's first pixel; ``size`` (rows,
    columns) is that of the slices, ``grid`` the grid's shape.
    """

    at: np.ndarray
    size: tuple[int, int]
    grid: tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """Where a volume came from, with all that writing back onto the same grid takes.

    ``file_shape`` and ``orientation`` give the array order of the file; ``file_affine`` takes the
    file's own index to LPS mm. ``codes`` are NIfTI's (qform, sform) codes, ``header`` the raw
    NIfTI header bytes, so that both forms and the units go back unchanged.
    """

    kind: str
    """"nifti", "dicom", "nrrd", "metaimage", "array" or "synthetic"."""
    path: Path | None = None
    file_shape: tuple[int, ...] = ()
    file_affine: np.ndarray | None = None
    orientation: Orientation = field(default_factory=Orientation)
    codes: tuple[int, int] = (0, 0)
    header: bytes = b""
    dicom: DicomSeries | None = None
    window: tuple[float, float] | None = None
    """(width, level) in HU where the header suggests one."""
    native: Native | None = None
    """Where the file's own slices lie, for a series that was resampled on a person's word."""
    how: tuple[tuple[str, float], ...] = ()
    """What a person said of it, as keywords of ``load_ct`` and their values; reading it again needs them again."""


@dataclass(frozen=True, eq=False)
class CTVolume:
    """HU (z, y, x), int16, read-only, with its Geometry and Source."""

    hu: np.ndarray
    geometry: Geometry
    source: Source = field(default_factory=lambda: Source("array"))

    def __post_init__(self) -> None:
        if self.hu.shape != self.geometry.shape:
            raise GeometryError(f"the array is {self.hu.shape}, its geometry {self.geometry.shape}")
        hu = self.hu if self.hu.dtype == np.int16 else to_int16_hu(self.hu)
        object.__setattr__(self, "hu", _read_only(hu))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over voxels, shape and affine (to 1e-6 mm): equal for equal scans, wherever they lie."""
        digest = hashlib.sha256(np.ascontiguousarray(self.hu))
        digest.update(repr(self.geometry.shape).encode())
        digest.update((np.round(self.geometry.affine, 6) + 0.0).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels (z, y, x), uint8 or uint16, 0 = background; ``names`` and ``colours`` (RGB 0-255) by value."""

    labels: np.ndarray
    geometry: Geometry
    source: Source = field(default_factory=lambda: Source("array"))
    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels.shape != self.geometry.shape:
            raise GeometryError(f"the label array is {self.labels.shape}, its geometry {self.geometry.shape}")
        if self.labels.dtype not in (np.uint8, np.uint16):
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high > 65535 or not np.array_equal(self.labels, np.rint(self.labels)):
                raise UserError(f"labels are whole numbers from 0 to 65535, not {low} to {high}; choose a label map")
            object.__setattr__(self, "labels", self.labels.astype(np.uint8 if high < 256 else np.uint16))
        object.__setattr__(self, "labels", _read_only(self.labels))


def to_int16_hu(values: np.ndarray) -> np.ndarray:
    """HU of any dtype -> int16; NaN and padding under -1024 become air, the rest is rounded and clipped."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = np.rint(np.nan_to_num(values, nan=AIR_HU, posinf=32767, neginf=AIR_HU))
    return np.clip(values, AIR_HU, 32767).astype(np.int16)


def _read_only(array: np.ndarray) -> np.ndarray:
    """The array itself if nobody can write to it, else a locked view, so a volume never changes under a cache."""
    view = array.view()
    view.setflags(write=False)
    return view
