"""The text headers of NRRD and MetaImage: parsed and checked, nothing read or allocated for what they claim.

Formats: https://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from .itk_data_files import LISTED, data_files, lists_files

HEADER_LIMIT = 1 << 20
"""A text header is looked for in this many first bytes; that of hundreds of Slicer segments is under 100 kB."""
NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
META_TYPES = {
    "MET_CHAR": "i1", "MET_SHORT": "i2", "MET_INT": "i4", "MET_LONG": "i4", "MET_LONG_LONG": "i8",
    "MET_UCHAR": "u1", "MET_USHORT": "u2", "MET_UINT": "u4", "MET_ULONG": "u4", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
TO_LPS = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1), "": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""NRRD's patient spaces; without one, LPS is taken, as ITK does."""


MM_WORDS = {"", "mm", "millimeter", "millimeters", "millimetre", "millimetres", "???"}
META_SCALE = (("slope", "1"), ("offset", "0"))


@dataclass(frozen=True)
class Layout:
    """What a checked header says: how the values lie in which file, and where they are in the patient."""

    shape: tuple[int, ...]  # as stored, first axis fastest
    dtype: np.dtype
    affine: np.ndarray  # index (x, y, z) -> LPS mm
    encoding: str  # "raw", "deflate" or "bzip2"
    data: tuple[Path, ...]  # beside the header, each with as many values as the others; (): behind it
    skip: int  # bytes before the values of each file, -1: they end it
    scale: tuple[float, float] = (1.0, 0.0)  # slope and intercept from stored values to those that are meant


def kind_of(head: bytes) -> str:
    """ "nrrd", "metaimage" or "" for the first bytes of a file."""
    if head.startswith(b"NRRD000"):
        return "nrrd"
    first = head[:4096].lstrip().split(b"\n", 1)[0]
    keys = (b"ObjectType", b"NDims", b"Comment")
    return "metaimage" if b"=" in first and first.startswith(keys) and b"DimSize" in head[:4096] else ""


def text_header(path: Path) -> tuple[str, dict[str, str], int]:
    """The kind of a file, its header's fields (keys in lower case), and the byte at which data attached to it begin."""
    with open(path, "rb") as file:
        head = file.read(HEADER_LIMIT)
    kind = kind_of(head)
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
            if found == ":=":
                value = _unescaped(value)
        else:
            key, found, value = line.partition("=")
        if found and not line.startswith("#"):
            fields[key.strip().lower()] = value.strip()
        if found and lists_files(key.strip().lower(), value):
            fields[LISTED] = head[position:].decode("utf-8", "replace")
            break
        if kind == "metaimage" and key.strip() == "ElementDataFile":
            break
    return kind, fields, position


def _unescaped(value: str) -> str:
    """The value of a NRRD key/value pair, whose line breaks and backslashes are written with a backslash."""
    return re.sub(r"\\([n\\])", lambda found: "\n" if found[1] == "n" else found[1], value)


def nrrd_layout(path: Path, fields: dict[str, str]) -> Layout:
    """The fields of a NRRD header, checked. Raises ValueError, KeyError or UserError where they make no sense."""
    shape = tuple(int(n) for n in fields["sizes"].split())
    mins = None
    if "space directions" in fields:
        words = fields["space directions"].replace(")", ")|").replace("none", "none|").split("|")
        vectors = [_vector(word) for word in words if word.strip()]
    else:
        sizes, mins = _by_axis(path.name, fields, shape)
        vectors = [None if np.isnan(s) else np.eye(3)[axis % 3] * s for axis, s in enumerate(sizes)]
    if len(vectors) != len(shape) or int(fields["dimension"]) != len(shape):
        raise ValueError("axes do not agree")
    shape = _spatial_first(path.name, shape, vectors)
    spatial = [vector for vector in vectors if vector is not None]
    space = fields.get("space", "").lower()
    if space not in TO_LPS:
        raise UserError(
            f"{path.name}: the NRRD space {space!r} is no patient space; save it in left-posterior-superior"
        )
    affine = np.eye(4)
    affine[:3, :3] = np.stack(spatial[:3], axis=1)
    if "space origin" in fields or mins is None:
        affine[:3, 3] = _vector(fields.get("space origin", "(0,0,0)"))
    else:
        affine[:3, 3] = [m for m, vector in zip(mins, vectors, strict=True) if vector is not None][:3]
    units = {word.lower() for word in re.findall(r'"([^"]*)"', fields.get("space units", fields.get("units", "")))}
    if units - MM_WORDS:
        raise UserError(f"{path.name} is measured in {', '.join(sorted(units - MM_WORDS))}; save it in millimetres")
    affine[:3] *= np.array(TO_LPS[space])[:, None]
    code = next((code for code, names in NRRD_TYPES.items() if fields["type"].lower() in names), None)
    if code is None:
        raise UserError(f"{path.name} has values of a type that is no CT's; save it as int16 in HU")
    order = {"little": "<", "big": ">"}[fields.get("endian", "little" if code[1] == "1" else "").lower()]
    packing = {"raw": "raw", "gzip": "deflate", "gz": "deflate", "bzip2": "bzip2", "bz2": "bzip2"}
    encoding = packing.get(fields["encoding"].lower(), "")
    name = fields.get("data file", fields.get("datafile"))
    if not encoding or int(fields.get("line skip", fields.get("lineskip", "0"))):
        raise UserError(f"{path.name} is stored in a way that is not read (text); save it as one .nrrd")
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    if skip < (-1 if encoding == "raw" else 0):
        raise ValueError("byte skip")
    return Layout(
        shape, np.dtype(order + code), affine, encoding, data_files(path, name, fields, shape) if name else (), skip
    )


def _by_axis(name: str, fields: dict[str, str], shape: tuple[int, ...]) -> tuple[list[float], list[float] | None]:
    """Spacing of each axis (NaN: none in space) and the places of the first samples' centres, where given.

    Files without a space say them axis by axis. An axis' min is the outer face of its first sample where its centering
    is "cell" (also where there is none, as ITK takes it), else the sample's centre.
    """

    def numbers(*keys: str) -> list[float] | None:
        words = next((fields[key].split() for key in keys if key in fields), None)
        if words is not None and len(words) != len(shape):
            raise ValueError("axes do not agree")
        return None if words is None else [float(word) for word in words]

    words = fields.get("centerings", fields.get("centers", "")).lower().split()
    cell = [word != "node" for word in words] if len(words) == len(shape) else [True] * len(shape)
    spacings, mins, maxs = numbers("spacings"), numbers("axis mins", "axismins"), numbers("axis maxs", "axismaxs")
    if spacings is None:
        if mins is None or maxs is None:
            raise UserError(f"{name} does not say how large its voxels are (no space directions); convert it again")
        spacings = [(high - low) / max(1, n if c else n - 1)
                    for low, high, n, c in zip(mins, maxs, shape, cell, strict=True)]  # fmt: skip
    if mins is not None:
        mins = [low + (size / 2 if c else 0.0) for low, size, c in zip(mins, spacings, cell, strict=True)]
    return spacings, mins


def _spatial_first(name: str, shape: tuple[int, ...], vectors: list[np.ndarray | None]) -> tuple[int, ...]:
    """The stored shape with axes that are no direction in space put last; those may only be of length 1."""
    other = [n for n, vector in zip(shape, vectors, strict=True) if vector is None]
    spatial = [n for n, vector in zip(shape, vectors, strict=True) if vector is not None]
    if len(spatial) < 3:
        raise UserError(f"{name} is a {len(spatial)}D image, not a volume; choose the whole scan")
    if any(n != 1 for n in other):
        raise UserError(f"{name} has {max(other)} values a voxel (colour, time or layers), not one; save one by itself")
    if any(n > 1 for n in spatial[3:]):
        raise UserError(f"{name} is {len(shape)}D {shape}: one volume in time is needed; save one of them by itself")
    return (*spatial, *other)


def _vector(words: str) -> np.ndarray | None:
    """ "(1,0,0)" -> (3,) mm, "none" -> None. Raises ValueError for anything else."""
    if words.strip() == "none":
        return None
    vector = np.array([float(word) for word in words.strip().removeprefix("(").removesuffix(")").split(",")])
    if vector.size < 3:
        raise ValueError("a vector needs three numbers")
    return vector[:3]  # a fourth is time, of which there is one value only


def metaimage_layout(path: Path, fields: dict[str, str]) -> Layout:
    """The fields of a MetaImage header, checked. Raises ValueError, KeyError or UserError where they make no sense."""
    axes = int(fields["ndims"])
    shape = tuple(int(n) for n in fields["dimsize"].split())
    spacing = fields.get("elementspacing", fields.get("elementsize"))
    if spacing is None:
        raise UserError(f"{path.name} does not say how large its voxels are (no ElementSpacing); convert it again")
    if len(shape) != axes:
        raise ValueError("axes do not agree")
    if axes < 3:
        raise UserError(f"{path.name} is a {axes}D image, not a volume; choose the whole scan")
    channels = int(fields.get("elementnumberofchannels", "1"))
    if channels != 1:
        raise UserError(f"{path.name} has {channels} values a voxel (colour or vectors), not one; save one by itself")

    def numbers(count: int, default: np.ndarray, *keys: str) -> np.ndarray:
        words = next((fields[key] for key in keys if key in fields), None)
        values = default if words is None else np.array([float(word) for word in words.split()])
        if values.shape != (count,):
            raise ValueError("wrong number of values")
        return values

    # The file keeps the direction of each axis in turn, that is the columns of the matrix.
    directions = (
        numbers(axes**2, np.eye(axes).ravel(), "transformmatrix", "rotation", "orientation").reshape(axes, axes).T
    )
    if fields.get("distanceunits", "mm").lower().strip("\"'") not in MM_WORDS:
        raise UserError(f"{path.name} is measured in {fields['distanceunits']}; save it in millimetres")
    affine = np.eye(4)
    with np.errstate(all="ignore"):  # what is not finite has no place, and is refused for it
        affine[:3, :3] = (directions * numbers(axes, np.ones(axes), "elementspacing", "elementsize"))[:3, :3]
    affine[:3, 3] = numbers(axes, np.zeros(axes), "offset", "position", "origin")[:3]
    swapped = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")).lower() == "true"
    dtype = np.dtype((">" if swapped else "<") + META_TYPES[fields["elementtype"].upper()])
    name = fields["elementdatafile"]
    if fields.get("binarydata", "True").lower() != "true":
        raise UserError(f"{path.name} is stored in a way that is not read (text); save it as one .mha")
    encoding = "deflate" if fields.get("compresseddata", "False").lower() == "true" else "raw"
    skip = int(fields.get("headersize", "0"))
    if not name or skip < (-1 if encoding == "raw" else 0):
        raise ValueError("data file")
    scale = tuple(float(fields.get(f"elementtointensityfunction{key}", one)) for key, one in META_SCALE)
    data = () if name.upper() == "LOCAL" else data_files(path, name, fields, shape)
    return Layout(shape, dtype, affine, encoding, data, skip, scale)
