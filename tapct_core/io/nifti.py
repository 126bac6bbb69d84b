"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped, read by nibabel's header and our own bounded inflation.

Which affine: the sform when its code is above 0, else the qform when its code is above 0 (the
order of nibabel and of the NIfTI-1 standard's methods 3 and 2). With both codes 0 the standard's method 1 gives voxel
sizes only; it names no direction, so (x, y, z) are then taken as right, anterior, superior, and a warning says
that left and right are a guess. Units of metres or micrometres are turned into mm.
Standard: https://nifti.nimh.nih.gov/nifti-1 (nifti1.h).
"""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from ..errors import UserError
from ..files import require_fits
from ..geometry import RAS_FROM_LPS
from ..volume import CTVolume, LabelMap, Source
from .checks import (
    DEFLATE_RATIO,
    HEAD_PACKED,
    PIECE,
    hounsfield,
    house_array,
    place,
    unpack,
    unpacked_head,
    whole_labels,
)
from .sidecar import read_sidecar

MAGICS = {348: (344, (b"n+1\0",)), 540: (4, (b"n+2\0",))}
"""Header size -> where its magic stands, and what it is when header and data share one file."""
MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
"""NIfTI's codes for metre, millimetre and micrometre; any other code (0 = not said) is read as mm."""

HAIR = 1e-3
"""How much longer than 1 the square of a quaternion's part may be for rounding; more is another number."""

log = logging.getLogger(__name__)


def header_size(head: bytes) -> int:
    """348 or 540 for the first bytes of a NIfTI file with its data inside, 0 for anything else."""
    for size, (at, magics) in MAGICS.items():
        if {head[:4]} & {size.to_bytes(4, order) for order in ("little", "big")} and head[at : at + 4] in magics:
            return size
    return 0


def kind_of(head: bytes) -> str:
    """ "nifti" for the first bytes of such a file, unpacked; else ""."""
    return "nifti" if header_size(head) else ""


def read_ct(path: Path, hu_offset: float | None = None) -> CTVolume:
    """One NIfTI file -> CTVolume in HU, ``hu_offset`` added on a person's word.

    Raises UserError for what :mod:`tapct_core.io` refuses.
    """
    header, source = _read_header(path)
    orientation, geometry = place(source.file_shape, source.file_affine, path.name)
    hu = hounsfield(_read_voxels(path, header), *_scaling(header, path.name), path.name, hu_offset)
    return CTVolume(house_array(hu, orientation), geometry, source)


def read_labels(path: Path) -> LabelMap:
    """One NIfTI file -> LabelMap, with names and colours from the sidecar. Raises UserError as above."""
    header, source = _read_header(path)
    orientation, geometry = place(source.file_shape, source.file_affine, path.name)
    slope, intercept = _scaling(header, path.name)
    raw = _read_voxels(path, header)
    if (slope, intercept) != (1.0, 0.0):
        raw = raw * np.float64(slope) + intercept
    names, colours = read_sidecar(path)
    return LabelMap(house_array(whole_labels(raw, path.name), orientation), geometry, source, names, colours)


def read_source(path: Path) -> Source:
    """Grid and place of a file, from its header alone. Raises UserError as :func:`read_ct` does."""
    return _read_header(path)[1]


def write_nifti(path: Path, stored: np.ndarray, source: Source, labels: LabelMap) -> None:
    """Write ``stored`` (the file's own axis order) under the grid of ``source``; gzipped when the name says so.

    Of a NIfTI source the grid's fields go back byte for byte; its free-text fields do not, for they
    may name a patient.
    """
    import nibabel as nib

    if source.header:
        old = _parse(source.header)
        header = type(old)()
        for key in ("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"):
            header[key] = old[key]
        for key in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
            header[key] = old[key]
    else:
        header = nib.Nifti1Header() if max(stored.shape) < 32768 else nib.Nifti2Header()
        header.set_data_shape(stored.shape)
        header.set_qform(ras_affine(source), code=1)
        header.set_sform(ras_affine(source), code=1)
        header.set_xyzt_units("mm")
    header.set_data_dtype(stored.dtype)
    header["vox_offset"] = header.sizeof_hdr + 4  # 4 bytes that say: no extension follows
    header["magic"] = b"n+1" if header.sizeof_hdr == 348 else header["magic"]
    content = header.binaryblock + bytes(4) + stored.tobytes(order="F")
    path.write_bytes(gzip.compress(content, 6, mtime=0) if path.name.lower().endswith(".gz") else content)


def ras_affine(source: Source) -> np.ndarray:
    """Index in the file's order -> RAS mm, as NIfTI headers keep it."""
    return RAS_FROM_LPS @ source.file_affine


def write_scan(volume: CTVolume, path: Path) -> Path:
    """A CT as NIfTI (int16 HU, scanner coordinates), whole or not at all; a file that is there is left alone."""
    import nibabel as nib

    if not path.exists():
        image = nib.Nifti1Image(volume.hu.T, RAS_FROM_LPS @ volume.geometry.affine[:, [2, 1, 0, 3]])  # x first
        image.set_sform(image.affine, 1)
        image.set_qform(image.affine, 1)
        with atomic_path(path, private=True) as part:
            nib.save(image, part)
    return path


def inflate(path: Path, limit: int) -> tuple[memoryview, bool]:
    """The first ``limit`` bytes inside a gzip file, and whether it holds more; never holds more, whatever it claims."""
    data = memoryview(np.empty(limit, np.uint8))
    held = 0
    with open(path, "rb") as file:
        # deflate never adds more than a thousandth (RFC 1951)
        for part in unpack(file, path.name, PIECE, limit + limit // 1000 + HEAD_PACKED):
            fits = min(len(part), limit - held)
            data[held : held + fits] = part[:fits]
            held += fits
            if fits < len(part):
                return data, True
    return data[:held], False


def _parse(block: bytes) -> Any:
    """nibabel's header of either version over the raw bytes, unchecked."""
    import nibabel as nib

    kind = nib.Nifti1Header if len(block) < 540 else nib.Nifti2Header
    return kind(binaryblock=block, check=False)


def _head(path: Path, size: int) -> bytes:
    with open(path, "rb") as file:
        head = file.read(size)
    return unpacked_head(path, size) if head[:2] == b"\x1f\x8b" else head


def _read_header(path: Path) -> tuple[Any, Source]:
    """The header and the Source (grid, codes, raw header, window) of a NIfTI file, its voxels unread."""
    block = _head(path, 540)
    size = header_size(block)
    if not size or len(block) < size:
        raise UserError(f"{path.name} is truncated or no NIfTI file with its data inside; convert it to .nii.gz")
    header = _parse(block[:size])
    shape = _volume_shape(header, path.name)
    codes = (int(header["qform_code"]), int(header["sform_code"]))
    low, high = float(header["cal_min"]), float(header["cal_max"])
    window = (high - low, (high + low) / 2) if np.isfinite([low, high]).all() and high > low else None
    affine = _lps_affine(header, codes, path.name)
    return header, Source(
        "nifti",
        path=path,
        file_shape=shape,
        file_affine=affine,
        orientation=place(shape, affine, path.name)[0],
        codes=codes,
        header=block[:size],
        window=window,
    )


def _volume_shape(header: Any, name: str) -> tuple[int, ...]:
    """The stored shape, checked to be one grey-valued volume: three axes, further ones of length 1."""
    axes = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : axes + 1]) if 1 <= axes <= 7 else ()
    if not shape or min(shape) < 1:
        raise UserError(f"{name}: its header gives no valid size ({header['dim'].tolist()}); copy or convert it again")
    if any(n > 1 for n in shape[3:]):
        raise UserError(f"{name} is {len(shape)}D {shape}: one volume in time is needed; save one of them by itself")
    if len(shape) < 3:
        raise UserError(f"{name} is a {len(shape)}D image, not a volume; choose the whole scan")
    try:
        dtype = header.get_data_dtype()
    except Exception:  # nibabel's own error type; the code is one it does not know
        dtype = None
    if dtype is None or dtype.kind not in "iuf":
        kind = {"V": "colour", "c": "complex"}.get(dtype.kind if dtype is not None else "", "of an unknown data type")
        raise UserError(f"{name} is {kind} (NIfTI datatype {int(header['datatype'])}), not a CT; choose a CT in HU")
    return shape


def _lps_affine(header: Any, codes: tuple[int, int], name: str) -> np.ndarray:
    """File index (x, y, z) -> LPS mm; the module's docstring says which of the header's forms it is."""
    qform, sform = codes
    if sform > 0:
        ras = np.vstack([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]]).astype(np.float64)
    elif qform > 0:
        ras = _qform(header, name)
    else:
        log.warning("a NIfTI file gives voxel sizes but no orientation; taken as RAS, so left and right are a guess")
        ras = np.diag([*header["pixdim"][1:4].astype(np.float64), 1.0])
    scale = MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    if not np.isfinite(ras).all():
        raise UserError(f"{name}: its affine is not finite, so voxels have no place in the patient; correct the header")
    return RAS_FROM_LPS @ np.diag([scale, scale, scale, 1.0]) @ ras


def _qform(header: Any, name: str) -> np.ndarray:
    """Index (x, y, z) -> RAS units by the standard's method 2.

    A quaternion a hair longer than 1, as float32 leaves half turns, is brought back to 1, as in the standard's own C
    code, and a qfac other than -1 or 1 counts by its sign.
    """
    from nibabel.quaternions import quat2mat

    sizes = header["pixdim"][1:4].astype(np.float64)
    b, c, d = (float(header[f"quatern_{letter}"]) for letter in "bcd")
    longer = b * b + c * c + d * d
    if not (np.isfinite(sizes).all() and sizes.min() > 0 and longer < 1 + HAIR):  # NaN fails too
        raise UserError(f"{name}: its qform is not a valid rotation; correct the header")
    turn = quat2mat([np.sqrt(max(0.0, 1 - longer)), b, c, d])  # which norms it
    ras = np.eye(4)
    ras[:3, :3] = turn * sizes * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    ras[:3, 3] = header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]
    return ras


def _scaling(header: Any, name: str) -> tuple[float, float]:
    """(slope, intercept) by the standard: a slope of 0 (or NaN, as nibabel writes) means stored as is."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0.0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise UserError(f"{name}: its scaling (scl_slope, scl_inter) is not finite; correct the header")
    return slope, intercept


def _read_voxels(path: Path, header: Any) -> np.ndarray:
    """The stored values in the file's order (x, y, z), native bytes, read-only when nothing had to be copied.

    The header's claim is held against the file's size first, so a broken header allocates nothing.
    """
    dtype, shape = header.get_data_dtype(), _volume_shape(header, path.name)
    offset = float(header["vox_offset"]) or header.sizeof_hdr + 4.0
    if not header.sizeof_hdr <= offset < 2**31:
        raise UserError(f"{path.name}: its data offset {offset:g} cannot be right; copy or convert it again")
    needed = int(offset) + dtype.itemsize * int(np.prod(shape, dtype=object))
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    size = path.stat().st_size
    if needed > size * (DEFLATE_RATIO if packed else 1) + 1024 * packed:
        raise UserError(
            f"{path.name} is truncated: its header {shape} needs {needed:,} bytes, more than it has; copy it again"
        )
    require_fits(needed, path.name)
    slice_bytes = needed - int(offset) if shape[2] == 1 else (needed - int(offset)) // shape[2]
    if packed:
        data, more = inflate(path, needed + slice_bytes - 1)
    else:
        more = size >= needed + slice_bytes
        with open(path, "rb") as file:
            data = memoryview(np.empty(0 if more else needed, np.uint8))
            data = data[: file.readinto(data)]
    if more:
        raise UserError(f"{path.name} holds more data than its header {shape} says; convert it from the original again")
    if len(data) < needed:
        raise UserError(f"{path.name} is truncated: {len(data):,} of {needed:,} bytes are there; copy it again")
    count = (needed - int(offset)) // dtype.itemsize
    voxels = np.frombuffer(data, dtype, count, int(offset)).reshape(shape[:3], order="F")
    return voxels.astype(dtype.newbyteorder("="), copy=False)
