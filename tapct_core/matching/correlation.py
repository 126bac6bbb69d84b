"""Weighted normalised cross-correlation of a baseline patch with its surroundings in the follow-up.

Normalised correlation ignores how bright and how contrasted a patch is; a Gaussian weight makes the centre
count most. All sums are correlations, so many patches go through one batched FFT (Lewis 1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from ..geometry import Geometry
from .peaks import parabolic_peaks

TIE = 1e-3
"""Correlation that decides between equals; more would hold patches back from where they belong."""

TOGETHER = 64
"""Patches in one Fourier transform."""
MANY = 1000
"""Samples round one point from which it pays to cut out its part of the image."""


@dataclass(frozen=True, eq=False)
class Image:
    """HU after a contrast curve, (z, y, x) float32, and its Geometry: what correlation compares."""

    values: np.ndarray
    geometry: Geometry

    def sample(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Trilinear values at LPS points (..., 3) -> (...) float32; the nearest voxel's outside."""
        points = np.asarray(points_lps_mm)
        return self.patches(points.reshape(-1, 3), np.zeros((1, 1, 3))).numpy().reshape(points.shape[:-1])

    def patches(self, points_lps_mm: np.ndarray, offsets_mm: np.ndarray) -> torch.Tensor:
        """Values round points (N, 3) at offsets (N or 1, m, 3) LPS mm -> (N, m) float32."""
        return self._values_at(*self._where(points_lps_mm, offsets_mm))

    def patches_inside(self, points_lps_mm: np.ndarray, offsets_mm: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`patches`, and whether each value lies in the image, (N, m) bool, or repeats its border."""
        where = self._where(points_lps_mm, offsets_mm)
        inside = None
        for axis, size in zip(where, self.values.shape, strict=True):  # half a voxel beyond the last centre
            here = (axis >= -0.5) & (axis <= max(size - 1, 1) + 0.5)
            inside = here if inside is None else inside & here
        return self._values_at(*where), inside

    def cubes(self, points_lps_mm: np.ndarray, radius: int, step_mm: float) -> torch.Tensor:
        """Cubes of n = 2 radius + 1 samples along the LPS axes round points (N, 3) -> (N, n, n, n) float32."""
        side = 2 * radius + 1
        if not np.allclose(self.geometry.affine[:3, :3], step_mm * np.eye(3)[:, ::-1], atol=1e-6):
            offsets = cube_mm(radius, step_mm).reshape(1, -1, 3)
            return self.patches(points_lps_mm, offsets).view(-1, side, side, side)
        # All samples of a cube fall between the voxels alike: it is a block of voxels, blended once along each axis.
        index = self.geometry.to_index(points_lps_mm)
        first = np.floor(index).astype(np.int64)
        between = torch.from_numpy((index - first).astype(np.float32))
        last = np.array(self.values.shape) - 1
        z, y, x = np.moveaxis((first[:, None] + np.arange(-radius, radius + 2)[:, None]).clip(0, last), -1, 0)
        rows = torch.from_numpy(z[:, :, None] * self.values.shape[1] + y[:, None]) * self.values.shape[2]
        cube = torch.from_numpy(self.values).reshape(-1)[rows[..., None] + torch.from_numpy(x)[:, None, None]]
        for axis in range(3):
            low, high = (cube.narrow(axis + 1, start, side) for start in (0, 1))
            cube = torch.lerp(low, high, between[:, axis].view(-1, 1, 1, 1))
        return cube

    def _where(self, points_lps_mm: np.ndarray, offsets_mm: np.ndarray) -> list[torch.Tensor]:
        """Points and offsets as voxel indices, (N, m) float32 for each of z, y, x."""
        turn = np.linalg.inv(self.geometry.affine[:3, :3]).astype(np.float32)
        offsets = np.asarray(offsets_mm, dtype=np.float32)
        index = self.geometry.to_index(points_lps_mm).astype(np.float32)
        return [torch.from_numpy(index[:, axis, None] + offsets @ turn[axis]) for axis in range(3)]

    def _values_at(self, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Trilinear values at voxel indices (N, m), which are changed -> (N, m); the border's outside."""
        for axis, size in zip((z, y, x), self.values.shape, strict=True):
            axis.clamp_(0, size - 1)
        if z.shape[1] >= MANY:
            return torch.stack([self._values_of_one(*where) for where in zip(z, y, x, strict=True)])
        scaled = [a * (2 / max(n - 1, 1)) - 1 for a, n in zip((x, y, z), self.values.shape[::-1], strict=True)]
        volume, at = torch.from_numpy(self.values)[None, None], torch.stack(scaled, dim=-1)[None, None]
        return F.grid_sample(volume, at, padding_mode="border", align_corners=True)[0, 0, 0]

    def _values_of_one(self, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The same round one point, (m,): from its part of the image, where two thirds of the work are saved."""
        box = []
        for axis, size in zip((z, y, x), self.values.shape, strict=True):
            low, high = (int(end) for end in torch.aminmax(axis))
            box.append(slice(low, min(high + 2, size)))
            axis.sub_(low)
        return _between_slices(torch.from_numpy(self.values)[tuple(box)].contiguous(), z, y, x)


def _between_slices(part: torch.Tensor, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Trilinear values of a part (z, y, x) at indices within it: twice bilinear, which torch does ten times faster.

    The slices lie below each other as one image; float32 tells the rows of 40 x 40 apart to 0.0001.
    """
    slices, rows, columns = part.shape
    lower = z.floor().clamp_(max=max(slices - 2, 0))
    down = 2 / max(slices * rows - 1, 1)
    at = torch.empty(2, *z.shape, 2)
    at[..., 0] = x.mul_(2 / max(columns - 1, 1)).sub_(1)
    at[0, ..., 1] = y.add_(lower, alpha=rows).mul_(down).sub_(1)
    at[1, ..., 1] = y.add_(rows * down if slices > 1 else 0.0)
    image = part.view(1, 1, slices * rows, columns)
    found = F.grid_sample(image, at.view(1, 2, -1, 2), padding_mode="border", align_corners=True)[0, 0]
    below, above = found.view(2, *z.shape)
    return torch.lerp(below, above, z.sub_(lower))


def cube_mm(radius: int, step_mm: float) -> np.ndarray:
    """Offsets (n, n, n, 3) LPS mm of a cube of n = 2 radius + 1 samples, array order (z, y, x)."""
    ticks = np.arange(-radius, radius + 1) * step_mm
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    return np.stack([x, y, z], axis=-1)


def correlate(
    image_a: Image,
    image_b: Image,
    points_a: np.ndarray,
    points_b: np.ndarray,
    linear: np.ndarray,
    step_mm: float,
    patch_mm: float,
    reach_mm: float,
) -> torch.Tensor:
    """Correlation of patches of a, warped by ``linear``, with b at every shift within ``reach_mm``.

    ``points_a`` and ``points_b`` (N, 3) LPS mm; ``linear`` (N, 3, 3) takes offsets in a to offsets in b;
    ``patch_mm`` is the patch's side. What of a patch lies outside a's field of view is unknown and does not count.
    -> (N, s, s, s), s = 2 round(reach / step) + 1, centred on points_b.
    """
    patch, reach = max(2, round(patch_mm / 2 / step_mm)), max(1, round(reach_mm / step_mm))
    near = cube_mm(patch, step_mm)
    size = 2 * reach + 1
    out = torch.empty(len(points_a), size, size, size)
    for start in range(0, len(points_a), TOGETHER):
        part = slice(start, start + TOGETHER)
        # Several places are compared with one patch.
        both = np.concatenate([points_a[part], linear[part].reshape(-1, 9)], axis=1)
        _, first, of = np.unique(both, axis=0, return_index=True, return_inverse=True)
        warped = near.reshape(1, -1, 3) @ np.linalg.inv(linear[part][first]).transpose(0, 2, 1)
        templates, known = image_a.patches_inside(points_a[part][first], warped)
        templates, known = (x.view(-1, *near.shape[:3]) for x in (templates, known))
        regions = image_b.cubes(points_b[part], patch + reach, step_mm)
        out[part] = _weighted_ncc(templates, regions, known, torch.from_numpy(of.reshape(-1)))
    return out


def _weighted_ncc(
    templates: torch.Tensor, regions: torch.Tensor, known: torch.Tensor, of: torch.Tensor
) -> torch.Tensor:
    """Templates ``of`` (N,) of (U, t, t, t) in regions (N, r, r, r) -> (N, r - t + 1, ...): weighted correlation
    coefficient at every shift. ``known`` (U, t, t, t) bool says which samples of the templates count.
    """
    t, r = templates.shape[-1], regions.shape[-1]
    size = _fft_size(r)
    shape = (size,) * 3
    weight = _window(t) * known
    weight = weight / weight.sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
    mean = (templates * weight).sum((1, 2, 3), keepdim=True)
    centred = templates - mean
    energy = (weight * centred**2).sum((1, 2, 3))[of]
    regions = regions - regions.mean((1, 2, 3), keepdim=True)
    keep = r - t + 1
    spectrum = torch.fft.rfftn(regions, shape)

    cross = _back(spectrum * torch.fft.rfftn(weight * centred, shape).conj()[of], size, keep)
    # Mean and mean square under the weights: axis by axis, but for patches that are known in part.
    band = _band(t, r)
    first, second = (_smoothed(v, band) for v in (regions, regions**2))
    whole = known.flatten(1).all(dim=1)[of]
    if not bool(whole.all()):
        kernel = torch.fft.rfftn(weight, shape).conj()[of][~whole]
        first[~whole] = _back(spectrum[~whole] * kernel, size, keep)
        second[~whole] = _back(torch.fft.rfftn(regions[~whole] ** 2, shape) * kernel, size, keep)
    spread = (second - first**2).clamp_min(0)
    # Flat places (air, one tissue) have no pattern; a floor in squared contrast units keeps them from matching noise.
    floor = 1e-4
    return cross / ((energy[:, None, None, None] + floor) * (spread + floor)).sqrt()


def _smoothed(values: torch.Tensor, band: torch.Tensor) -> torch.Tensor:
    """(N, r, r, r) under ``band`` (s, r) along each axis -> (N, s, s, s); one after the other, so each by itself."""
    s, r = band.shape
    along_z = torch.bmm(band.expand(len(values), s, r), values.reshape(-1, r, r * r))
    along_y = torch.bmm(band.expand(len(values) * s, s, r), along_z.view(-1, r, r))
    return torch.bmm(along_y.view(-1, s * s, r), band.T.expand(len(values), r, s)).view(-1, s, s, s)


def _back(spectrum: torch.Tensor, size: int, keep: int) -> torch.Tensor:
    """The first ``keep`` samples along each axis of the inverse transform of (N, size, size, size // 2 + 1).

    Few are wanted, so two axes are plain products; and torch's own depends, in the last bit, on how many there are.
    """
    n, waves = len(spectrum), _waves(size, keep)
    along_z = torch.bmm(waves.expand(n, keep, size), spectrum.reshape(n, size, -1)).view(n * keep, size, -1)
    along_y = torch.bmm(waves.expand(n * keep, keep, size), along_z).view(n, keep, keep, -1)
    return torch.fft.irfft(along_y, n=size, dim=3)[..., :keep]


@lru_cache(maxsize=8)
def _waves(size: int, keep: int) -> torch.Tensor:
    ticks = torch.arange(size, dtype=torch.float64)
    return (torch.exp(2j * torch.pi / size * ticks[:keep, None] * ticks) / size).to(torch.complex64)


@lru_cache(maxsize=8)
def _band(size: int, length: int) -> torch.Tensor:
    """The Gaussian of :func:`_window` along one axis at every shift, (length - size + 1, length)."""
    line = _line(size)
    out = torch.zeros(length - size + 1, length)
    for row in range(len(out)):
        out[row, row : row + size] = line / line.sum()
    return out


@lru_cache(maxsize=8)
def _window(size: int) -> torch.Tensor:
    """Gaussian weights (size, size, size) that sum to 1; sigma 0.3 of the side."""
    line = _line(size)
    weight = line[:, None, None] * line[None, :, None] * line[None, None, :]
    return weight / weight.sum()


def _line(size: int) -> torch.Tensor:
    return torch.exp(-0.5 * (torch.linspace(-1, 1, size) / 0.6) ** 2)


def _fft_size(n: int) -> int:
    """The next length without prime factors over 5: the circular correlation's valid part needs no padding."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def peaks(
    correlation: torch.Tensor, step_mm: float, expected_mm: np.ndarray | None = None, pull: float | np.ndarray = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Each map's highest place, between the samples -> shifts (N, 3) LPS mm, heights (N,) there.

    ``pull``, one or (N,), is the correlation per square millimetre given up to be near ``expected_mm`` (N, 3).
    Of equals the one nearest the middle: across a single slice nothing says how far to move.
    """
    count, size = correlation.shape[:2]
    middle = (size - 1) / 2
    expected = np.zeros((count, 3)) if expected_mm is None else expected_mm[:, ::-1] / step_mm  # in samples, (z, y, x)
    ticks = np.arange(size) - middle
    pull = np.broadcast_to(pull, count)[:, None] * step_mm**2
    lost = [pull * (ticks - expected[:, axis, None]) ** 2 + TIE * (ticks / middle) ** 2 for axis in range(3)]
    lost = lost[0][:, :, None, None] + lost[1][:, None, :, None] + lost[2][:, None, None, :]
    values = correlation.numpy()
    index, _ = parabolic_peaks(values - lost.astype(np.float32))
    top = np.rint(index).astype(int).clip(0, size - 1)
    return (index - middle)[:, ::-1] * step_mm, values[np.arange(count), *top.T]


def sharpness(correlation: torch.Tensor, reach: int = 2) -> np.ndarray:
    """How far each map falls ``reach`` samples from its peak along the axis on which it falls least -> (N,).

    Small on a ridge: along a vessel or a shaft of bone a patch does not know where it belongs.
    """
    values = correlation.numpy()
    rows = np.arange(len(values))
    top = np.stack(np.unravel_index(values.reshape(len(values), -1).argmax(axis=1), values.shape[1:]), axis=1)
    falls = []
    for axis, size in enumerate(values.shape[1:]):
        sides = []
        for move in (-reach, reach):
            at = top.copy()
            at[:, axis] = (at[:, axis] + move).clip(0, size - 1)
            sides.append(values[rows, *at.T])
        falls.append(values[rows, *top.T] - np.mean(sides, axis=0))
    return np.min(falls, axis=0)
