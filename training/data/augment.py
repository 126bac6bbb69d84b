"""Intensity augmentations of CT in HU, in batches on the device, seeded per sample.

What changes between scanners and visits without changing the anatomy: the tube's voltage and the kernel
(contrast, gamma, blur and sharpening), calibration (shift), dose (noise), and the phase of a contrast agent,
which lifts soft tissue by up to a hundred HU and more, here and not there. An encoder that hangs on
absolute soft-tissue HU fails across phases, so the phase-like change is part of the set.

Every parameter, and every voxel's noise, is a hash of the sample's seed: the same sample gets the same
change whatever batch, rank or device it meets. All values in HU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapct_core.crops import Range, seeded_uniforms

_STREAM = 1000
"""Keeps these draws apart from those of the crops, which share the seed."""


@dataclass(frozen=True)
class AugmentSpec:
    """Chances (0 to 1) and ranges of each change; a chance of 0 leaves it out.

    ``contrast``   factor on the distance to the crop's mean HU.
    ``gamma``      exponent on HU scaled to 0..1 over ``span_hu``, drawn log-uniformly.
    ``shift_hu``   offset of the whole crop, up to this much up or down.
    ``phase_hu``   (least, most) HU that soft tissue (about 0 to 250 HU) gains; half of it wanders slowly in space.
    ``blur``       standard deviation in voxels, all three axes (kernel of five voxels).
    ``sharpen``    factor on what a blur of 0.7 voxels removes.
    ``noise_hu``   standard deviation of white noise.
    """

    contrast_chance: float = 0.5
    contrast: Range = (0.8, 1.25)
    gamma_chance: float = 0.3
    gamma: Range = (0.7, 1.4)
    shift_chance: float = 0.3
    shift_hu: float = 40.0
    phase_chance: float = 0.3
    phase_hu: Range = (-40.0, 120.0)
    blur_chance: float = 0.2
    blur: Range = (0.3, 1.0)
    sharpen_chance: float = 0.2
    sharpen: Range = (0.2, 1.0)
    noise_chance: float = 0.3
    noise_hu: Range = (2.0, 40.0)
    span_hu: Range = (-1024.0, 1500.0)

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name.endswith("_chance") and not 0 <= value <= 1:
                raise ValueError(f"{name} is a chance from 0 to 1, not {value}")
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name} must be ascending, not {value}")
        if self.contrast[0] <= 0 or self.gamma[0] <= 0 or self.blur[0] <= 0 or self.noise_hu[0] < 0:
            raise ValueError("contrast, gamma and blur must be positive, noise_hu not negative")


NO_AUGMENT = AugmentSpec(**{name: 0.0 for name in AugmentSpec.__dataclass_fields__ if name.endswith("_chance")})
"""Changes nothing."""


def augment(hu: Tensor, seeds: Sequence[int] | np.ndarray | Tensor, spec: AugmentSpec) -> Tensor:
    """HU (n, d, h, w) float32 -> changed HU of the same shape; ``seeds``: n whole numbers, one a crop.

    The order is that of the scanner: tissue (phase), tube (contrast, gamma, shift), kernel (blur or
    sharpen), dose (noise). ``hu`` may be written to.
    """
    if not hu.dtype.is_floating_point or hu.ndim != 4:
        raise ValueError(f"augment() takes float HU (n, d, h, w), not {hu.dtype} {tuple(hu.shape)}")
    draws = seeded_uniforms(seeds, 15 + 27, _STREAM)
    chances = (spec.phase_chance, spec.contrast_chance, spec.gamma_chance, spec.shift_chance)
    kernel_chance = spec.blur_chance + spec.sharpen_chance
    if kernel_chance > 1:
        raise ValueError("blur_chance and sharpen_chance exclude each other and sum to at most 1")
    phase, contrast, gamma, shift = (draws[:, i] < chance for i, chance in enumerate(chances))
    blur = draws[:, 4] < spec.blur_chance
    sharpen = ~blur & (draws[:, 4] < kernel_chance)
    noise = draws[:, 5] < spec.noise_chance

    lift = _between(draws[:, 6], spec.phase_hu)
    hu = _where(hu, phase, lambda x, i: _change_phase(x, _column(lift[i], x), 2 * draws[i, 15:42] - 1))
    factor = np.exp(_between(draws[:, 7], tuple(np.log(spec.contrast))))
    hu = _where(hu, contrast, lambda x, i: _change_contrast(x, _column(factor[i], x)))
    exponent = np.exp(_between(draws[:, 8], tuple(np.log(spec.gamma))))
    hu = _where(hu, gamma, lambda x, i: _change_gamma(x, _column(exponent[i], x), spec.span_hu))
    offset = spec.shift_hu * (2 * draws[:, 9] - 1)
    hu = _where(hu, shift, lambda x, i: x.add_(_column(offset[i], x)))
    width = _between(draws[:, 10], spec.blur)
    hu = _where(hu, blur, lambda x, i: gaussian_blur(x, width[i]))
    gain = _between(draws[:, 11], spec.sharpen)
    hu = _where(hu, sharpen, lambda x, i: x + _column(gain[i], x) * (x - gaussian_blur(x, np.full(len(i), 0.7))))
    deviation = _between(draws[:, 12], spec.noise_hu)
    keys = (draws[:, 13] * 2**31).astype(np.int64)
    return _where(
        hu, noise, lambda x, i: x.addcmul_(hashed_normal(x.shape, keys[i], x.device), _column(deviation[i], x))
    )


def gaussian_blur(hu: Tensor, width: np.ndarray) -> Tensor:
    """Blur (n, d, h, w) with a Gaussian of ``width[i]`` voxels cut to five taps, edges repeated.

    Shifted sums and no convolution call: kernels differ by sample, and grouped 3D convolutions are slow
    on every device.
    """
    taps = np.exp(-0.5 * (np.arange(3)[None] / width[:, None]) ** 2)  # (n, 3): centre, one off, two off
    taps = taps / (taps[:, :1] + 2 * taps[:, 1:].sum(axis=1, keepdims=True))
    centre, one, two = (_column(taps[:, k], hu) for k in range(3))
    for axis in (1, 2, 3):
        size = hu.shape[axis]
        padded = torch.cat([hu.narrow(axis, 0, 1)] * 2 + [hu] + [hu.narrow(axis, size - 1, 1)] * 2, dim=axis)
        near = padded.narrow(axis, 1, size) + padded.narrow(axis, 3, size)
        far = padded.narrow(axis, 0, size) + padded.narrow(axis, 4, size)
        hu = (centre * hu).add_(near.mul_(one)).add_(far.mul_(two))
    return hu


def hashed_normal(shape: Sequence[int], keys: np.ndarray, device: torch.device | str) -> Tensor:
    """Noise of mean 0 and deviation 1, (n, ...) float32, voxel by voxel a hash of (keys[i], place).

    The sum of the hash's four bytes (Irwin-Hall: kurtosis 2.7 against a normal's 3, cut at 3.5 deviations):
    whole numbers, so every device gives the same bits. Hash: "lowbias32" (Wellons, nullprogram.com/blog/2018/07/31).
    """
    place = torch.arange(math.prod(shape[1:]), dtype=torch.int32, device=device)
    mixed = _lowbias32(torch.as_tensor(keys, device=device).to(torch.int32)[:, None] ^ _lowbias32(place)[None])
    total = mixed & 0xFF
    for bits in (8, 16, 24):
        total += (mixed >> bits) & 0xFF
    deviation = math.sqrt(4 * (256**2 - 1) / 12)
    return ((total.float() - 510.0) / deviation).reshape(tuple(shape))


def _lowbias32(x: Tensor) -> Tensor:
    """Integer hash of int32 bits; products wrap, and shifts are made logical by masking the sign's copies."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)


def _change_phase(hu: Tensor, lift: Tensor, knots: np.ndarray) -> Tensor:
    """Lift soft tissue: fully from 20 to 200 HU, fading out towards fat (-50) and bone (500).

    Half of the lift wanders over the crop (a 3 x 3 x 3 grid of ``knots`` in [-1, 1], trilinear), since
    organs take up contrast each in its own way and equal HU must not stay equal.
    """
    field = torch.as_tensor(knots, dtype=hu.dtype, device=hu.device).reshape(-1, 1, 3, 3, 3)
    field = F.interpolate(field, hu.shape[1:], mode="trilinear", align_corners=True)[:, 0]
    soft = ((hu + 50) / 70).clamp_(0, 1).mul_(((500 - hu) / 300).clamp_(0, 1))
    return hu.add_(soft.mul_(field.mul_(0.5).add_(0.5).mul_(lift)))


def _change_contrast(hu: Tensor, factor: Tensor) -> Tensor:
    mean = hu.mean(dim=(1, 2, 3), keepdim=True)
    return hu.sub_(mean).mul_(factor).add_(mean)


def _change_gamma(hu: Tensor, exponent: Tensor, span: Range) -> Tensor:
    low, width = span[0], span[1] - span[0]
    return ((hu - low) / width).clamp_(0, 1).pow_(exponent).mul_(width).add_(low)


def _where(hu: Tensor, chosen: np.ndarray, change) -> Tensor:
    """Apply ``change(crops, indices)`` to the chosen crops only."""
    index = np.flatnonzero(chosen)
    if len(index) == len(hu) and len(index):
        return change(hu, index)
    if len(index):
        where = torch.as_tensor(index, device=hu.device)
        hu[where] = change(hu[where], index)
    return hu


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)[:, None, None, None]


def _between(uniform: np.ndarray, bounds: Range) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform
