"""Dense correspondence: a token of one crop must find its own place in another crop of the same sample.

InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) between two overlapping, differently augmented crops,
in the spirit of dense contrastive learning (Wang et al. 2021, DenseCL, arXiv 2011.09157; Yan et al. 2022,
SAM, arXiv 2012.02383, for CT). Crops know their place in the block, so positives are exact: the other crop's
map, read trilinearly where the token's centre lies. What is trained is cosine similarity between tokens,
which is how matching uses them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapct_core.crops import seeded_uniforms
from tapct_core.geometry import Shape

from ..data.views import Placement
from ..network.projection_heads import unit

_RIM = 0.25
"""How far, in tokens, a positive may lie outside the other map's outermost centres (read at the rim there)."""
_STREAM = 3000


class Correspondences(NamedTuple):
    """P tokens of each of n crops and where they lie in their partner crop of the same sample."""

    query: Tensor  # (n, P) int64, token of the crop, row-major
    positive: Tensor  # (n, P, 3) token index (z, y, x) in the partner's map, fractional
    block: Tensor  # (n, P, 3) voxel index in the block
    valid: Tensor  # (n, P) bool: the partner shows this place, and the query may be used


def find_correspondences(
    placement: Placement, seeds: np.ndarray, grid: Shape, patch: Shape, points: int, hidden: Tensor | None = None
) -> Correspondences:
    """Draw up to ``points`` tokens a crop whose place the partner shows too.

    ``placement`` of 2 B global crops, view by view; the partner of crop i is crop i + B (mod 2 B).
    ``hidden`` (2 B, N) bool: tokens that the student does not see, left out. Drawn by ``seeds`` (B,), without
    repetition; rows with fewer usable tokens are filled up with invalid ones.
    """
    device, count = placement.origin.device, grid[0] * grid[1] * grid[2]
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in grid]
    tokens = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, count, 3)
    size, patch_ = (torch.tensor(t, device=device, dtype=torch.float32) for t in (grid, patch))
    block = placement.to_block((tokens + 0.5) * patch_ - 0.5)
    there = (placement.partner().to_crop(block) + 0.5) / patch_ - 0.5
    usable = ((there >= -_RIM) & (there <= size - 1 + _RIM)).all(dim=-1)
    if hidden is not None:
        usable &= ~hidden
    draws = np.concatenate([seeded_uniforms(seeds, count, _STREAM + view) for view in range(2)])
    order = torch.where(usable, torch.as_tensor(draws, dtype=torch.float32, device=device), 2.0)
    query = order.argsort(dim=1)[:, :points]
    wide = query[..., None].expand(-1, -1, 3)
    return Correspondences(query, there.gather(1, wide), block.gather(1, wide), usable.gather(1, query))


def sample_tokens(maps: Tensor, where: Tensor) -> Tensor:
    """Token maps (n, Z, Y, X, C) read trilinearly at token indices (n, P, 3) as (z, y, x) -> (n, P, C) float32.

    Beyond the outermost centres the rim's value holds.
    """
    size = torch.tensor(maps.shape[1:4], device=where.device, dtype=where.dtype)
    grid = ((2 * where + 1) / size - 1).flip(-1)[:, :, None, None]  # grid_sample wants (x, y, z) in [-1, 1]
    with torch.autocast(maps.device.type, enabled=False):
        values = F.grid_sample(maps.float().movedim(-1, 1), grid, "bilinear", "border", align_corners=False)
    return values[..., 0, 0].transpose(1, 2)


def dense_loss(
    maps: Tensor,
    partner_maps: Tensor,
    places: Correspondences,
    spacing: Tensor,
    guard: float,
    temperature: float = 0.1,
) -> Tensor:
    """Mean InfoNCE over all valid queries of 2 B crops -> 0-dim float32; with none valid 0, tied to the graph.

    ``maps``          (2 B, Z, Y, X, C): the student's tokens, view by view.
    ``partner_maps``  the same shape, *already swapped*: entry i is what crop i looks for itself in. The
                      teacher's for fixed targets, or the student's own.
    ``spacing``       (3,) or (B, 3), mm between the block's voxels, (z, y, x).
    ``guard``         mm: places of the same sample nearer than this to a query are no negatives for it.
    Negatives of a query are the positives of all other queries in the batch, of both views.
    """
    crops, points = places.query.shape
    queries = maps.flatten(1, 3).gather(1, places.query[..., None].expand(-1, -1, maps.shape[-1]))
    queries, positives = unit(queries).flatten(0, 1), unit(sample_tokens(partner_maps, places.positive)).flatten(0, 1)
    valid = places.valid.flatten()
    with torch.autocast(maps.device.type, enabled=False):
        similarity = queries @ positives.T / temperature  # (2BP, 2BP); the diagonal holds the positives
    spacing = spacing.to(places.block).expand(crops // 2, 3).repeat(2, 1)
    mm = (places.block * spacing[:, None]).flatten(0, 1)
    sample = (torch.arange(crops, device=maps.device) % (crops // 2)).repeat_interleave(points)
    apart = torch.cdist(mm, mm, compute_mode="donot_use_mm_for_euclid_dist")  # the other mode rounds small distances
    close = (sample[:, None] == sample[None]) & (apart < guard)
    close.fill_diagonal_(False)
    similarity = similarity.masked_fill(close | ~valid[None], -torch.inf)
    target = torch.arange(len(valid), device=maps.device)
    # an invalid query's own column is shut too: drop its row before the softmax sees it
    if not valid.any():
        return maps.float().sum() * 0
    return F.cross_entropy(similarity[valid], target[valid])
