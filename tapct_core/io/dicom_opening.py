"""Opening a DICOM file that anybody may have made: what it may cost is decided before pydicom begins.

pydicom inflates a deflated data set whole (10 MB make 10 GB), reads each item of a sequence of unknown length one by
one, and a decoder allocates what the compressed image itself claims. So a deflated file is inflated here, up to what
its header needs; each read is counted; and the size within a compressed image is held against Rows and Columns.
Standards: DICOM PS3.5 A.5 (deflated), PS3.5 8.2 (native and encapsulated); ISO/IEC 10918-1 B.2.2 (JPEG), 14495-1
C.2.2 (JPEG-LS), 15444-1 A.5.1 (JPEG 2000).
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UserError
from ..files import open_regular, require_fits

DEFLATED = "1.2.840.10008.1.2.1.99"
HEADER_BYTES = 16 << 20
"""The most that stands before an image's pixels; scanners write some 100 kB."""
READS = 400_000
"""Of one image: an element takes two or three, so this is a header of more than 100,000 elements."""
FINDINGS_BYTES, FINDINGS_READS = 256 << 20, 4_000_000
"""The same of a SEG, SR or RTSTRUCT: 20,000 contours or frames have some million elements."""
_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Markers of a JPEG (F7: JPEG-LS) that are followed by the image's size."""


def open_dicom(
    path: Path, tags: list[str] | None = None, pixel_bytes: int = 0, pixels: bool = True, reads: int = READS
) -> Any:
    """A DICOM file as pydicom's FileDataset; with ``tags`` these alone; with these or without ``pixels`` nothing from
    the pixels on.

    ``pixel_bytes`` is what the pixels may take once a deflated file is inflated, ``reads`` how many pieces it may have.
    Raises UserError for what is no regular file or would take more than it may, and whatever pydicom raises for what
    is damaged.
    """
    import pydicom

    with open_regular(path) as file:
        head = file.read(4096)
        file.seek(0)
        if DEFLATED.encode() in head and _is_deflated(file):
            return _inflated(path, file, tags, pixel_bytes, pixels, reads)
        file.seek(0)
        header_alone = tags is not None or not pixels
        return pydicom.dcmread(_Counted(file, reads), stop_before_pixels=header_alone, specific_tags=tags, force=True)


def open_findings(path: Path) -> Any:
    """A SEG, SR or RTSTRUCT whole, once its header has said that it fits. Raises as :func:`open_dicom`."""
    header = open_dicom(path, ["Rows", "Columns", "NumberOfFrames", "BitsAllocated"], reads=FINDINGS_READS)
    voxels = int(header.get("Rows") or 0) * int(header.get("Columns") or 0) * int(header.get("NumberOfFrames") or 1)
    # A bit a voxel becomes a byte, and each set voxel two coordinates.
    require_fits(max(voxels, 0), path.name)
    packed = -(-voxels * int(header.get("BitsAllocated") or 8) // 8)
    return open_dicom(path, pixel_bytes=FINDINGS_BYTES + max(packed, 0), reads=FINDINGS_READS)


def require_size(dataset: Any, rows: int, columns: int, name: str, frame: int = 0, frames: int = 1) -> None:
    """Raise UserError where the compressed image says another size than its header: it is what would be allocated."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_encapsulated:
        return
    from pydicom.encaps import get_frame

    size = size_within(get_frame(dataset.PixelData, frame, number_of_frames=frames))
    if size is not None and size != (rows, columns):
        raise UserError(f"{name} is damaged: its compressed image is {size}, its header says {(rows, columns)}")


def size_within(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 image says of itself; None where it says none."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at >= 0:  # the area from the image's offset to its end on the reference grid
        right, bottom, left, top = (int.from_bytes(frame[at + k : at + k + 4], "big") for k in (8, 12, 16, 20))
        return bottom - top, right - left
    at = 2 if frame[:2] == b"\xff\xd8" else len(frame)
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _SIZES:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


class _Counted:
    """A file that refuses to be read in more than so many pieces, and never sets more aside than it holds."""

    def __init__(self, file: BinaryIO, reads: int) -> None:
        self._read, self._left = file.read, reads
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self.name = getattr(file, "name", "")
        start = file.tell()
        self._end = file.seek(0, os.SEEK_END)
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("more elements than any image has")
        # Python allocates what is asked for before it reads, and a broken length asks for 4 GB.
        return self._read(min(size, max(0, self._end - self.tell())) if size > 4096 else size)


def _is_deflated(file: BinaryIO) -> bool:
    from pydicom.filereader import read_partial

    meta = read_partial(io.BytesIO(_meta_of(file)), force=True).file_meta
    return meta.get("TransferSyntaxUID") == DEFLATED


def _meta_of(file: BinaryIO) -> bytes:
    """Preamble and meta header, by the length that the latter gives in its first element (PS3.10 7.1)."""
    file.seek(0)
    head = file.read(144)
    start = 132 if head[128:132] == b"DICM" else 0
    if head[start : start + 4] != b"\x02\0\0\0":
        raise ValueError("a deflated file without the length of its meta header")
    length = int.from_bytes(head[start + 8 : start + 12], "little")
    file.seek(0)
    return file.read(start + 12 + min(length, HEADER_BYTES))


def _inflated(path: Path, file: BinaryIO, tags: list[str] | None, pixel_bytes: int, pixels: bool, reads: int) -> Any:
    """The data set behind the meta header, inflated up to what it may take."""
    from pydicom.dataset import FileDataset
    from pydicom.filereader import read_dataset, read_partial
    from pydicom.tag import Tag

    meta = _meta_of(file)
    known = read_partial(io.BytesIO(meta), force=True)
    limit = HEADER_BYTES + pixel_bytes
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpack.decompress(file.read(min(limit, os.fstat(file.fileno()).st_size)), limit)
    if tags is None and pixels and not unpack.eof and len(data) == limit:
        raise UserError(f"{path.name} holds more than its header says, once it is inflated; copy it again")
    wanted = None if tags is None else [Tag(tag) for tag in tags]
    stop = None if tags is None and pixels else _pixels_begin
    found = read_dataset(_Counted(io.BytesIO(data), reads), False, True, stop_when=stop, specific_tags=wanted)
    return FileDataset(str(path), found, known.preamble, known.file_meta, False, True)


def _pixels_begin(tag: Any, *_: Any) -> bool:
    return tag >= 0x7FE00008
