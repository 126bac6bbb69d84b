"""From HU on the scanner's grid to what an encoder expects: clip, scale, and the grid of an input plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .errors import UserError
from .geometry import Geometry, Shape
from .volume import AIR_HU, CTVolume

if TYPE_CHECKING:
    import torch

PLANS = ("release", "spacing")
RELEASE_IN_PLANE = 224
"""Side of the square that the released processor resizes every slice to, in pixels."""


@dataclass(frozen=True)
class InputSpec:
    """What an encoder expects of a CT. Triples are (z, y, x); HU constants are TAP-CT's by default."""

    patch_size: Shape = (4, 8, 8)
    img_size: Shape = (12, 224, 224)
    clip_hu: tuple[float, float] = (-1008.0, 822.0)
    mean_hu: float = -86.8086
    std_hu: float = 322.6347
    plan: str = "release"
    spacing_mm: tuple[float, float, float] = (1.0, 0.8, 0.8)

    def __post_init__(self) -> None:
        if self.plan not in PLANS:
            raise ValueError(f"plan must be one of {', '.join(PLANS)}, not {self.plan!r}")
        if any(size % patch for size, patch in zip(self.img_size, self.patch_size, strict=True)):
            raise ValueError(f"window {self.img_size} is not a whole number of patches {self.patch_size}")
        if min(self.spacing_mm) <= 0 or self.std_hu <= 0 or self.clip_hu[0] >= self.clip_hu[1]:
            raise ValueError("spacing and standard deviation must be positive, and clip_hu ascending")

    @property
    def window_tokens(self) -> Shape:
        """Tokens (z, y, x) of one window."""
        return tuple(size // patch for size, patch in zip(self.img_size, self.patch_size, strict=True))

    def with_plan(self, plan: str | None, spacing_mm: tuple[float, float, float] | None) -> InputSpec:
        """This spec with a person's choice of plan; a spacing given alone means the spacing plan."""
        if plan is None and spacing_mm is not None:
            plan = "spacing"
        if plan == "release" and spacing_mm is not None:
            raise UserError("the release plan keeps the scan's own slices; leave --spacing out or use --plan spacing")
        if plan is not None and plan not in PLANS:
            raise UserError(f"plan {plan!r} is not known; use {' or '.join(PLANS)}")
        if spacing_mm is not None and not all(np.isfinite(s) and s > 0 for s in spacing_mm):
            raise UserError(f"a spacing of {spacing_mm} mm is not possible; give three numbers above zero, z y x")
        return replace(self, plan=plan or self.plan, spacing_mm=spacing_mm or self.spacing_mm)

    def normalise(self, hu: torch.Tensor) -> torch.Tensor:
        """int16 HU of any shape -> float32, clipped and scaled. Air is padded before this, never after.

        Raises TypeError for floating input: HU is int16 on this road, so a float is a sign that
        the values were scaled once already, and scaling twice maps every voxel to about 0.27.
        """
        if hu.dtype.is_floating_point:
            raise TypeError("normalise() takes int16 HU; this tensor is floating point, perhaps normalised already")
        return hu.float().clamp_(*self.clip_hu).sub_(self.mean_hu).div_(self.std_hu)


def plan_geometry(geometry: Geometry, spec: InputSpec) -> Geometry:
    """The grid on which ``spec`` wants the scan, before padding to whole patches.

    ``release`` repeats TAP-CT's processor: 224 x 224 in plane, the scan's own slices. ``spacing``
    is a grid of ``spec.spacing_mm`` over the same box.
    """
    if spec.plan == "release":
        return geometry.resized((geometry.shape[0], RELEASE_IN_PLANE, RELEASE_IN_PLANE))
    return geometry.respaced(spec.spacing_mm)


def resample_hu(volume: CTVolume, target: Geometry) -> np.ndarray:
    """HU of ``volume`` on ``target``, a grid with the same axes and first corner -> int16 (z, y, x).

    Linear along each axis in turn; where the target is coarser, the kernel widens to the target's
    voxel (as PIL and torch's antialias do), so fine detail is averaged and not aliased.
    """
    hu = volume.hu
    for axis in (0, 2, 1):
        scale = target.spacing_mm[axis] / volume.geometry.spacing_mm[axis]
        if target.shape[axis] == volume.geometry.shape[axis] and abs(scale - 1) < 1e-6:
            continue
        hu = _resize_axis(hu, axis, target.shape[axis], scale)
    if hu.dtype == np.int16:
        return hu
    return np.clip(np.rint(hu, out=hu), AIR_HU, 32767, out=hu).astype(np.int16)


def _resize_axis(array: np.ndarray, axis: int, size: int, scale: float) -> np.ndarray:
    """One axis by a banded matrix, in blocks along another axis so that no float copy of the scan is held."""
    weights = _linear_weights(array.shape[axis], size, scale)
    shape = list(array.shape)
    shape[axis] = size
    out = np.empty(shape, dtype=np.float32)
    along = 1 if axis == 0 else 0
    step = max(1, (1 << 24) // max(1, array[0].size if along == 0 else array[:, 0].size))
    for start in range(0, array.shape[along], step):
        block = (slice(None),) * along + (slice(start, start + step),)
        out[block] = np.moveaxis(np.tensordot(weights, array[block].astype(np.float32), axes=(1, axis)), 0, axis)
    return out


def _linear_weights(n_in: int, n_out: int, scale: float) -> np.ndarray:
    """(n_out, n_in) rows of a triangle kernel, ``scale`` input voxels apart, first corners aligned."""
    centres = (np.arange(n_out) + 0.5) * scale - 0.5
    width = max(1.0, scale)
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(n_in)[None] - centres[:, None].clip(0, n_in - 1)) / width)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
