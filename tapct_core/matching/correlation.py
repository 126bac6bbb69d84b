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
        return self._values_at(self._where(points_lps_mm, offsets_mm))

    def patches_inside(self, points_lps_mm: np.ndarray, offsets_mm: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`patches`, and whether each value lies in the image, (N, m) bool, or repeats its border."""
        where = self._where(points_lps_mm, offsets_mm)
        limit = 1 + 1 / np.maximum(np.array(self.values.shape) - 1, 1)  # half a voxel beyond the last centre
        inside = (where.abs() <= torch.from_numpy(limit.astype(np.float32))).all(dim=-1)
        return self._values_at(where), inside

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

    def _where(self, points_lps_mm: np.ndarray, offsets_mm: np.ndarray) -> torch.Tensor:
        """Points and offsets in grid_sample's coordinates, -1 to 1 from first to last voxel, (N, m, 3) (z, y, x)."""
        scale = 2.0 / np.maximum(np.array(self.values.shape) - 1, 1)
        centre = self.geometry.to_index(points_lps_mm) * scale - 1
        turn = (np.linalg.inv(self.geometry.affine[:3, :3]) * scale[:, None]).T
        offsets = torch.from_numpy(np.asarray(offsets_mm, dtype=np.float32)) @ torch.from_numpy(turn.astype(np.float32))
        return torch.from_numpy(centre.astype(np.float32))[:, None] + offsets

    def _values_at(self, where: torch.Tensor) -> torch.Tensor:
        volume = torch.from_numpy(self.values)[None, None]
        return F.grid_sample(volume, where.flip(-1)[None, None], padding_mode="border", align_corners=True)[0, 0, 0]


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
    for start in range(0, len(points_a), 64):
        part = slice(start, start + 64)
        warped = near.reshape(1, -1, 3) @ np.linalg.inv(linear[part]).transpose(0, 2, 1)
        templates, known = (x.view(-1, *near.shape[:3]) for x in image_a.patches_inside(points_a[part], warped))
        regions = image_b.cubes(points_b[part], patch + reach, step_mm)
        out[part] = _weighted_ncc(templates, regions, known)
    return out


def _weighted_ncc(templates: torch.Tensor, regions: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """(N, t, t, t) in (N, r, r, r) -> (N, r - t + 1, ...): weighted correlation coefficient at every shift.

    ``known`` (N, t, t, t) bool says which samples of the templates count.
    """
    t, r = templates.shape[-1], regions.shape[-1]
    size = _fft_size(r)
    weight = _window(t)[None]  # one for all, unless a patch is known in part
    if known is not None and not bool(known.all()):
        weight = weight * known
        weight = weight / weight.sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
    mean = (templates * weight).sum((1, 2, 3), keepdim=True)
    centred = templates - mean
    energy = (weight * centred**2).sum((1, 2, 3))
    regions = regions - regions.mean((1, 2, 3), keepdim=True)
    shape = (size,) * 3
    spectrum = torch.fft.rfftn(regions, shape)
    kernel = torch.fft.rfftn(weight, shape).conj()
    keep = r - t + 1

    def valid(product: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfftn(product, shape)[:, :keep, :keep, :keep]

    cross = valid(spectrum * torch.fft.rfftn(weight * centred, shape).conj())
    first = valid(spectrum * kernel)
    second = valid(torch.fft.rfftn(regions**2, shape) * kernel)
    spread = (second - first**2).clamp_min(0)
    # Flat places (air, one tissue) have no pattern; a floor in squared contrast units keeps them from matching noise.
    floor = 1e-4
    return cross / ((energy[:, None, None, None] + floor) * (spread + floor)).sqrt()


@lru_cache(maxsize=8)
def _window(size: int) -> torch.Tensor:
    """Gaussian weights (size, size, size) that sum to 1; sigma 0.3 of the side."""
    ticks = torch.linspace(-1, 1, size)
    line = torch.exp(-0.5 * (ticks / 0.6) ** 2)
    weight = line[:, None, None] * line[None, :, None] * line[None, None, :]
    return weight / weight.sum()


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
