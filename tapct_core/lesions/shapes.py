"""The shape that a lesion is expected to have, as a relative radius: 0 in its middle, 1 at its border, more outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry import Geometry
from .finding import Mask

AROUND_MM = 12.0
"""A mask's signed distance is kept this far round it, and goes on as it is there."""


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """``middle_lps_mm`` (3,), ``axes`` (3, 3) unit rows in LPS, ``semi_mm`` (3,) half their lengths."""

    middle_lps_mm: np.ndarray
    axes: np.ndarray
    semi_mm: np.ndarray

    def reach_mm(self, far: float) -> float:
        """How far from the middle the relative radius ``far`` goes."""
        return far * float(self.semi_mm.max())

    def rho(self, grid: Geometry) -> np.ndarray:
        """Relative radius at the voxels of a grid, (z, y, x) float32."""
        turn = (self.axes / self.semi_mm[:, None]) @ grid.affine[:3, :3]
        first = (self.axes / self.semi_mm[:, None]) @ (grid.affine[:3, 3] - self.middle_lps_mm)
        z, y, x = (np.arange(n, dtype=np.float32) for n in grid.shape)
        total = np.zeros(grid.shape, np.float32)
        for step, start in zip(turn.astype(np.float32), first.astype(np.float32), strict=True):
            total += np.square((start + step[0] * z)[:, None, None] + (step[1] * y)[:, None] + step[2] * x)
        return np.sqrt(total, out=total)


@dataclass(frozen=True, eq=False)
class Template:
    """The shape of a mask, here or carried from another scan.

    ``beyond_mm`` (z, y, x): signed distance to the mask's border on ``grid``, negative inside. ``back`` (4, 4) takes
    LPS mm of this scan to LPS mm of the mask's. ``radius_mm``: how deep the mask is at its deepest; ``half_mm``: half
    of its largest extent along an axis.
    """

    beyond_mm: np.ndarray
    grid: Geometry
    back: np.ndarray
    radius_mm: float
    half_mm: float

    @classmethod
    def of(cls, mask: Mask, grid: Geometry, motion: np.ndarray | None = None) -> Template:
        """``grid``: the grid that the mask was drawn on; ``motion`` (4, 4): from its LPS mm to this scan's."""
        margin = tuple(int(np.ceil(AROUND_MM / s)) for s in grid.spacing_mm)
        voxels = np.pad(mask.voxels, [(m, m) for m in margin])
        near = grid.cropped(tuple(s - m for s, m in zip(mask.start, margin, strict=True)), voxels.shape)
        spacing = grid.spacing_mm
        inside = ndimage.distance_transform_edt(voxels, sampling=spacing)
        beyond = ndimage.distance_transform_edt(~voxels, sampling=spacing) - inside
        beyond += np.where(voxels, 0.5, -0.5) * min(spacing)  # borders run half-way between voxels
        back = np.eye(4) if motion is None else np.linalg.inv(motion)
        radius = max(float(-beyond.min()), 0.5 * min(spacing))
        half = float((np.array(mask.voxels.shape) * spacing).max()) / 2
        return cls(beyond.astype(np.float32), near, back, radius, half)

    def reach_mm(self, far: float) -> float:
        """How far from the middle the relative radius ``far`` goes, and what is round a lesion of its size."""
        return 1.1 * self.half_mm + max((far - 1) * self.radius_mm, 0.5 * self.half_mm)

    def distance(self, grid: Geometry) -> np.ndarray:
        """mm beyond the mask's border at the voxels of a grid, (z, y, x) float32, negative inside."""
        turn = np.linalg.inv(self.grid.affine) @ self.back @ grid.affine
        return ndimage.affine_transform(
            self.beyond_mm, turn[:3, :3], turn[:3, 3], output_shape=grid.shape, order=1, mode="nearest"
        )

    def rho(self, grid: Geometry) -> np.ndarray:
        """Relative radius at the voxels of a grid, (z, y, x) float32: by how many of its depths a place lies beyond."""
        return np.maximum(1 + self.distance(grid) / np.float32(self.radius_mm), 0)


Shape = Ellipsoid | Template


def ball(middle_lps_mm: np.ndarray, radius_mm: float) -> Ellipsoid:
    """A ball."""
    return Ellipsoid(np.asarray(middle_lps_mm, float), np.eye(3), np.full(3, float(radius_mm)))
