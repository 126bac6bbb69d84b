"""Evidence from the image itself, without weights: what the HU round a place look like at three scales.

Sparse samples of the image round a point, near and far, describe a place in the body well enough to find
it again without any training (Yerebakan et al. 2023, arXiv 2308.07337). Here the samples are taken densely,
once a scan, on a lattice, and shortened by a principal component analysis to vectors that are compared as
an encoder's tokens are. Being linear in the samples, they interpolate like tokens too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..body import body_mask
from ..geometry import Geometry, Shape

BASE_MM = 3.0
"""Spacing of the grid on which the samples are taken."""
STRIDE = 2
"""Base voxels from one lattice point to the next."""
SCALES_MM = (3.0, 9.0, 21.0)
"""Distance between neighbouring samples at each scale; whole multiples of BASE_MM."""
LENGTH = 64
"""Numbers left of a description after the principal component analysis."""

_HU_KNOTS = (-1000.0, -200.0, 200.0, 700.0)
_LEVELS = (0.0, 1.0, 2.2, 2.8)
"""Soft tissue gets three times the contrast per HU that lung and bone get."""


@dataclass(frozen=True, eq=False)
class HuDescription:
    """Dense samples' short form: ``vectors`` (Z, Y, X, LENGTH) float32 on ``geometry``, ``valid`` in the body."""

    vectors: np.ndarray
    valid: np.ndarray
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class HuBasis:
    """What turns samples into a description: their ``mean`` (S,) and the ``axes`` (S, LENGTH)."""

    mean: np.ndarray
    axes: np.ndarray


def contrast_curve(hu: np.ndarray) -> np.ndarray:
    """HU -> float32 levels in which soft tissue, lung and bone each have a fair share of the range."""
    return np.interp(hu, _HU_KNOTS, _LEVELS).astype(np.float32)


def base_image(hu: np.ndarray, geometry: Geometry, step_mm: float = BASE_MM) -> tuple[np.ndarray, Geometry]:
    """HU (z, y, x) averaged or interpolated to a cubic grid of ``step_mm`` over the same box -> float32, Geometry."""
    target = geometry.respaced((step_mm,) * 3)
    image = hu.astype(np.float32) if hu.size < (1 << 27) else hu
    for axis in range(3):
        scale = target.spacing_mm[axis] / geometry.spacing_mm[axis]
        image = _respace(image, axis, target.shape[axis], scale)
    return image, target


def _respace(image: np.ndarray, axis: int, size: int, scale: float) -> np.ndarray:
    """One axis to ``size`` samples ``scale`` voxels apart, by a triangle as wide as the coarser of both."""
    n = image.shape[axis]
    centres = ((np.arange(size) + 0.5) * scale - 0.5).clip(0, n - 1)
    reach = max(1.0, scale)
    taps = np.floor(centres - reach).astype(int)[:, None] + np.arange(1, int(np.ceil(2 * reach)) + 2)
    weights = np.maximum(0.0, 1.0 - np.abs(taps - centres[:, None]) / reach) * ((taps >= 0) & (taps < n))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    out = 0.0
    shape = [1, 1, 1]
    shape[axis] = size
    for tap, weight in zip(taps.T.clip(0, n - 1), weights.T, strict=True):
        if weight.any():
            out = out + np.take(image, tap, axis=axis) * weight.reshape(shape)
    return np.asarray(out, dtype=np.float32)


class HuSampler:
    """The smoothed images of one scan, from which descriptions at any lattice point are gathered."""

    def __init__(self, hu: np.ndarray, geometry: Geometry) -> None:
        image, base = base_image(hu, geometry)
        self.base = base
        self.valid_base = body_mask(image, base.spacing_mm)
        contrast = contrast_curve(image)
        self.images: list[np.ndarray] = []
        self.steps: list[int] = []
        fill = float(contrast[self.valid_base].mean()) if self.valid_base.any() else 0.0
        reach = 2 * round(max(SCALES_MM) / BASE_MM)
        for scale in SCALES_MM:
            sigma = 0.0 if scale <= BASE_MM else 0.4 * scale / BASE_MM
            smooth = ndimage.gaussian_filter(contrast, sigma, mode="nearest", truncate=3) if sigma else contrast
            self.images.append(np.pad(smooth, reach, constant_values=fill))
            self.steps.append(round(scale / BASE_MM))
        self._reach = reach
        shape: Shape = tuple(-(-n // STRIDE) for n in base.shape)
        affine = base.affine.copy()
        affine[:3, :3] *= STRIDE
        self.geometry = Geometry(shape, affine)
        self.valid = np.ascontiguousarray(self.valid_base[::STRIDE, ::STRIDE, ::STRIDE])

    def samples(self, flat: np.ndarray) -> np.ndarray:
        """Samples at lattice points given by flat index (N,) -> (N, S) float32, S = 125 a scale."""
        at = np.stack(np.unravel_index(flat, self.geometry.shape), axis=1) * STRIDE + self._reach
        padded = self.images[0].shape
        centre = np.ravel_multi_index(at.T, padded).astype(np.int64)
        offsets = np.array(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij")).reshape(3, -1)
        strides = np.array([padded[1] * padded[2], padded[2], 1])
        columns = []
        for image, step in zip(self.images, self.steps, strict=True):
            shifts = strides @ (offsets * step)
            columns.append(image.reshape(-1)[centre[:, None] + shifts[None]])
        return np.concatenate(columns, axis=1)

    def basis(self, seed: int = 0, count: int = 12000) -> HuBasis:
        """Mean and principal axes of this scan's own samples."""
        places = np.flatnonzero(self.valid)
        if len(places) == 0:
            places = np.arange(self.valid.size)
        chosen = np.random.default_rng(seed).permutation(places)[:count]
        samples = self.samples(np.sort(chosen))
        mean = samples.mean(axis=0)
        centred = samples - mean
        values, axes = np.linalg.eigh(centred.T @ centred)
        keep = np.argsort(values)[::-1][:LENGTH]
        return HuBasis(mean, np.ascontiguousarray(axes[:, keep].astype(np.float32)))

    def describe(self, basis: HuBasis, block: int = 16384) -> HuDescription:
        """Descriptions of every lattice point in the body, centred on this scan's own mean."""
        vectors = np.zeros((self.valid.size, basis.axes.shape[1]), dtype=np.float32)
        places = np.flatnonzero(self.valid)
        for start in range(0, len(places), block):
            part = places[start : start + block]
            vectors[part] = (self.samples(part) - basis.mean) @ basis.axes
        return HuDescription(vectors.reshape(*self.geometry.shape, -1), self.valid, self.geometry)
