"""The part of a scan round a lesion, on voxels fit for its size, and the way back to the scan's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..embedding import patch_means
from ..geometry import Geometry, Shape
from ..volume import CTVolume
from .finding import Mask


@dataclass(frozen=True, eq=False)
class Field:
    """``box``: the slices of a scan of shape ``scan``, ``fine`` their grid; ``block`` own voxels (z, y, x) make one of
    ``grid``; ``hu`` its means, (z, y, x) float32."""

    scan: Shape
    box: tuple[slice, slice, slice]
    fine: Geometry
    block: Shape
    grid: Geometry
    hu: np.ndarray

    @classmethod
    def around(cls, volume: CTVolume, middle_lps_mm: np.ndarray, half_mm: float, step_mm: float) -> Field:
        """What lies within ``half_mm`` along each axis, averaged to voxels of at most about ``step_mm``."""
        geometry = volume.geometry
        index, half = geometry.to_index(middle_lps_mm), half_mm / np.array(geometry.spacing_mm)
        last = np.array(geometry.shape) - 1
        low = np.clip(np.floor(index - half), 0, last).astype(int)
        high = np.clip(np.ceil(index + half), 0, last).astype(int) + 1
        fine = geometry.cropped(tuple(map(int, low)), tuple(map(int, high - low)))
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        block = tuple(max(1, int(step_mm / s)) for s in fine.spacing_mm)
        whole = tuple(-(-n // b) * b for n, b in zip(fine.shape, block, strict=True))
        grid = fine.cropped((0, 0, 0), whole).pooled(block)
        return cls(geometry.shape, box, fine, block, grid, patch_means(volume.hu[box], block))

    def pooled(self, marks: np.ndarray) -> np.ndarray:
        """Which voxels of the grid hold a mark, bool; ``marks`` (z, y, x) bool as large as the scan."""
        part = marks[self.box]
        rest = [(0, n * b - m) for n, b, m in zip(self.grid.shape, self.block, part.shape, strict=True)]
        blocks = [size for n, b in zip(self.grid.shape, self.block, strict=True) for size in (n, b)]
        return np.pad(part, rest).reshape(blocks).any(axis=(1, 3, 5))

    def on_own_voxels(self, values: np.ndarray) -> np.ndarray:
        """Values on the grid, interpolated linearly to the scan's own voxels of the box, (z, y, x) float32."""
        for axis, (size, times) in enumerate(zip(self.grid.shape, self.block, strict=True)):
            if times == 1:
                continue
            at = np.clip((np.arange(self.fine.shape[axis]) + 0.5) / times - 0.5, 0, size - 1)
            first = np.minimum(at.astype(int), max(size - 2, 0))
            share = (at - first).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
            last = np.minimum(first + 1, size - 1)
            values = values.take(first, axis) * (1 - share) + values.take(last, axis) * share
        return values[tuple(slice(n) for n in self.fine.shape)]

    def mask(self, inside: np.ndarray) -> Mask:
        """What is set in the box (z, y, x) as a mask of the scan. Raises UserError where nothing is."""
        tight = Mask.from_array(inside)
        start = tuple(s + b.start for s, b in zip(tight.start, self.box, strict=True))
        return Mask(start, tight.voxels, self.scan)
