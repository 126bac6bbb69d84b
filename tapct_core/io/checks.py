"""What every reader asks of a file, whatever its format: can the grid be placed, and are these Hounsfield units?"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import NeedsWord, UserError
from ..geometry import Geometry, GeometryError, Orientation, orient
from ..volume import AIR_HU
from .hu_scale import offset_of, sample

VOXEL_MM = (0.01, 100.0)
"""Voxel edges outside this range (mm) are taken for a broken header: micro-CT to coarse phantom scans lie inside."""
MAX_SHEAR_DEGREES = 0.5
"""Axes may deviate this much from a right angle, for rounding in headers; more is a tilted gantry."""
HEAD_PACKED = 1 << 16
"""Bytes of a gzip file in which its first few thousand unpacked bytes lie."""
PIECE = 1 << 20
"""Bytes of a packed file that are read at a time."""
DEFLATE_RATIO = 1032
"""The most that deflate can shrink (RFC 1951: 258 bytes by 2 bits), so the most a file can hold per stored byte."""
FAR_BELOW_AIR, METAL = -1200, 8000
"""HU that noise and streaks do not reach, and that the densest implants do not pass (extended CT scales)."""
NOT_HU = "if it is a CT, save it in Hounsfield units first"


log = logging.getLogger(__name__)


class LooksLikeLabels(UserError):
    """A file that was opened as a CT holds a label map, so whoever can show both may read it as one."""


def place(file_shape: tuple[int, ...], file_affine: np.ndarray, name: str) -> tuple[Orientation, Geometry]:
    """:func:`~tapct_core.geometry.orient` for a file called ``name``: its affine takes index to LPS mm.

    Raises UserError when the affine is singular, not finite, sheared, or its voxels have an impossible size.
    """
    try:
        orientation, geometry = orient(file_shape[:3], file_affine)
    except GeometryError as error:
        raise UserError(f"{name}: {error}; correct its header or convert it from the original DICOM again") from None
    spacing = geometry.spacing_mm
    if min(spacing) < VOXEL_MM[0] or max(spacing) > VOXEL_MM[1]:
        raise UserError(
            f"{name}: voxels of {spacing[0]:.4g} x {spacing[1]:.4g} x {spacing[2]:.4g} mm (z, y, x) cannot be right; "
            "correct the header"
        )
    cosines = np.abs(geometry.direction.T @ geometry.direction - np.eye(3)).max()
    if cosines > np.sin(np.radians(MAX_SHEAR_DEGREES)):
        raise UserError(
            f"{name}: the axes are not at right angles (off by {np.degrees(np.arcsin(min(1.0, cosines))):.1f} degrees) "
            "as after a tilted gantry; resample it to a rectangular grid first"
        )
    return orientation, geometry


def hounsfield(raw: np.ndarray, slope: float, intercept: float, name: str, offset: float | None = None) -> np.ndarray:
    """Stored values of a whole file -> int16 HU, same shape and memory order, padding under -1024 made air.

    Where ``raw`` has two bytes a voxel and may be written, it is made into HU where it lies, so that a scan takes its
    own size and no more. ``offset`` is what a person wants added; their word stands, and the values are not judged.
    Raises UserError for values that no CT has (see :func:`refuse_unless_ct`).
    """
    intercept += offset or 0.0
    if raw.dtype == np.int16 and slope == 1.0 and intercept == 0.0:
        hu = raw.astype(np.int16, copy=False)
        low = hu.min()
        if offset is None:
            refuse_unless_ct(hu, False, name)
        return np.maximum(hu, AIR_HU, out=hu if hu.flags.writeable else None) if low < AIR_HU else hu
    in_place = raw.dtype.kind in "iu" and raw.dtype.itemsize == 2 and raw.dtype.isnative and raw.flags.writeable
    hu = raw.view(np.int16) if in_place else np.empty(raw.shape, np.int16, order="F")
    finite = fractional = False
    for k in range(raw.shape[-1]):  # by slices, so that no float copy of the whole scan is made
        values = raw[..., k].astype(np.float64) * slope + intercept
        known = np.isfinite(values)
        finite = finite or bool(known.any())
        fractional = fractional or bool((values[known] != np.rint(values[known])).any())
        hu[..., k] = np.clip(np.rint(np.nan_to_num(values, nan=AIR_HU)), -32768, 32767)
    if not finite:
        raise UserError(f"{name} has no finite value (all NaN); convert it from the original again")
    if offset is None:
        refuse_unless_ct(hu, fractional, name)
    return np.maximum(hu, AIR_HU, out=hu)


def refuse_unless_ct(hu: np.ndarray, fractional: bool, name: str) -> None:
    """Raise UserError where the values themselves show that this is no CT in HU; ``hu`` is int16, any shape.

    A format without a modality leaves only the values, judged without padding (one value far below air, or air
    itself). Where they lie as a CT's with its rescale intercept lost, that is said. Air and fat are negative, so
    nearly every CT has more than one in a thousand below -25. Where there are fewer, it is refused when 5 % of it is
    exactly 0 (a background, as in labels, MR and PET) or when it spans more than 500 HU: a crop inside one organ has
    no fat or air either, but then spans less. Values that span less than 30 HU, less than the noise of a CT, are
    labels or normalised; many far below air or above metal are another quantity.
    """
    values, strange = _without_padding(hu)
    if not values.size:
        raise UserError(f"{name} is not a CT: every voxel is {int(hu.flat[0])}; {NOT_HU}")
    low, high = int(values.min()), int(values.max())
    if fractional and high - low < 30:
        raise UserError(
            f"{name} is not a CT in HU: its fractional values span {low} to {high}, as after normalising; {NOT_HU}"
        )
    if low == high:
        refusal = LooksLikeLabels if low == 0 else UserError  # an empty segmentation
        raise refusal(f"{name} is not a CT: every voxel is {low}; {NOT_HU}")
    if not fractional and (high - low < 30 or (low >= 0 and _piecewise_constant(hu))):
        raise LooksLikeLabels(
            f"{name} is not a CT: its values, {low} to {high}, come in uniform patches, as in a label map; "
            "choose the CT itself"
        )
    offset = offset_of(values)
    if offset:
        raise NeedsWord(
            f"{name} is not in HU: its values lie as a CT's with about {offset} added, so its rescale intercept was "
            "lost",
            f"if that is so, open it with --hu-offset -{offset}",
            shifted(offset),
        )
    if strange > 0.05:
        raise UserError(f"{name} is not a CT in HU: {strange:.0%} of its values are ones that no CT has; {NOT_HU}")
    first, last = np.percentile(values, (0.5, 99.5))
    if (values < -25).mean() < 0.001 and ((values == 0).mean() >= 0.05 or last - first > 500):
        raise NeedsWord(
            f"{name} is not a CT in HU: its values run from {low} to {high} with next to none below 0, as in MR or PET",
            "if it is a CT whose rescale intercept was lost, open it with --hu-offset -1024",
            shifted(1024),
        )


def shifted(offset: int) -> tuple[tuple[str, dict[str, object]], ...]:
    """What a person may say of values that seem to be ``offset`` too high, as NeedsWord wants it."""
    return (
        (f"It is a CT: take {offset} from all values", {"hu_offset": -float(offset)}),
        ("It is a CT in HU: take the values as they are", {"hu_offset": 0.0}),
    )


def _without_padding(hu: np.ndarray) -> tuple[np.ndarray, float]:
    """Values (n,) of a scan without its padding, and the share that is neither padding nor any tissue or metal."""
    values = sample(hu)
    far = values[values < FAR_BELOW_AIR]
    if far.size:  # padding is one value; what is spread out is not
        padding = np.bincount(far.astype(np.int32) + 32768).argmax() - 32768
        values = values[values != padding]
    values = values[values != AIR_HU]
    strange = ((values < FAR_BELOW_AIR) | (values > METAL)).mean() if values.size else 0.0
    return values, float(strange)


def _piecewise_constant(values: np.ndarray) -> bool:
    """Whether neighbours along the first axis mostly agree where either is not 0: labels do, noise does not."""
    before, after = values[:-1], values[1:]
    inside = (before != 0) | (after != 0)
    return bool(inside.any()) and bool((before == after)[inside].mean() > 0.6)


def whole_labels(raw: np.ndarray, name: str) -> np.ndarray:
    """Stored values -> uint8 or uint16 labels, same shape. Raises UserError unless all are whole and 0 to 65535."""
    low, high = raw.min(), raw.max()  # NaN fails the comparison below
    if not (low >= 0 and high <= 65535):
        raise UserError(
            f"{name} is no label map: its values run from {low} to {high}, not 0 to 65535; choose the segmentation"
        )
    labels = raw.astype(np.uint8 if high < 256 else np.uint16, copy=False)
    if raw.dtype.kind == "f" and not np.array_equal(labels, raw):
        raise UserError(f"{name} is no label map: it has fractional values; choose the segmentation")
    return labels


def unpack(file: BinaryIO, name: str, block: int, most: int) -> Iterator[bytes]:
    """What a gzip or zlib stream of any number of members holds, in parts of at most ``block`` bytes.

    ``file`` is read from where it stands, a piece at a time and ``most`` bytes in all: what can be needed at most, so
    that a sparse file's endless tail is not read. Checksums are verified up to where it is read. Bytes behind the
    stream that begin no further member are left alone, as gzip does: downloads and backups leave some. Raises
    UserError for a truncated or damaged stream.
    """
    pieces = iter(lambda: file.read(min(PIECE, max(0, most - file.tell()))), b"")
    packed = next(pieces, b"")
    try:
        while packed:
            member = zlib.decompressobj(wbits=47)  # 32 + 15: finds out which of the two it is
            while not member.eof:
                part = member.decompress(packed, block)
                packed = member.unconsumed_tail
                if part:
                    yield part
                elif not packed and not member.eof:
                    packed = next(pieces, b"")
                    if not packed:
                        raise UserError(f"{name} is truncated: its compressed data end early; copy it again")
            packed = member.unused_data.lstrip(b"\0")
            while len(packed) < 2 and (more := next(pieces, b"")):
                packed = (packed + more).lstrip(b"\0")
            if packed and not packed.startswith(b"\x1f\x8b"):
                log.warning("%s: bytes behind its compressed data are ignored", name)
                return
    except zlib.error:
        raise UserError(f"{name} is damaged: its compressed data cannot be unpacked; copy it again") from None


def unpacked_head(path: Path, size: int) -> bytes:
    """The first ``size`` bytes inside a gzip file, fewer where it holds no more. Raises UserError for a damaged one."""
    found = b""
    with open(path, "rb") as file:
        for part in unpack(file, path.name, size, HEAD_PACKED):
            found += part
            if len(found) >= size:
                break
    return found[:size]


def house_array(file_array: np.ndarray, orientation: Orientation) -> np.ndarray:
    """File order -> contiguous (z, y, x); without a copy where only directions differ from the house's.

    Then the reader's own array is turned where it lies, slice by slice: a scan is never held twice.
    """
    turned = file_array.transpose(orientation.axes)
    if not (turned.flags.c_contiguous and turned.flags.writeable):
        return np.ascontiguousarray(orientation.apply(file_array))
    along, *within = orientation.flips
    if along:
        for low in range(len(turned) // 2):
            high = len(turned) - 1 - low
            kept = turned[low].copy()
            turned[low], turned[high] = turned[high], kept
    if any(within):
        rows, columns = (slice(None, None, -1) if flip else slice(None) for flip in within)
        for plane in turned:
            plane[...] = plane[rows, columns].copy()
    return turned
