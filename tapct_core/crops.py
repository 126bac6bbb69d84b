"""Random resized crops of CT blocks, in batches and on the device that trains.

A crop draws an in-plane area and aspect and keeps the slices (depth is fixed, or scaled on request),
which is how TAP-CT crops (arXiv 2512.00872). Its box has whole voxels, so a fixed depth leaves an in-plane
resize. Where a crop shrinks the image, the triangle kernel by default widens to the new voxel (antialias), exactly as
``preprocessing.resample_hu`` does for inference: an encoder then meets one kind of sharpness.

Two ways to the same numbers, chosen by device: on CPU one ``interpolate`` a crop, which is bound by memory
and beats a batched ``grid_sample`` many times over; elsewhere one batched product with the kernels' matrices,
so that no crop costs a kernel launch of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError
from .geometry import Shape

Range = tuple[float, float]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_AT_ONCE = 1 << 27
"""Voxels of whole slices that the batched way takes at a time: 512 MB in float32."""


def seeded_uniforms(seeds: Sequence[int] | np.ndarray | Tensor, count: int, stream: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1) that hang on each seed alone -> (len(seeds), count) float64.

    A counter through SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195): a sample draws the
    same numbers whatever batch, rank or device it meets. ``stream`` separates uses that share a seed.
    """
    seeds = seeds.cpu().numpy() if isinstance(seeds, Tensor) else np.asarray(seeds)
    with np.errstate(over="ignore"):
        key = _mix(seeds.astype(np.int64).astype(np.uint64) + np.uint64(stream + 1) * np.uint64(0xD1342543DE82EF95))
        counter = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(key[:, None] + counter[None])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class CropSpec:
    """How crops are drawn. Triples are (z, y, x).

    ``size``         voxels of the finished crop.
    ``area``         share of the block's slice that a crop covers, drawn uniformly.
    ``aspect``       extent along y over extent along x, in voxels, drawn log-uniformly.
    ``depth_scale``  slices taken over slices given; (1, 1) keeps every slice as it is.
    ``flip``         chance of a mirror along each axis.
    """

    size: Shape
    area: Range = (0.32, 1.0)
    aspect: Range = (3 / 4, 4 / 3)
    depth_scale: Range = (1.0, 1.0)
    flip: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"a crop needs at least one voxel along each axis, not {self.size}")
        for name, high in (("area", 1.0), ("aspect", np.inf), ("depth_scale", np.inf)):
            low, top = getattr(self, name)
            if not 0 < low <= top <= high:
                raise ValueError(f"{name} must be an ascending range within 0 to {high}, not {(low, top)}")
        if not all(0 <= p <= 1 for p in self.flip):
            raise ValueError(f"flip holds chances from 0 to 1, not {self.flip}")


class Boxes(NamedTuple):
    """Where n crops lie in their blocks: whole voxels, axes (z, y, x)."""

    start: np.ndarray  # (n, 3) int64, first voxel
    extent: np.ndarray  # (n, 3) int64, voxels covered
    flip: np.ndarray  # (n, 3) bool, the crop runs against the block

    def placement(self, size: Shape) -> tuple[np.ndarray, np.ndarray]:
        """Crop index -> block index: voxel i of a crop of ``size`` is centred at ``origin + step * i``.

        Two (n, 3) float64 arrays; ``step`` is negative along a flipped axis.
        """
        step = self.extent / np.array(size)
        near = self.start + 0.5 * step - 0.5
        far = self.start + self.extent - 0.5 * step - 0.5
        return np.where(self.flip, far, near), np.where(self.flip, -step, step)


def sample_boxes(block: Shape, spec: CropSpec, seeds: Sequence[int] | np.ndarray | Tensor, stream: int = 0) -> Boxes:
    """One box a seed inside blocks of ``block`` voxels (z, y, x).

    The drawn area is kept to the voxel's rounding: where the drawn aspect would leave the slice, the aspect
    gives way and not the area. Raises UserError when the block has fewer slices than a crop takes.
    """
    draws = seeded_uniforms(seeds, 9, stream)
    depth = np.rint(spec.size[0] * _between(draws[:, 0], spec.depth_scale)).astype(np.int64).clip(1)
    if int(np.rint(spec.size[0] * spec.depth_scale[1])) > block[0]:
        raise UserError(
            f"crops of up to {spec.size[0] * spec.depth_scale[1]:g} slices do not fit blocks of {block[0]}; "
            "read deeper blocks or lower the crop's depth or depth_scale"
        )
    area = block[1] * block[2] * _between(draws[:, 1], spec.area)
    height = np.sqrt(area * np.exp(_between(draws[:, 2], tuple(np.log(spec.aspect)))))
    height = height.clip(area / block[2], block[1])
    extent = np.stack([depth, np.rint(height), np.rint(area / height)], axis=1).astype(np.int64)
    extent = extent.clip(1, np.array(block))
    start = np.floor(draws[:, 3:6] * (np.array(block) - extent + 1)).astype(np.int64)
    return Boxes(start, extent, draws[:, 6:9] < np.array(spec.flip))


def crop_resize(
    blocks: Tensor, index: Sequence[int] | np.ndarray, boxes: Boxes, size: Shape, antialias: bool = True
) -> Tensor:
    """Cut ``boxes`` out of ``blocks`` (B, D, H, W), any dtype, and resize them -> (n, *size) float32.

    ``index[i]`` is the block of box i. Linear along each axis; with ``antialias`` the kernel widens where the
    crop shrinks, at up to twice the time on CPU. The device of ``blocks`` does the work.
    """
    index = np.asarray(index, dtype=np.int64)
    if len(index) != len(boxes.start):
        raise ValueError(f"{len(index)} block indices for {len(boxes.start)} boxes")
    # autocast would take the products in bf16, whose steps are 8 HU wide at 1000 HU
    with torch.autocast(blocks.device.type, enabled=False):
        if blocks.device.type == "cpu":
            return _crop_each(blocks, index, boxes, size, antialias)
        return _crop_batched(blocks, index, boxes, size, antialias)


def _crop_each(blocks: Tensor, index: np.ndarray, boxes: Boxes, size: Shape, antialias: bool = True) -> Tensor:
    """Crop by crop: read only the box, resize in plane, then the slices if their number changes."""
    out = torch.empty((len(index), *size), dtype=torch.float32)
    for i, (block, start, extent, flip) in enumerate(zip(index, boxes.start, boxes.extent, boxes.flip, strict=True)):
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(start, extent, strict=True))
        crop = blocks[int(block)][box].float()
        if extent[0] != size[0]:
            along_z = _kernel(extent[:1] * 0, extent[:1], size[0], int(extent[0]), crop.device, antialias)[0]
            crop = torch.tensordot(along_z, crop, 1)
        if tuple(extent[1:]) != tuple(size[1:]):
            # widening only matters when shrinking; without it torch's antialiased kernel is twice as slow
            widen = antialias and bool((extent[1:] > np.array(size[1:])).any())
            crop = F.interpolate(crop[None], size[1:], mode="bilinear", align_corners=False, antialias=widen)[0]
        axes = [axis for axis in range(3) if flip[axis]]
        out[i] = crop.flip(axes) if axes else crop
    return out


def _crop_batched(blocks: Tensor, index: np.ndarray, boxes: Boxes, size: Shape, antialias: bool = True) -> Tensor:
    """Many crops at once, as many as ``_AT_ONCE`` allows."""
    step = max(1, _AT_ONCE // (size[0] * blocks.shape[2] * blocks.shape[3]))
    out = torch.empty((len(index), *size), dtype=torch.float32, device=blocks.device)
    for i in range(0, len(index), step):
        part = slice(i, i + step)
        out[part] = _crop_together(blocks, index[part], Boxes(*(a[part] for a in boxes)), size, antialias)
    return out


def _crop_together(blocks: Tensor, index: np.ndarray, boxes: Boxes, size: Shape, antialias: bool) -> Tensor:
    """Slices by index (or matrix), then a product along x and one along y."""
    device, (_, height, width) = blocks.device, blocks.shape[1:]
    which = torch.as_tensor(index, device=device)

    def kernel(axis: int, length: int) -> Tensor:
        start, extent, flip = (a[:, axis] for a in boxes)
        weights = _kernel(start, extent, size[axis], length, device, antialias)
        return torch.where(torch.as_tensor(flip, device=device)[:, None, None], weights.flip(1), weights)

    if (boxes.extent[:, 0] == size[0]).all():
        steps = np.arange(size[0])
        slices = boxes.start[:, :1] + np.where(boxes.flip[:, :1], size[0] - 1 - steps, steps)
        stack = blocks[which[:, None], torch.as_tensor(slices, device=device)].float()  # (n, d, H, W)
    else:
        along_z = kernel(0, blocks.shape[1])
        stack = torch.bmm(along_z, blocks[which].float().flatten(2)).unflatten(2, (height, width))
    stack = torch.bmm(stack.flatten(1, 2), kernel(2, width).transpose(1, 2)).unflatten(1, (size[0], height))
    return torch.matmul(kernel(1, height)[:, None], stack)


def _kernel(
    start: np.ndarray, extent: np.ndarray, size: int, length: int, device: torch.device, antialias: bool
) -> Tensor:
    """Rows of the linear kernel along one axis, widened with ``antialias`` -> (n, size, length) float32.

    Row i weighs the ``length`` voxels of the block for voxel i of the crop; voxels outside the box weigh
    nothing, as if the box had been cut out first.
    """
    start, extent = (torch.as_tensor(a, device=device, dtype=torch.float32)[:, None, None] for a in (start, extent))
    step = extent / size
    out = torch.arange(size, device=device, dtype=torch.float32)[None, :, None]
    voxel = torch.arange(length, device=device, dtype=torch.float32)[None, None]
    centre = start + (out + 0.5) * step - 0.5
    weights = (1 - (voxel - centre).abs() / (step.clamp(min=1) if antialias else 1)).clamp(min=0)
    weights = weights * ((voxel >= start) & (voxel < start + extent))
    return weights / weights.sum(dim=2, keepdim=True)


def _between(uniform: np.ndarray, bounds: Range) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform
