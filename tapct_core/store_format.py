"""A feature map in a folder: one zarr group, equal bytes for equal maps, and every byte checked on reading.

scan.zarr/
  zarr.json     format, geometry, provenance, a checksum of every array and file, and a seal over all that
  tokens/       (Z, Y, X, C) float16 in z slabs, not compressed
  hu/           (D, H, W) int16, compressed
  valid/  cls/  windows/
"""

from __future__ import annotations

import hashlib
import math
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .features import FeatureMap
from .files import require_fits
from .geometry import Geometry
from .provenance import canonical
from .store_files import read_array, sums_of
from .strict_json import read_json

FORMAT = "tapct-features"
FORMAT_VERSION = 1
CHUNK_BYTES = 16 << 20
_ARRAYS = {"tokens": (4, "<f2"), "valid": (3, "|b1"), "hu": (3, "<i2"), "cls": (2, "<f2"), "windows": (2, "<i4")}
"""What is stored: its number of axes and its dtype."""
_COMPRESSED = ("hu", "valid")


class DamagedError(UserError):
    """What stands there is no whole feature store of this version: a cache drops it, a person is told."""


def write(folder: Path, features: FeatureMap) -> None:
    """All of a store into an existing empty folder. Nothing in it depends on the time or the machine."""
    import zarr
    from zarr.codecs import BloscCodec

    arrays = {name: np.ascontiguousarray(getattr(features, name)) for name in _ARRAYS}
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "affine": features.geometry.affine.tolist(),
        "hu_affine": features.hu_geometry.affine.tolist(),
        "arrays": {name: [list(array.shape), array.dtype.str, _checksum(array)] for name, array in arrays.items()},
        "window_tokens": list(features.window_tokens),
        "overlap": features.overlap,
        "provenance": features.provenance,
    }
    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    for name, array in arrays.items():
        if array.size == 0:
            continue  # its shape says all
        # HU shrinks by half and reads three times as fast as with zstd; float16 tokens are noise to any codec.
        codec = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle") if name in _COMPRESSED else None
        target = group.create_array(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=_chunks(array),
            compressors=codec,
        )
        target[...] = array
    facts["files"] = sums_of(folder)
    facts["seal"] = _seal(facts)
    group.update_attributes({"tapct": facts})


def read(path: Path) -> FeatureMap:
    """A map, every byte checked. Raises UserError, DamagedError where it is no whole map of this version."""
    facts = read_facts(path)
    try:
        held = _bytes_of(facts["arrays"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise damaged(path, str(error)) from None
    require_fits(held, str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays = {name: read_array(path, name, *facts["arrays"][name][:2], facts.get("files")) for name in _ARRAYS}
            wrong = [name for name in _ARRAYS if _checksum(arrays[name]) != facts["arrays"][name][2]]
            if wrong:
                raise ValueError(f"{' and '.join(wrong)} do not have the checksum they were written with")
            return _assemble(facts, arrays)
    except Exception as error:  # whatever a damaged file makes zarr or a codec raise, the answer is the same
        raise damaged(path, str(error) or type(error).__name__) from error


def read_facts(path: Path) -> dict[str, Any]:
    """What a map's zarr.json says, sealed. Raises UserError as :func:`read` does."""
    try:
        attributes = read_json(path / "zarr.json")["attributes"]
        facts = attributes.get("tapct")
    except (FileNotFoundError, NotADirectoryError):
        if not path.exists():
            raise UserError(f"{path} does not exist; make it with `tapct embed`") from None
        raise DamagedError(f"{path} is not a feature store (no zarr.json); name one that `tapct embed` wrote") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged(path, "its zarr.json cannot be read") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise DamagedError(f"{path} is a zarr store of something else; name one that `tapct embed` wrote")
    if facts.get("format_version") != FORMAT_VERSION:
        raise DamagedError(
            f"{path} has version {facts.get('format_version')} of the format, this program reads {FORMAT_VERSION}; "
            "embed the scan again"
        )
    if facts.get("seal") != _seal(facts):
        raise damaged(path, "its description was altered")
    return facts


def _bytes_of(arrays: dict[str, list]) -> int:
    """What the arrays of a description take in memory. Raises ValueError where one has another dtype or axes."""
    held = 0
    for name, (axes, dtype) in _ARRAYS.items():
        shape = arrays[name][0]
        if arrays[name][1] != dtype or len(shape) != axes or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"{name} is no array of {axes} axes of {dtype}")
        held += math.prod(shape) * np.dtype(dtype).itemsize
    return held


def _assemble(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> FeatureMap:
    words = facts["provenance"]
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        raise ValueError("its provenance is not in words")
    window = facts["window_tokens"]
    if len(window) != 3 or not all(type(n) is int and n >= 0 for n in window) or not 0 <= facts["overlap"] < 1:
        raise ValueError("its windows are not such as are laid out")
    return FeatureMap(
        geometry=Geometry(arrays["valid"].shape, np.array(facts["affine"])),
        hu_geometry=Geometry(arrays["hu"].shape, np.array(facts["hu_affine"])),
        provenance=facts["provenance"],
        window_tokens=tuple(facts["window_tokens"]),
        overlap=facts["overlap"],
        **arrays,
    )


def _chunks(array: np.ndarray) -> tuple[int, ...]:
    """Slabs of whole rows of the first axis, about CHUNK_BYTES each: few files, each of one place in z."""
    row = max(1, array.nbytes // len(array))
    return (min(len(array), max(1, CHUNK_BYTES // row)), *array.shape[1:])


def _seal(facts: dict[str, Any]) -> str:
    """SHA-256 of the description without its seal; floats survive JSON exactly, so it is stable."""
    return hashlib.sha256(canonical({name: value for name, value in facts.items() if name != "seal"})).hexdigest()


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of the array's bytes: a guard against damage, at memory speed; nobody is kept out by it."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def damaged(path: Path, why: str) -> UserError:
    """The one line about a map that is not whole."""
    why = " ".join(why.split())[:200]
    return DamagedError(f"{path} is damaged ({why}); remove it and embed the scan again, or ask for a rebuild")
