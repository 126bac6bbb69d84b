"""iBOT: the student says of hidden patches what the teacher, who sees them, says (Zhou et al. 2022, arXiv 2111.07832).

Only hidden patches pass the head and the loss, in chunks (losses/dino.py), as DINOv2 does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dino import Rows, prototype_cross_entropy


def hidden_weights(mask: Tensor, crops: int) -> Tensor:
    """Mask (n, N) -> the weight of each hidden patch, (M,): 1 / (hidden in its crop) / ``crops``.

    A crop's patches share one vote, and ``crops`` counts all global crops of the step, masked or not
    (DINOv2's normalisation): so it is the same number on every rank.
    """
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (mask / (count * crops))[mask]


def ibot_loss(
    features: Tensor,
    prototypes: Tensor,
    targets: Rows,
    mask: Tensor,
    crops: int,
    temperature: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Cross-entropy on hidden patches, crop by crop, over ``crops`` global crops.

    ``features``  (M, b): the student's hidden patches, crop by crop in the order of ``mask`` (n, N).
    ``targets``   gives the teacher's targets of a slice of those M rows.
    No hidden patch gives 0.
    """
    return prototype_cross_entropy(features, prototypes, targets, hidden_weights(mask, crops), temperature, dtype)
