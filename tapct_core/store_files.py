"""The files of a stored array, checked before anything decodes them, whoever wrote them.

zarr trusts its metadata, and a codec its input: metadata may name a codec that unpickles or allocates what it likes,
and Blosc reads as many bytes as a chunk's own header promises, beyond its end if it was cut. So the metadata must be
what this package writes (zarr version 3, one of four dtypes, at most one codec) and each chunk must have the length
and CRC-32 that it was written with; both are checked on the very bytes that are decoded.
Formats: https://zarr-specs.readthedocs.io (core, version 3); https://github.com/Blosc/c-blosc, README_CHUNK_FORMAT.
"""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import open_regular
from .strict_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

METADATA = "zarr.json"
METADATA_BYTES = 1 << 16
"""More than any array's description has."""
DATA_TYPES = {"float16": "<f2", "int16": "<i2", "bool": "|b1", "int32": "<i4"}
"""zarr's names of the dtypes that are stored, with numpy's."""
BLOSC_HEADER = 16
LARGEST_BLOSC_BYTES = 2**31 - 17
"""Of one chunk, unpacked; Blosc's own limit."""

Sums = dict[str, list[int]]
"""Name of a file within a store -> [bytes, CRC-32]."""


def sums_of(folder: Path) -> Sums:
    """Length and CRC-32 of all files below ``folder``, apart from its own zarr.json, which holds them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / METADATA)
    return {path.relative_to(folder).as_posix(): _sum(path.read_bytes()) for path in files}


def read_array(folder: Path, name: str, shape: list[int], dtype: str, sums: Sums | None) -> np.ndarray:
    """The array ``name`` of the store ``folder``, which must have this shape and dtype.

    ``sums`` are those of :func:`sums_of`, None for a store from before they were kept: then a chunk must have the
    length that its header and the metadata say. Raises ValueError for whatever does not fit, OSError where a file
    cannot be read.
    """
    import zarr

    if 0 in shape:
        return np.zeros(shape, dtype)
    files = _Files(folder / name, name, sums)
    chunk, packed = _layout(parse_json(files.read(METADATA, METADATA_BYTES)), name, shape, dtype)
    files.expect(math.prod(chunk) * np.dtype(dtype).itemsize, packed)
    array = zarr.open_array(_store(files), mode="r", zarr_format=3)
    return array[...]


class _Files:
    """The files of one array as checked bytes."""

    def __init__(self, folder: Path, name: str, sums: Sums | None) -> None:
        self.folder, self.name, self.sums = folder, name, sums
        self.chunk_bytes, self.packed = 0, False

    def expect(self, chunk_bytes: int, packed: bool) -> None:
        """What every chunk makes when it is decoded, and whether it is packed."""
        self.chunk_bytes, self.packed = chunk_bytes, packed

    def read(self, key: str, limit: int) -> bytes:
        """A file's bytes; FileNotFoundError where there is none, ValueError where it is not what was written."""
        known = None if self.sums is None else self.sums.get(f"{self.name}/{key}")
        if self.sums is not None and known is None:
            raise FileNotFoundError(key)  # a chunk of nothing but zeros is not written
        try:
            with open_regular(self.folder / key) as file:
                size = os.fstat(file.fileno()).st_size
                if size > limit or (known and size != known[0]):
                    raise ValueError(f"{self.name}/{key} has {size:,} bytes, not those that were written")
                data = file.read(limit + 1)
        except FileNotFoundError:
            if known is None:
                raise
            raise ValueError(f"{self.name}/{key} is missing") from None
        if known and _sum(data) != known:
            raise ValueError(f"{self.name}/{key} does not have the checksum it was written with")
        return data

    def chunk(self, key: str) -> bytes:
        """A chunk that its codec may have; ValueError and FileNotFoundError as above."""
        data = self.read(key, self.chunk_bytes + (BLOSC_HEADER if self.packed else 0))
        if not self.packed:
            if len(data) != self.chunk_bytes:
                raise ValueError(f"{self.name}/{key} is cut")
        elif not _is_blosc(data, self.chunk_bytes):
            raise ValueError(f"{self.name}/{key} is no chunk of its array")
        return data


def _store(files: _Files) -> Any:
    """A zarr store of these files and no others."""
    from zarr.storage import LocalStore

    class Checked(LocalStore):
        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            if byte_range is not None:
                raise ValueError("a part of a chunk is asked for, which nothing that is written here needs")
            try:
                data = files.read(key, METADATA_BYTES) if key == METADATA else files.chunk(key)
            except FileNotFoundError:
                return None
            if prototype is None:
                from zarr.core.buffer import default_buffer_prototype

                prototype = default_buffer_prototype()
            return prototype.buffer.from_bytes(data)

    return Checked(files.folder, read_only=True)


def _layout(metadata: Any, name: str, shape: list[int], dtype: str) -> tuple[list[int], bool]:
    """(shape of a chunk, whether chunks are packed) of an array's metadata, if it is such as this package writes."""
    ours = isinstance(metadata, dict) and metadata.get("zarr_format") == 3 and metadata.get("node_type") == "array"
    if not ours or metadata.get("shape") != shape or DATA_TYPES.get(str(metadata.get("data_type"))) != dtype:
        raise ValueError(f"{name} is not the {tuple(shape)} {dtype} that was written")
    grid, codecs = metadata.get("chunk_grid"), metadata.get("codecs")
    chunk = _configured(grid, "regular").get("chunk_shape")
    whole = isinstance(chunk, list) and all(type(n) is int for n in chunk) and chunk[1:] == shape[1:]
    if not whole or not 0 < chunk[0] <= shape[0] or metadata.get("storage_transformers"):
        raise ValueError(f"{name} has chunks that are not written here")
    if _configured(metadata.get("chunk_key_encoding"), "default").get("separator") != "/":
        raise ValueError(f"{name} has chunks of other names than are written here")
    if not isinstance(codecs, list) or len(codecs) not in (1, 2):
        raise ValueError(f"{name} has codecs that are not read")
    if _configured(codecs[0], "bytes").get("endian", "little") != "little":
        raise ValueError(f"{name} has codecs that are not read")
    packed = len(codecs) == 2
    if packed:
        _configured(codecs[1], "blosc")
    if metadata.get("fill_value") not in (0, False):
        raise ValueError(f"{name} has a fill value that is not written here")
    return chunk, packed


def _configured(part: Any, name: str) -> Mapping[str, Any]:
    """The configuration of a named part of the metadata; ValueError for another name."""
    if not isinstance(part, dict) or part.get("name") != name or not isinstance(part.get("configuration", {}), dict):
        raise ValueError(f"its metadata name something else than {name!r}, which is not read")
    return part.get("configuration", {})


def _is_blosc(data: bytes, unpacked: int) -> bool:
    """Whether a Blosc buffer is as long as its header says and makes ``unpacked`` bytes: blosc_cbuffer_validate.

    Within these lengths c-blosc (from 1.21) checks every offset.
    """
    if len(data) < BLOSC_HEADER or unpacked > LARGEST_BLOSC_BYTES or data[0] != 2 or data[3] == 0:
        return False
    nbytes, blocksize, cbytes = (int.from_bytes(data[i : i + 4], "little") for i in (4, 8, 12))
    return nbytes == unpacked and cbytes == len(data) and 0 < blocksize <= nbytes


def _sum(data: bytes) -> list[int]:
    return [len(data), zlib.crc32(data)]
