"""NRRD and MetaImage (.mha, .mhd) read.

ITK's own readers are C code that trusts the header: a damaged one can overrun memory and take the
process down, and a short compressed stream is filled up with zeros. So itk_headers parses and checks
the header, and the data are unpacked here, within its bounds. World coordinates are LPS mm and
indices count (x, y, z), as in ITK.
"""

from __future__ import annotations

import bz2
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import UserError
from ..files import require_fits
from ..volume import CTVolume, LabelMap, Source
from .checks import DEFLATE_RATIO, PIECE, hounsfield, house_array, place, unpack, whole_labels
from .itk_headers import Layout, kind_of, metaimage_layout, nrrd_layout, text_header
from .sidecar import read_sidecar

__all__ = ["kind_of", "read_ct", "read_labels"]

RATIO = {"raw": 1, "deflate": DEFLATE_RATIO, "bzip2": 50_000}
"""The most bytes that one stored byte can hold; bzip2 packs constant data about 45,000 to 1."""


def read_ct(path: Path, hu_offset: float | None = None) -> CTVolume:
    """One NRRD or MetaImage file -> CTVolume in HU, ``hu_offset`` added on a person's word.

    Raises UserError for what :mod:`tapct_core.io` refuses.
    """
    raw, scale, source, fields = _read(path)
    modality = fields.get("modality", "").removeprefix("MET_MOD_").upper()
    if modality not in ("", "CT", "OTHER", "UNKNOWN"):
        raise UserError(f"{path.name} is not a CT: its header says modality {modality}; choose a CT")
    orientation, geometry = place(source.file_shape, source.file_affine, path.name)
    return CTVolume(house_array(hounsfield(raw, *scale, path.name, hu_offset), orientation), geometry, source)


def read_labels(path: Path) -> LabelMap:
    """One NRRD or MetaImage file -> LabelMap; names from 3D Slicer's segment keys, else from the sidecar."""
    raw, scale, source, fields = _read(path)
    if scale != (1.0, 0.0):
        raw = raw * scale[0] + scale[1]
    orientation, geometry = place(source.file_shape, source.file_affine, path.name)
    names, colours = _slicer_segments(fields) if source.kind == "nrrd" else ({}, {})
    if not names and not colours:
        names, colours = read_sidecar(path)
    return LabelMap(house_array(whole_labels(raw, path.name), orientation), geometry, source, names, colours)


def read_source(path: Path) -> Source:
    """Grid and place of a file, from its header alone. Raises UserError as :func:`read_ct` does."""
    return _layout(path)[1]


def _read(path: Path) -> tuple[np.ndarray, tuple[float, float], Source, dict[str, str]]:
    """Stored values (x, y, z), their slope and intercept, the Source, and the header's fields, keys in lower case."""
    layout, source, fields, after = _layout(path)
    raw = _values(path, layout, after).reshape(source.file_shape, order="F")
    return raw, layout.scale, source, fields


def _layout(path: Path) -> tuple[Layout, Source, dict[str, str], int]:
    """What the header says, checked: the layout, the Source, the fields, and where data attached to it begin."""
    kind, fields, after = text_header(path)
    try:
        layout = (nrrd_layout if kind == "nrrd" else metaimage_layout)(path, fields)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError):
        raise UserError(f"{path.name}: its header is truncated or damaged; copy or convert it again") from None
    if min(layout.shape) < 1:
        raise UserError(f"{path.name}: its header gives no valid size {layout.shape}; copy or convert it again")
    if any(n > 1 for n in layout.shape[3:]):
        raise UserError(f"{path.name} is {len(layout.shape)}D {layout.shape}: one volume is needed; save one by itself")
    shape = layout.shape[:3]
    orientation = place(shape, layout.affine, path.name)[0]
    source = Source(kind, path=path, file_shape=shape, file_affine=layout.affine, orientation=orientation)
    return layout, source, fields, after


def _values(path: Path, layout: Layout, after: int) -> np.ndarray:
    """The stored values as a flat array in native bytes; its claim is held against the files' sizes first."""
    files = [(file, 0) for file in layout.data] or [(path, after)]
    for file, _ in files:
        if not file.is_file():
            raise UserError(f"{path.name} needs its data file {str(file.relative_to(path.parent))!r}; copy both")
    parts = [_stored(path.name, layout, file, start, len(files)) for file, start in files]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return values.astype(layout.dtype.newbyteorder("="), copy=False)


def _stored(name: str, layout: Layout, file: Path, start: int, of: int) -> np.ndarray:
    """The values in one of ``of`` files, from the byte ``start``."""
    whole = layout.dtype.itemsize * int(np.prod(layout.shape, dtype=object))
    needed, skip = whole // of, max(layout.skip, 0)
    stored = file.stat().st_size - start
    if needed + skip > stored * RATIO[layout.encoding]:
        raise UserError(
            f"{name if of == 1 else file.name} is truncated: {layout.shape} needs {needed:,} bytes"
            f"{'' if of == 1 else ' in each file'}, more than there are; copy it again"
        )
    require_fits((whole if of == 1 else 2 * whole) + skip, name)
    if layout.encoding == "raw":
        start = start + stored - needed if layout.skip == -1 else start + skip
        spare = max(1, needed // layout.shape[-1]) if of == 1 else 1
        if layout.skip != -1 and stored - skip >= needed + spare:
            raise UserError(f"{name} holds more data than its header {layout.shape} says; convert it again")
        return np.fromfile(file, layout.dtype, needed // layout.dtype.itemsize, offset=start)
    with open(file, "rb") as handle:
        handle.seek(start)
        data = _unpacked(handle, layout.encoding, name, needed + skip)
    return np.frombuffer(data, layout.dtype, offset=skip)


def _unpacked(packed: BinaryIO, encoding: str, name: str, needed: int) -> bytes | memoryview:
    """Exactly ``needed`` bytes out of a packed stream, or a UserError; never holds more than that."""
    # neither deflate nor bzip2 adds more than a hundredth; what lies behind that is not read
    most = packed.tell() + needed + needed // 100 + (1 << 16)
    wrong = UserError(f"{name} does not hold what its header says ({needed:,} bytes); copy or convert it again")
    if encoding == "bzip2":
        try:
            data = bz2.BZ2Decompressor().decompress(packed.read(most - packed.tell()), needed + 1)
        except OSError:
            raise UserError(f"{name} is damaged: its compressed data cannot be unpacked; copy it again") from None
        if len(data) != needed:
            raise wrong
        return data
    filled = memoryview(np.empty(needed, np.uint8))
    held = 0
    for part in unpack(packed, name, PIECE, most):
        if held + len(part) > needed:
            raise wrong
        filled[held : held + len(part)] = part
        held += len(part)
    if held != needed:
        raise wrong
    return filled


def _slicer_segments(fields: dict[str, str]) -> tuple[dict[int, str], dict[int, tuple[int, int, int]]]:
    """Names and colours by label value from 3D Slicer's segment keys; those that make no sense are left out."""
    names: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int]] = {}
    for key, value in fields.items():
        if not (key.startswith("segment") and key.endswith("_labelvalue") and value.isdigit()):
            continue
        segment = key.removesuffix("labelvalue")
        if f"{segment}name" in fields:
            names[int(value)] = fields[f"{segment}name"]
        try:
            red, green, blue = (round(255 * float(c)) for c in fields.get(f"{segment}color", "").split())
        except ValueError:
            continue
        colours[int(value)] = (red, green, blue)
    return names, colours
