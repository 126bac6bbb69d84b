"""NRRD and MetaImage (.mha, .mhd) through SimpleITK, once their headers have been held against the file's size.

ITK keeps world coordinates in LPS mm and counts indices (x, y, z); so does the Source made here.
Formats: https://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..volume import CTVolume, LabelMap, Source
from .checks import DEFLATE_RATIO, hounsfield, house_array, place, unpack, whole_labels
from .labels import read_sidecar

HEADER_LIMIT = 1 << 20
"""A text header is looked for in this many first bytes; that of hundreds of Slicer segments is under 100 kB."""
BYTES_OF = {"short": 2, "int": 4, "int16": 2, "int32": 4, "int64": 8, "float": 4, "double": 8}
"""Bytes a voxel, by the C type in either format's name for it; those not listed are taken as 1, the least."""


def kind_of(head: bytes) -> str:
    """ "nrrd", "metaimage" or "" for the first bytes of a file."""
    if head.startswith(b"NRRD000"):
        return "nrrd"
    first = head[:4096].lstrip().split(b"\n", 1)[0]
    keys = (b"ObjectType", b"NDims", b"Comment")
    return "metaimage" if b"=" in first and first.startswith(keys) and b"DimSize" in head[:4096] else ""


def read_ct(path: Path, kind: str) -> CTVolume:
    """One NRRD or MetaImage file -> CTVolume in HU. Raises UserError for what :mod:`tapct_core.io` refuses."""
    raw, source, fields = _read(path, kind)
    modality = fields.get("modality", "").removeprefix("MET_MOD_").upper()
    if modality not in ("", "CT", "OTHER", "UNKNOWN"):
        raise UserError(f"{path.name} is not a CT: its header says modality {modality}; choose a CT")
    orientation, geometry = place(source.file_shape, source.file_affine, path.name)
    return CTVolume(house_array(hounsfield(raw, 1.0, 0.0, path.name), orientation), geometry, source)


def read_labels(path: Path, kind: str) -> LabelMap:
    """One NRRD or MetaImage file -> LabelMap; names from 3D Slicer's segment keys, else from the sidecar."""
    raw, source, fields = _read(path, kind)
    orientation, geometry = place(source.file_shape, source.file_affine, path.name)
    names, colours = _slicer_segments(fields) if kind == "nrrd" else ({}, {})
    if not names and not colours:
        names, colours = read_sidecar(path)
    return LabelMap(house_array(whole_labels(raw, path.name), orientation), geometry, source, names, colours)


def write_itk(path: Path, stored: np.ndarray, source: Source, labels: LabelMap) -> None:
    """Write ``stored`` (x, y, z) under the grid of ``source``, compressed; the format follows the name.

    Raises OSError where the file cannot be written.
    """
    import SimpleITK as sitk

    affine = source.file_affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(stored.reshape(stored.shape[:3]).T)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    if path.name.lower().endswith(".nrrd"):
        for key, value in _as_slicer_segments(labels).items():
            image.SetMetaData(key, value)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError:
        raise OSError(None, "the disk is full or refused the file") from None


def _read(path: Path, kind: str) -> tuple[np.ndarray, Source, dict[str, str]]:
    """Stored values (x, y, z), the Source, and the header's fields with their keys in lower case."""
    import SimpleITK as sitk

    fields, after = _text_header(path, kind)
    (_check_nrrd if kind == "nrrd" else _check_metaimage)(path, fields, after)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if kind == "nrrd" else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_volume(path.name, reader)
        image = reader.Execute()
    except RuntimeError:  # ITK's messages run over many lines of its own source
        raise UserError(f"{path.name} is truncated or damaged and cannot be read; copy or convert it again") from None
    raw = sitk.GetArrayFromImage(image).T
    _check_packed(path, fields, after, raw.nbytes)
    while raw.ndim > 3:
        raw = raw[..., 0]
    spacing, dimension = np.array(image.GetSpacing()), image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(dimension, dimension) * spacing)[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    orientation = place(raw.shape, affine, path.name)[0]
    return raw, Source(kind, path=path, file_shape=raw.shape, file_affine=affine, orientation=orientation), fields


def _check_volume(name: str, reader: Any) -> None:
    """Raise UserError unless ITK found one grey-valued volume."""
    shape = tuple(reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise UserError(
            f"{name} has {reader.GetNumberOfComponents()} values a voxel (colour, vectors or layers), not one; "
            "save one of them by itself"
        )
    if len(shape) < 3:
        raise UserError(f"{name} is a {len(shape)}D image, not a volume; choose the whole scan")
    if any(n > 1 for n in shape[3:]):
        raise UserError(f"{name} is {len(shape)}D {shape}: one volume in time is needed; save one of them by itself")


def _text_header(path: Path, kind: str) -> tuple[dict[str, str], int]:
    """The header's fields (keys in lower case) and the byte at which data attached to it begin."""
    with open(path, "rb") as file:
        head = file.read(HEADER_LIMIT)
    fields: dict[str, str] = {}
    position = 0
    while position < len(head):
        end = head.find(b"\n", position)
        end = len(head) if end < 0 else end
        line = head[position:end].decode("utf-8", "replace").strip("\r\0")
        position = end + 1
        if kind == "nrrd" and not line.strip():
            break
        if kind == "nrrd":
            key, found, value = line.partition(":=") if ":=" in line else line.partition(":")
        else:
            key, found, value = line.partition("=")
        if found and not line.startswith("#"):
            fields[key.strip().lower()] = value.strip()
        if kind == "metaimage" and key.strip() == "ElementDataFile":
            break
    return fields, position


def _check_nrrd(path: Path, fields: dict[str, str], after: int) -> None:
    """Raise UserError for a NRRD without voxel sizes, or with more voxels than its file can hold."""
    if not fields.keys() & {"space directions", "spacings"}:
        raise UserError(f"{path.name} does not say how large its voxels are (no space directions); convert it again")
    data = fields.get("data file", fields.get("datafile"))
    packed = fields.get("encoding", "raw").lower() not in ("raw", "ascii", "text", "txt", "hex")
    _check_size(path, fields.get("sizes", ""), fields.get("type", ""), data, after, packed)


def _check_metaimage(path: Path, fields: dict[str, str], after: int) -> None:
    """Raise UserError for a MetaImage without voxel sizes, or with more voxels than its file can hold."""
    if not fields.keys() & {"elementspacing", "elementsize"}:
        raise UserError(f"{path.name} does not say how large its voxels are (no ElementSpacing); convert it again")
    name = fields.get("elementdatafile", "")
    data = None if name.upper() == "LOCAL" else name
    packed = fields.get("compresseddata", "false").lower() == "true"
    _check_size(path, fields.get("dimsize", ""), fields.get("elementtype", ""), data, after, packed)
    claimed = fields.get("compresseddatasize", "")
    if packed and data is None and claimed.isdigit() and path.stat().st_size < after + int(claimed):
        raise UserError(f"{path.name} is truncated: its compressed data end early; copy it again")


def _check_size(path: Path, sizes: str, dtype: str, data: str | None, after: int, packed: bool) -> None:
    """Hold the header's claim against the bytes there are, before anything is allocated for it."""
    try:
        shape = tuple(int(n) for n in sizes.split())
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UserError(f"{path.name}: its header gives no valid size; copy or convert it again")
    if data is not None and (data.upper().startswith("LIST") or "%" in data):
        raise UserError(f"{path.name} keeps its slices in many files, which is not read; convert it to one .nrrd")
    file = path if data is None else path.parent / data
    if data is not None and not file.is_file():
        raise UserError(f"{path.name} needs its data file {data!r} beside it; copy both")
    word = dtype.lower().removeprefix("met_").split(" ")[-1].removesuffix("_t").lstrip("u")
    each = BYTES_OF.get(word, 1)
    held = file.stat().st_size - (after if data is None else 0)
    needed = each * int(np.prod(shape, dtype=object))
    if needed > held * (DEFLATE_RATIO if packed else 1):
        raise UserError(
            f"{path.name} is truncated: its header {shape} needs {needed:,} bytes, more than it has; copy it again"
        )


def _check_packed(path: Path, fields: dict[str, str], after: int, needed: int) -> None:
    """Raise UserError unless deflated data hold ``needed`` bytes: ITK itself fills what is missing with zeros."""
    deflated = (
        fields.get("encoding", "").lower() in ("gzip", "gz") or fields.get("compresseddata", "").lower() == "true"
    )
    if not deflated or fields.keys() & {"byte skip", "line skip", "byteskip", "lineskip", "headersize"}:
        return
    name = fields.get("data file", fields.get("datafile", fields.get("elementdatafile", "LOCAL")))
    content = path.read_bytes()[after:] if name.upper() == "LOCAL" else (path.parent / name).read_bytes()
    held = 0
    for part in unpack(content, path.name, 1 << 22):
        held += len(part)
        if held > needed:
            break
    if held != needed:
        raise UserError(f"{path.name} does not hold what its header says ({needed:,} bytes); copy or convert it again")


def _as_slicer_segments(labels: LabelMap) -> dict[str, str]:
    """3D Slicer's keys for a binary labelmap of one layer (its .seg.nrrd format)."""
    keys: dict[str, str] = {}
    for number, value in enumerate(sorted({*labels.names, *labels.colours})):
        segment = f"Segment{number}_"
        keys |= {f"{segment}ID": f"Segment_{value}", f"{segment}LabelValue": str(value), f"{segment}Layer": "0"}
        keys[f"{segment}Name"] = labels.names.get(value, f"Segment_{value}")
        if value in labels.colours:
            keys[f"{segment}Color"] = " ".join(f"{c / 255:.6f}" for c in labels.colours[value])
    return keys


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
