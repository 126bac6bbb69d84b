"""From blocks of raw HU to what a student and a teacher see: two global crops and some local ones a sample.

Everything runs on the blocks' device and hangs on the sample's seed alone. Each crop keeps its place in
its block, so that a token of one crop can be found again in another (the dense loss needs that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapct_core.crops import CropSpec, Range, crop_resize, sample_boxes, seeded_uniforms
from tapct_core.embedding import AIR_LIMIT_HU
from tapct_core.geometry import Shape
from tapct_core.preprocessing import InputSpec

from .augment import AugmentSpec, augment
from .turn import Angles, draw_turns, size_to_cut, turn

N_GLOBAL = 2


@dataclass(frozen=True)
class ViewSpec:
    """Sizes (z, y, x) in voxels and how crops are drawn; see ``tapct_core.crops.CropSpec`` for the ranges."""

    global_size: Shape
    local_size: Shape
    n_local: int = 8
    global_scale: Range = (0.32, 1.0)
    local_scale: Range = (0.05, 0.32)
    aspect: Range = (3 / 4, 4 / 3)
    depth_scale: Range = (1.0, 1.0)
    flip: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: Angles = (0.0, 0.0, 0.0)
    """Largest turn in degrees about (z, y, x). What is cut out grows with it, and the scales are those of the cut."""
    antialias: bool = True
    """Average what a crop shrinks, as inference does; False is up to twice as fast on CPU."""

    @property
    def global_crop(self) -> CropSpec:
        return self._crop(self.global_size, self.global_scale)

    @property
    def local_crop(self) -> CropSpec:
        return self._crop(self.local_size, self.local_scale)

    def _crop(self, size: Shape, scale: Range) -> CropSpec:
        return CropSpec(size_to_cut(size, self.turn), scale, self.aspect, self.depth_scale, self.flip)


@dataclass(frozen=True)
class Placement:
    """Where crops lie in their blocks: voxel i of a crop is at block voxel ``origin + matrix @ i``.

    ``origin``: (n, 3), ``matrix``: (n, 3, 3), float32, (z, y, x). Its columns are the crop's steps; turned the other
    way round they mirror.
    """

    origin: Tensor
    matrix: Tensor

    def to_block(self, crop_index: Tensor) -> Tensor:
        """Crop voxel indices (n, P, 3) -> block voxel indices (n, P, 3)."""
        return self.origin[:, None] + crop_index @ self.matrix.mT

    def to_crop(self, block_index: Tensor) -> Tensor:
        """Block voxel indices (n, P, 3) -> crop voxel indices (n, P, 3)."""
        return (block_index - self.origin[:, None]) @ torch.linalg.inv(self.matrix).mT

    def partner(self) -> Placement:
        """Of 2 B crops, view by view: each sample's other view in its place."""
        half = len(self.origin) // 2
        return Placement(self.origin.roll(half, 0), self.matrix.roll(half, 0))


@dataclass(frozen=True)
class Views:
    """Normalised crops of B samples. Crops stand view by view: crop ``v * B + b`` is view v of sample b."""

    globals: Tensor  # (2 B, 1, d, h, w) float32
    locals: Tensor  # (n_local B, 1, d', h', w') float32; empty when n_local is 0
    placement: Placement  # of the global crops
    seeds: np.ndarray  # (B,) int64, the samples' seeds
    air: Tensor  # (2 B, N) bool: patches of the global crops that hold nothing but air, before augmentation

    @property
    def batch(self) -> int:
        """Samples B."""
        return len(self.globals) // N_GLOBAL

    @property
    def n_local(self) -> int:
        """Local crops a sample."""
        return len(self.locals) // self.batch


def make_views(
    blocks: Tensor,
    seeds: Sequence[int] | np.ndarray | Tensor,
    spec: ViewSpec,
    augment_spec: AugmentSpec,
    input_spec: InputSpec,
) -> Views:
    """Blocks (B, D, H, W) of int16 HU and one seed a sample -> Views on the same device.

    Raises TypeError for blocks that are not int16 (perhaps normalised already), UserError for blocks
    shallower than the crops.
    """
    if blocks.dtype != torch.int16:
        raise TypeError(f"blocks hold int16 HU, not {blocks.dtype}")
    seeds = seeds.cpu().numpy() if isinstance(seeds, Tensor) else np.asarray(seeds)
    if len(seeds) != len(blocks):
        raise ValueError(f"{len(seeds)} seeds for {len(blocks)} blocks")
    local_views = range(N_GLOBAL, N_GLOBAL + spec.n_local)
    hu, placement, own = _crops(blocks, seeds, spec, spec.global_crop, spec.global_size, range(N_GLOBAL))
    air = F.avg_pool3d(hu[:, None], input_spec.patch_size).flatten(1) <= AIR_LIMIT_HU
    crops = _finish(hu, own, augment_spec, input_spec)
    hu, _, own = _crops(blocks, seeds, spec, spec.local_crop, spec.local_size, local_views)
    local = _finish(hu, own, augment_spec, input_spec)
    return Views(crops, local, placement, seeds.astype(np.int64), air)


def _crops(
    blocks: Tensor, seeds: np.ndarray, spec: ViewSpec, cut: CropSpec, size: Shape, views: range
) -> tuple[Tensor, Placement, np.ndarray]:
    """HU (n, d, h, w) of some views of all samples, view by view; where they lie; a seed for each crop."""
    # every crop gets a seed of its own, drawn from its sample's
    own = [(seeded_uniforms(seeds, 1, view)[:, 0] * 2.0**53).astype(np.int64) for view in views]
    own = np.concatenate([np.zeros(0, np.int64), *own])
    boxes = sample_boxes(tuple(blocks.shape[1:]), cut, own)
    hu = crop_resize(blocks, np.tile(np.arange(len(blocks)), len(views)), boxes, cut.size, spec.antialias)
    origin, step = boxes.placement(cut.size)
    matrix = step[:, :, None] * np.eye(3)
    if any(spec.turn):
        turns = draw_turns(own, spec.turn)
        hu = turn(hu, turns, size)
        matrix = matrix @ turns
        middle, own_middle = (np.array(cut.size) - 1) / 2, (np.array(size) - 1) / 2
        origin = origin + step * middle - matrix @ own_middle
    place = (torch.as_tensor(a, dtype=torch.float32, device=blocks.device) for a in (origin, matrix))
    return hu, Placement(*place), own


def _finish(hu: Tensor, seeds: np.ndarray, augment_spec: AugmentSpec, input_spec: InputSpec) -> Tensor:
    """Augment and normalise: (n, d, h, w) HU -> (n, 1, d, h, w)."""
    hu = augment(hu, seeds, augment_spec)
    # whole HU again, as an encoder meets them: the one normalisation of this road takes int16
    return input_spec.normalise(hu.clamp_(*input_spec.clip_hu).round_().to(torch.int16))[:, None]
