"""Which patches the student does not see: 3D blocks, an exact count per sample, on the device at once.

DINOv2 masks rectangles drawn one by one until enough patches are covered (arXiv 2304.07193, after BEiT,
arXiv 2106.08254). Here every sample draws its blocks together; a patch is masked in the order of the first
block that holds it, and the last block is taken from its centre outwards until the count is met. Overlaps
count once, and no Python loop runs over patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tapct_core.crops import Range, seeded_uniforms

Grid = tuple[int, int, int]

FLAT = 4
"""A grid of up to so many layers is masked through all of them: a hidden patch of a crop of few, thick slices could be
read off the one above it."""
_BLOCKS = 32
"""Blocks drawn a sample: enough to cover three quarters of a grid with hardly a patch left to chance."""
_STREAM = 2000


def block_masks(
    seeds: Sequence[int] | np.ndarray | Tensor,
    grid: Grid,
    ratio_range: Range = (0.1, 0.5),
    probability: float = 0.5,
    block_share: Range = (0.02, 0.25),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Masks for one crop a seed -> bool (len(seeds), N), rows in z, y, x order, True = hidden.

    A crop is masked with ``probability``; then exactly ``round(ratio * N)`` of its N patches are hidden,
    the ratio drawn uniformly from ``ratio_range``. Blocks cover ``block_share`` of the grid, log-uniformly,
    and are up to twice longer along one axis than the grid's own shape. Of a grid of up to FLAT layers whole columns
    are hidden, but for one that the exact count may cut.
    """
    if not 0 <= ratio_range[0] <= ratio_range[1] <= 1 or not 0 <= probability <= 1:
        raise ValueError(f"ratios and probability lie between 0 and 1, not {ratio_range} and {probability}")
    if not 0 < block_share[0] <= block_share[1] <= 1:
        raise ValueError(f"block_share must be an ascending range from above 0 to 1, not {block_share}")
    count = grid[0] * grid[1] * grid[2]
    draws = torch.as_tensor(seeded_uniforms(seeds, 2 + 7 * _BLOCKS + count, _STREAM), dtype=torch.float32)
    ratio = ratio_range[0] + (ratio_range[1] - ratio_range[0]) * draws[:, 0]
    hidden = torch.where(draws[:, 1] < probability, (ratio * count).round(), 0.0).to(device)
    draws = draws.to(device)
    order = _order_of_first_block(draws[:, 2 : 2 + 7 * _BLOCKS].unflatten(1, (_BLOCKS, 7)), grid, block_share)
    # patches in no block come last, in random order
    order = torch.where(order.isinf(), _BLOCKS + draws[:, -count:], order)
    rank = _by_column(order, grid) if grid[0] <= FLAT else order.argsort(dim=1).argsort(dim=1)
    return rank < hidden[:, None]


def _by_column(order: Tensor, grid: Grid) -> Tensor:
    """The rank of every patch (n, N) where whole columns follow each other, in the order of their first layer."""
    column = order.unflatten(1, grid)[:, 0].flatten(1).argsort(dim=1, stable=True).argsort(dim=1)
    layer = torch.arange(grid[0], device=order.device)[:, None]
    return (column[:, None] * grid[0] + layer).flatten(1)


def _order_of_first_block(draws: Tensor, grid: Grid, block_share: Range) -> Tensor:
    """(n, K, 7) uniforms -> (n, N): the first block over each patch, plus how far from its centre (0 to 1)."""
    size = torch.tensor(grid, dtype=torch.float32, device=draws.device)
    low, high = (float(np.log(share)) for share in block_share)
    flat = grid[0] <= FLAT
    # a block takes more of the depth than of the plane, or all of it
    thickness = torch.tensor((0.0, 0.5, 0.5) if flat else (0.2, 0.4, 0.4), device=draws.device)
    share = torch.exp(low + (high - low) * draws[..., :1]) ** thickness
    stretch = torch.exp2(2 * draws[..., 1:4] - 1)
    free = stretch[..., 1:] if flat else stretch
    free /= free.prod(dim=-1, keepdim=True) ** (1 / free.shape[-1])  # in place: the block keeps its share
    if flat:
        stretch[..., 0] = 1.0
    extent = (size * share * stretch).round().clamp(min=1).minimum(size)  # (n, K, 3)
    # blocks may hang over the rim, so that every patch lies in equally many of them
    start = (draws[..., 4:7] * (size + extent - 1)).floor() - (extent - 1)
    away = []
    for axis in range(3):
        place = torch.arange(grid[axis], device=draws.device) + 0.5
        centre, half = start[..., axis, None] + extent[..., axis, None] / 2, extent[..., axis, None] / 2
        away.append((place - centre).abs() / half)  # under 1 inside, (n, K, size of the axis)
    z, y, x = away
    if flat:
        z = torch.zeros_like(z)
    distance = z[..., :, None, None].maximum(y[..., None, :, None]).maximum(x[..., None, None, :]).flatten(2)
    number = torch.arange(draws.shape[1], device=draws.device)[None, :, None]
    return torch.where(distance < 1, number + distance, torch.inf).amin(dim=1)
