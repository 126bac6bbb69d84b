"""The coarse grid that a scan is delineated on first, and all of it that strokes do not change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..body import body_mask
from ..geometry import Geometry, Shape
from ..probe.hu import SCALES_MM
from ..volume import CTVolume
from .walker import Lattice, edge_hu, noise_beta

COARSE_MM = 2.75
"""Voxels are put together until they come closest to this: borders of organs are still seen, and a whole trunk is
about a million cells."""
EDGE_SHARE = 0.3
"""Of the walk's own beta, which is made for one lesion in its surroundings: borders between organs are fainter beside
the noise of a whole trunk. On dev patients Dice at 1 / 3 / 5 slices was 0.53 / 0.85 / 0.89 for organs, 0.27 / 0.55 /
0.62 for thin structures and 0.56 / 0.74 / 0.79 for lesions at 1, and 0.66 / 0.80 / 0.89, 0.39 / 0.67 / 0.68 and 0.47 /
0.74 / 0.80 at 0.3; squared differences, as scikit-image has them, were no better."""
BETA_CELLS = 9
"""Slices of cells that the noise of the scan's own voxels is measured in."""


@dataclass(frozen=True, eq=False)
class WorkGrid:
    """``block`` voxels (z, y, x) of the scan make a cell; ``geometry`` of the cells, ``hu`` (z, y, x) their means,
    ``body`` (z, y, x) which cells lie in the patient, lungs included; n of them."""

    volume: CTVolume
    block: Shape
    geometry: Geometry
    hu: np.ndarray
    body: np.ndarray

    @classmethod
    def of(cls, volume: CTVolume) -> WorkGrid:
        """The grid for a scan. Where no body is found, as in a phantom of air, every cell counts as one of it."""
        block = tuple(max(1, round(COARSE_MM / step)) for step in volume.geometry.spacing_mm)
        shape = tuple(-(-n // b) for n, b in zip(volume.hu.shape, block, strict=True))
        padded = volume.geometry.cropped((0, 0, 0), tuple(n * b for n, b in zip(shape, block, strict=True)))
        hu = block_means(volume.hu, block)
        geometry = padded.pooled(block)
        body = body_mask(hu, geometry.spacing_mm)
        return cls(volume, block, geometry, hu, body if body.any() else np.ones(shape, bool))

    @cached_property
    def lattice(self) -> Lattice:
        """The edges between the body's cells."""
        return self.lattice_of(slice(0, self.body.shape[0]))

    @cached_property
    def size(self) -> int:
        """n, the number of the body's cells."""
        return int(np.count_nonzero(self.body))

    @cached_property
    def beta(self) -> float:
        """What difference of HU makes a border, from the noise of all of the scan."""
        return EDGE_SHARE * noise_beta(edge_hu(self.hu, self.geometry.spacing_mm), self.body)

    @cached_property
    def fine_beta(self) -> float:
        """As :attr:`beta`, of the scan's own voxels: in the slices of some cells in the middle of the scan."""
        middle, reach = self.body.shape[0] // 2, BETA_CELLS // 2
        span = slice(max(0, middle - reach), middle + reach + 1)
        voxels = slice(span.start * self.block[0], span.stop * self.block[0])
        hu = edge_hu(self.volume.hu[voxels], self.volume.geometry.spacing_mm)
        return noise_beta(hu, self.up(self.body[span], span.start))

    def lattice_of(self, span: slice) -> Lattice:
        """The edges between the body's cells in a span along z."""
        spacing = self.geometry.spacing_mm
        return Lattice.of(edge_hu(self.hu[span], spacing), spacing, self.beta, self.body[span])

    @cached_property
    def maps(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """At each of SCALES_MM the smoothed HU, gradient and Laplacian of the body's cells, each (n,) float32."""
        return [tuple(part[self.body] for part in found) for found in scale_maps(self.hu, self.geometry.spacing_mm)]

    @cached_property
    def cells(self) -> np.ndarray:
        """Number (z, y, x) of each cell among the body's, -1 outside."""
        number = np.full(self.body.shape, -1, np.int32)
        number[self.body] = np.arange(np.count_nonzero(self.body), dtype=np.int32)
        return number

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Index (N, 3) of the body's cells with these numbers."""
        return np.column_stack(np.unravel_index(self._flat[numbers], self.body.shape))

    @cached_property
    def _flat(self) -> np.ndarray:
        return np.flatnonzero(self.body)

    def rows(self, span: slice) -> slice:
        """The numbers of the body's cells in a span along z."""
        counts = self.body.sum(axis=(1, 2))
        return slice(int(counts[: span.start].sum()), int(counts[: span.stop].sum()))

    def up(self, cells: np.ndarray, first: int = 0) -> np.ndarray:
        """Values of slices of cells, from the cell ``first`` along z on, on the scan's voxels, alike within a cell."""
        for axis, times in enumerate(self.block):
            if times > 1:
                cells = cells.repeat(times, axis=axis)
        depth, height, width = self.volume.hu.shape
        return cells[: depth - first * self.block[0], :height, :width]


def block_means(hu: np.ndarray, block: Shape) -> np.ndarray:
    """Means over blocks (z, y, x) float32; at the far ends the last voxel is repeated."""
    if block == (1, 1, 1):
        return hu.astype(np.float32)
    out = []
    for start in range(0, hu.shape[0], block[0]):
        part = hu[start : start + block[0]].mean(axis=0, dtype=np.float32)
        for axis, size in ((0, block[1]), (1, block[2])):
            rest = -part.shape[axis] % size
            if rest:
                part = np.pad(part, [(0, rest) if a == axis else (0, 0) for a in range(2)], mode="edge")
        out.append(part.reshape(part.shape[0] // block[1], block[1], -1, block[2]).mean(axis=(1, 3)))
    return np.stack(out)


def scale_maps(hu: np.ndarray, spacing_mm: tuple[float, float, float]):
    """For each of SCALES_MM the smoothed HU, gradient and Laplacian times scale, as a probe's voxel features have."""
    from scipy.ndimage import gaussian_filter

    for scale in SCALES_MM:
        smooth = gaussian_filter(hu, [scale / step for step in spacing_mm], mode="nearest", truncate=3.0)
        padded = np.pad(smooth, 1, mode="edge")
        slope, laplace = np.zeros_like(smooth), np.zeros_like(smooth)
        for axis, step in enumerate(spacing_mm):
            near = [
                tuple(slice(s, n + s) if a == axis else slice(1, -1) for a, n in enumerate(hu.shape)) for s in (0, 2)
            ]
            before, after = padded[near[0]], padded[near[1]]
            slope += ((after - before) * np.float32(scale / (2 * step))) ** 2
            laplace += (after + before - 2 * smooth) * np.float32((scale / step) ** 2)
        yield smooth, np.sqrt(slope), laplace
