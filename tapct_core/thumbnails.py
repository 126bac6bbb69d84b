"""Small grey pictures of a place in a CT, with the places on them at which outlines and diameters are drawn.

Axial slices in radiological order: the patient's right is on the left of the picture, anterior is up. Numpy, scipy,
scikit-image and zlib only, so that a list of candidates is drawn at once and a report needs no drawing library.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from .geometry import Geometry
from .hu_windows import suggested_window
from .lesions import Mask
from .volume import AIR_HU, CTVolume

SIDE_MM, PIXELS = 60.0, 96
_SOFTER = 0.5
"""HU beyond the window that are kept while resampling, as a share of its width: a clipped edge would ring."""


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """``grey`` (rows, columns) uint8, square; ``slice_index`` is the z of the scan's array that it shows."""

    grey: np.ndarray
    slice_index: int
    side_mm: float
    _geometry: Geometry
    _corner: np.ndarray
    """(row, column) of the scan's array at the picture's upper left corner."""

    def place(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """LPS mm (..., 3) -> (x, y) of the picture (..., 2), in its pixels from the upper left corner."""
        return self.of_index(self._geometry.to_index(points_lps_mm)[..., 1:])

    def of_index(self, rows_columns: np.ndarray) -> np.ndarray:
        """(row, column) of the scan's slice (..., 2) -> (x, y) of the picture (..., 2); whole numbers are centres."""
        apart_mm = (np.asarray(rows_columns, dtype=np.float64) - self._corner) * self._geometry.spacing_mm[1:]
        return apart_mm[..., ::-1] * (len(self.grey) / self.side_mm)


def thumbnail(
    volume: CTVolume,
    point_lps_mm: tuple[float, float, float] | np.ndarray,
    side_mm: float = SIDE_MM,
    pixels: int = PIXELS,
    window: tuple[float, float] | None = None,
) -> Thumbnail:
    """The axial slice round a place (LPS mm), ``side_mm`` wide and high, drawn with ``pixels`` squared.

    ``window`` is (width, level) in HU; None: lung or soft tissue, by what lies round the place.

    What lies outside the scan is air, so a place beyond its border gives a black picture, and no error.
    """
    from scipy import ndimage  # here, so that a widget opens without waiting for scipy

    width, level = window or suggested_window(volume, np.asarray(point_lps_mm))
    index = volume.geometry.to_index(point_lps_mm)
    z = int(np.rint(index[0]))
    spacing = np.array(volume.geometry.spacing_mm[1:])
    corner = index[1:] - side_mm / 2 / spacing
    step = side_mm / pixels / spacing
    start = np.floor(corner).astype(int) - 3
    stop = np.ceil(corner + step * pixels).astype(int) + 4
    low, high = level - width / 2, level + width / 2
    soft = _SOFTER * width
    part = np.clip(_part(volume, z, start, stop).astype(np.float32), low - soft, high + soft)
    # A picture coarser than the scan would drop pixels: smooth what it cannot show.
    part = ndimage.gaussian_filter(part, np.sqrt(np.maximum(0, step**2 - 1)) / 2)
    rows, columns = (corner[a] + (np.arange(pixels) + 0.5) * step[a] - start[a] for a in (0, 1))
    at = np.meshgrid(rows, columns, indexing="ij")
    hu = ndimage.map_coordinates(part, at, order=3, mode="nearest")
    grey = np.clip(np.rint((hu - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    return Thumbnail(grey, z, float(side_mm), volume.geometry, corner)


def contours(flat: np.ndarray) -> list[np.ndarray]:
    """Closed lines round a flat mask (rows, columns): arrays (n, 2) of (row, column), holes too.

    They pass half-way between pixels inside and their neighbours outside, where diameters end (see ``recist``).
    """
    from skimage.measure import find_contours  # here, so that a widget opens without waiting for it

    padded = np.pad(np.asarray(flat, dtype=bool), 1).astype(np.float32)
    # Each line closes by repeating its first point, and pixels that touch at a corner only are apart.
    return [line[:-1] - 1 for line in find_contours(padded, 0.5, fully_connected="low", positive_orientation="high")]


def mask_lines(mask: Mask, slice_index: int) -> list[np.ndarray]:
    """Closed lines (n, 2) of (row, column) round a lesion's mask in a slice of its scan; none outside its box."""
    inside = slice_index - mask.start[0]
    if not 0 <= inside < len(mask.voxels):
        return []
    return [line + mask.start[1:] for line in contours(mask.voxels[inside])]


def png(grey: np.ndarray) -> bytes:
    """A grey picture (rows, columns) uint8 as a PNG file (ISO/IEC 15948: one image chunk, no filter)."""
    rows, columns = grey.shape
    lines = np.zeros((rows, columns + 1), np.uint8)
    lines[:, 1:] = grey
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _part(volume: CTVolume, z: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Rows and columns ``start`` to ``stop`` of a slice, air where the scan has none."""
    out = np.full(stop - start, AIR_HU, np.int16)
    _, rows, columns = volume.hu.shape
    if not 0 <= z < len(volume.hu):
        return out
    low, high = np.clip(start, 0, (rows, columns)), np.clip(stop, 0, (rows, columns))
    into = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    out[into] = volume.hu[z, low[0] : high[0], low[1] : high[1]]
    return out
