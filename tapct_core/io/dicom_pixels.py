"""The pixels of DICOM slices in Hounsfield units, decompressed where a decoder is installed.

Rescale is taken slice by slice, and judged so: a slice that lost its RescaleIntercept, or has another than its
neighbours without its values following, would be a thousand HU off in the middle of a scan.
Standard: DICOM PS3.3 C.7.5.1.1.2 (pixel padding), C.8.2.1 (CT image), C.11.1 (Modality LUT).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import NeedsWord, UserError
from ..files import require_fits
from ..volume import AIR_HU, to_int16_hu
from .checks import refuse_unless_ct, shifted
from .dicom_opening import HEADER_BYTES, open_dicom, require_size
from .dicom_slices import Slice, number, text
from .hu_scale import offset_of, sample

LARGEST_RATIO = 2000
"""No real CT slice compresses more than this; a header that claims so is broken."""
PLAUSIBLE_HU = (AIR_HU, 3071)
"""What a scanner's 12 bits hold; a padding value inside it is left alone, for it may be tissue's too."""
JUMP_HU = 300
"""Neighbouring slices whose rescale differs may differ by so much in the median voxel; a lost intercept is 1024."""
EXTRA = "pip install pylibjpeg pylibjpeg-openjpeg python-gdcm"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rescale:
    """How one slice's stored values become HU. ``intercept`` None where the header has lost it."""

    slope: float
    intercept: float | None
    unit: str
    lut: bool = False

    @property
    def promised(self) -> bool:
        """Whether the header says that these are HU: a CT image's rescale without a type is (C.8.2.1.1.2)."""
        return (self.intercept is not None or self.lut) and self.unit in ("", "HU", "HU_MOD")


HU_NAMES = {"HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "H.U.", "HU (HOUNSFIELD UNITS)"}
"""What some programs write for HU."""


def read_pixels(slices: list[Slice], offset: float | None = None) -> np.ndarray:
    """HU of all slices -> (slice, row, column) int16; padding and values under -1024 are air.

    ``offset`` is what a person wants added; their word stands, and where the values lie is not judged.
    Raises UserError for what cannot be decoded, units other than HU, and values that are not where the header says.
    """
    rows, columns = slices[0].size
    for s in slices:
        if s.path.stat().st_size > s.frames * (rows * columns * 8 + HEADER_BYTES):
            raise UserError(f"{s.path.name} holds more than {rows} x {columns} pixels; copy it again")
        if rows * columns * number(s.header, "BitsAllocated", 16) // 8 > LARGEST_RATIO * s.path.stat().st_size:
            raise UserError(f"{s.path.name} is truncated: it cannot hold {rows} x {columns} pixels; copy it again")
    require_fits(2 * rows * columns * len(slices), f"this DICOM series of {len(slices)} x {rows} x {columns}")
    hu = np.empty((0, rows, columns), np.int16)
    rescales: list[Rescale] = []
    for k, s in enumerate(slices):
        plane, rescale = _read_plane(s, offset or 0.0)
        hu = np.empty((len(slices), rows, columns), np.int16) if not k else hu
        hu[k] = plane
        rescales.append(rescale)
    _opened.cache_clear()
    _check_units(slices, rescales)
    _check_jumps(hu, slices, rescales)
    if offset is None:
        ct = all(text(s.header, "Modality") == "CT" for s in slices)
        _check_scale(hu, ct and all(rescale.promised for rescale in rescales))
    return hu


def same_pixels(a: Slice, b: Slice) -> bool:
    """Whether two slices hold the same HU, whatever their transfer syntax."""
    same = np.array_equal(_read_plane(a)[0], _read_plane(b)[0])
    _opened.cache_clear()  # a file may change before it is read again
    return same


def _check_units(slices: list[Slice], rescales: list[Rescale]) -> None:
    """Raise UserError for a unit that is not HU, and where some slices have lost their rescale and others have not."""
    for s, rescale in zip(slices, rescales, strict=True):
        if rescale.unit not in ("", "HU", "HU_MOD", "US"):
            raise UserError(
                f"this DICOM series is not in HU: its RescaleType is {rescale.unit} ({s.path.name}), as of a material "
                "or dual-energy map; choose the CT series"
            )
    if any(rescale.unit == "HU_MOD" for rescale in rescales):
        log.warning("this DICOM series is in modified Hounsfield units, as of a calculated image; taken as HU")
    lost = [s.path.name for s, r in zip(slices, rescales, strict=True) if r.intercept is None and not r.lut]
    if 0 < len(lost) < len(slices):
        named = ", ".join(lost[:3]) + (" ..." if len(lost) > 3 else "")
        raise UserError(
            f"{len(lost)} of {len(slices)} slices have no RescaleIntercept ({named}) and the others have one, so they "
            "would be off by it; get these slices again"
        )


def _check_jumps(hu: np.ndarray, slices: list[Slice], rescales: list[Rescale]) -> None:
    """Raise UserError where values jump between neighbours with different rescale: one of the two headers is wrong."""
    for k in range(1, len(slices)):
        if (rescales[k].slope, rescales[k].intercept) == (rescales[k - 1].slope, rescales[k - 1].intercept):
            continue
        inside = (hu[k] > AIR_HU) & (hu[k - 1] > AIR_HU)
        if not inside.any():
            continue
        jump = float(np.median(hu[k][inside].astype(np.int32) - hu[k - 1][inside]))
        if abs(jump) > JUMP_HU:
            raise UserError(
                f"the values jump by {jump:.0f} HU from {slices[k - 1].path.name} to {slices[k].path.name}, where the "
                "rescale in the header changes, so one of the two is wrong; get the series again"
            )


def _check_scale(hu: np.ndarray, promised: bool) -> None:
    if not promised:
        refuse_unless_ct(hu, False, "this DICOM series (without RescaleIntercept or modality)")
        return
    values = sample(hu)
    wrong = offset_of(values[values > AIR_HU])
    if wrong:
        raise NeedsWord(
            f"this DICOM series says that it is in HU, but its values lie as a CT's with about {wrong} added",
            f"if that is so, open it with --hu-offset -{wrong}, and if it is not, with --hu-offset 0",
            shifted(wrong),
        )


def _read_plane(s: Slice, offset: float = 0.0) -> tuple[np.ndarray, Rescale]:
    """HU of one slice (row, column) int16 with ``offset`` added, and its rescale. Raises UserError as above."""
    rows, columns = s.size
    try:
        dataset = _opened(s.path, s.frames * rows * columns * 8)
        _know_syntax(dataset)
        _need_decoder(dataset, s.path.name)
        require_size(dataset, rows, columns, s.path.name, s.frame or 0, s.frames)
        stored = _stored(dataset, s)
        rescale = _rescale_of(dataset if s.frame is None else s.header)
        # pydicom drops what is too much; a whole row of it means that the header's size is wrong.
        encapsulated = dataset.file_meta.TransferSyntaxUID.is_encapsulated
        packed = s.frame is not None or encapsulated or "BitsAllocated" not in dataset
        excess = (
            0 if packed else len(dataset.PixelData) - stored.nbytes * dataset.BitsAllocated // (8 * stored.itemsize)
        )
        slope, intercept = rescale.slope, (rescale.intercept or 0.0) + offset
        fits = stored.shape == s.size and stored.dtype.kind in "iu" and excess < s.size[1]
        if not fits or not np.isfinite([slope, intercept]).all() or slope == 0:
            raise UserError(f"{s.path.name} is damaged: its pixels do not fit its header; copy it again")
        return _in_hu(dataset, stored, rescale, intercept, offset), rescale
    except UserError:
        raise
    except Exception:  # decoders and a broken file can raise anything; their words help nobody
        raise UserError(f"{s.path.name} is truncated or damaged: its pixels cannot be read; copy it again") from None


def _stored(dataset: Any, s: Slice) -> np.ndarray:
    """The stored values of a slice (row, column).

    pydicom takes the low bits of each cell. Old files keep their values in the high ones (HighBit 15 of 12 bits), and
    some say so and do not: the cells tell, for bits below the values are empty. Standard: DICOM PS3.5 8.1.1.
    """
    from pydicom.pixels import pixel_array

    cell, used = number(dataset, "BitsAllocated", 16), number(dataset, "BitsStored", 16)
    high = number(dataset, "HighBit", used - 1)
    if high != used - 1 and 0 < used <= high < cell and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        kept = dataset.BitsStored, dataset.HighBit
        dataset.BitsStored, dataset.HighBit = int(cell), int(cell) - 1
        whole = pixel_array(dataset, index=s.frame)
        dataset.BitsStored, dataset.HighBit = kept
        if not (whole & ((1 << int(high - used + 1)) - 1)).any():
            return (whole << int(cell - 1 - high)) >> int(cell - used)
    return dataset.pixel_array if s.frame is None else pixel_array(dataset, index=s.frame)


@lru_cache(maxsize=1)
def _opened(path: Path, pixel_bytes: int) -> Any:
    """A file, kept while the frames of a multi-frame one are read in turn."""
    return open_dicom(path, pixel_bytes=pixel_bytes)


def _in_hu(dataset: Any, stored: np.ndarray, rescale: Rescale, intercept: float, offset: float) -> np.ndarray:
    slope = rescale.slope
    if rescale.lut:
        from pydicom.pixels import apply_modality_lut

        hu = to_int16_hu(apply_modality_lut(stored, dataset).astype(np.float64) + offset)
    elif slope == 1.0 and intercept == int(intercept):
        hu = to_int16_hu(stored.astype(np.int32) + int(intercept))
    else:
        hu = to_int16_hu(stored * slope + intercept)
    padding = _padding(dataset, stored.dtype)
    if padding is not None:
        values = np.arange(padding[0], padding[1] + 1) * slope + intercept
        far = (values < PLAUSIBLE_HU[0]) | (values > PLAUSIBLE_HU[1])
        inside = (stored >= padding[0]) & (stored <= padding[1])
        hu[inside] = np.where(far[stored[inside].astype(np.int64) - padding[0]], AIR_HU, hu[inside])
    return hu


def _padding(dataset: Any, dtype: np.dtype) -> tuple[int, int] | None:
    """The first and last stored value of the padding; None where none is declared."""
    ends = [dataset.get(key) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    # The tag's sign may not agree with the pixels', so compare the bits as stored.
    known = [int(np.array(end & 0xFFFF, np.uint16).astype(dtype)) for end in ends if isinstance(end, int)]
    if not isinstance(ends[0], int):
        return None
    return min(known), max(known)


def _rescale_of(dataset: Any) -> Rescale:
    """What the header says. Raises UserError where it is there and no number."""
    found: dict[str, float | None] = {}
    for key in ("RescaleSlope", "RescaleIntercept"):
        words = text(dataset, key)
        try:
            found[key] = float(words) if words else None
        except ValueError:
            raise UserError(f"a slice's {key} is {words[:20]!r}, no number; get the series again") from None
    lut = bool(dataset.get("ModalityLUTSequence")) and found["RescaleIntercept"] is None
    unit = text(dataset.ModalityLUTSequence[0], "ModalityLUTType") if lut else text(dataset, "RescaleType")
    slope = 1.0 if found["RescaleSlope"] is None else found["RescaleSlope"]
    unit = unit.upper()
    return Rescale(slope, found["RescaleIntercept"], "HU" if unit in HU_NAMES else unit, lut)


def _know_syntax(dataset: Any) -> None:
    """Give a file without a meta header the transfer syntax that its bytes were parsed by, as pydicom found it out."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if getattr(dataset, "file_meta", None) is None:
        dataset.file_meta = FileMetaDataset()
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _need_decoder(dataset: Any, name: str) -> None:
    """Raise UserError that names the extra when no installed package decodes this transfer syntax."""
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise UserError(
            f"{name} has a transfer syntax that is not read ({syntax.name}); save it uncompressed"
        ) from None
    if not available:
        raise UserError(f"{name} is compressed ({syntax.name}) and its decoder is not installed; run {EXTRA}")
