"""Label maps written as NRRD and MetaImage: a text header and the values behind it, deflated.

Formats: https://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation.
World coordinates are LPS mm and indices count (x, y, z), as in ITK.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from ..volume import LabelMap, Source
from .itk_headers import META_TYPES, NRRD_TYPES
from .suffixes import suffix_of

LEVEL = 6
"""Of zlib, its own default: 9 takes three times as long for label maps 3 % smaller."""


def write_itk(path: Path, stored: np.ndarray, source: Source, labels: LabelMap) -> None:
    """Write ``stored`` (x, y, z) under the grid of ``source``, compressed; the format follows the name.

    Raises OSError where the file cannot be written.
    """
    stored = stored.reshape(stored.shape[:3])
    values = stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes(order="F")
    if suffix_of(path) == ".nrrd":
        header = _nrrd_header(stored, source.file_affine, _as_slicer_segments(labels))
        packed = gzip.compress(values, LEVEL, mtime=0)
    else:
        packed = zlib.compress(values, LEVEL)
        header = _metaimage_header(stored, source.file_affine, len(packed))
    path.write_bytes(header.encode() + packed)


def _nrrd_header(stored: np.ndarray, affine: np.ndarray, segments: dict[str, str]) -> str:
    """Up to and with the empty line before the values; ``affine`` (index -> LPS mm) to the last bit."""
    code = f"{stored.dtype.kind}{stored.dtype.itemsize}"
    lines = [
        "NRRD0004",
        f"type: {NRRD_TYPES[code][0]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {_words(stored.shape)}",
        "space directions: " + " ".join(_vector(affine[:3, axis]) for axis in range(3)),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(affine[:3, 3])}",
    ]
    for key, value in segments.items():  # the format's own escapes: a line break would end the header
        lines.append(f"{key}:={_escaped(value)}")
    return "\n".join(lines) + "\n\n"


def _metaimage_header(stored: np.ndarray, affine: np.ndarray, packed_bytes: int) -> str:
    """Up to and with the line that says the values follow; the file keeps spacing and unit directions apart."""
    code = f"{stored.dtype.kind}{stored.dtype.itemsize}"
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {packed_bytes}",
        f"TransformMatrix = {_words((affine[:3, :3] / spacing).T.ravel())}",
        f"Offset = {_words(affine[:3, 3])}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_words(spacing)}",
        f"DimSize = {_words(stored.shape)}",
        f"ElementType = {next(name for name, known in META_TYPES.items() if known == code)}",
        "ElementDataFile = LOCAL",
    ]
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _words(numbers) -> str:
    """Numbers with blanks between, each in the fewest digits that give it back exactly."""
    return " ".join(repr(n.item() if isinstance(n, np.generic) else n) for n in numbers)


def _vector(numbers: np.ndarray) -> str:
    return f"({','.join(repr(float(n)) for n in numbers)})"


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
