"""Attention-based multiple-instance learning: one label for a bag of instances, and how much each one counted.

Ilse, Tomczak & Welling 2018, "Attention-based Deep Multiple Instance Learning" (arXiv 1802.04712), equations 7
(attention) to 9 (gated attention). Differences: instances are frozen embeddings, so there is no network under the
attention; a bag's pooled vector goes into a linear layer with one output a class instead of one Bernoulli output;
the linear maps of the attention have biases, as in the authors' published code.

Shape letters: B bags, N instances (padded), C channels, H hidden, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

HIDDEN = 128
"""Width of the attention, the paper's L for its histopathology bags."""


class Judged(NamedTuple):
    """What the network says of a batch of bags."""

    logits: Tensor  # (B, K)
    attention: Tensor  # (B, N), sums to one over a bag, zero where padded


class AttentionMIL(nn.Module):
    """Attention pooling of masked bags and a linear layer on the pooled vector."""

    def __init__(self, channels: int, classes: int, gated: bool = True, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.value = nn.Linear(channels, hidden)  # V of eq. 8
        self.gate = nn.Linear(channels, hidden) if gated else None  # U of eq. 9
        self.weight = nn.Linear(hidden, 1, bias=False)  # w; a bias would cancel in the softmax
        self.classify = nn.Linear(channels, classes)

    def forward(self, bags: Tensor, mask: Tensor) -> Judged:
        """``bags`` (B, N, C) float; ``mask`` (B, N) bool, True for instances, False for padding.

        What stands in padded places does not matter, be it NaN. Raises ValueError for a bag without instances.
        """
        if mask.shape != bags.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f"the mask must be bool {tuple(bags.shape[:2])}, not {mask.dtype} {tuple(mask.shape)}")
        if not bool(mask.any(dim=1).all()):
            raise ValueError("a bag has no instances")
        bags = torch.where(mask[..., None], bags, 0.0)  # (B, N, C)
        hidden = torch.tanh(self.value(bags))  # (B, N, H)
        if self.gate is not None:
            hidden = hidden * torch.sigmoid(self.gate(bags))  # (B, N, H)
        scores = self.weight(hidden).squeeze(-1)  # (B, N)
        attention = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)  # (B, N)
        pooled = (attention[:, None] @ bags).squeeze(1)  # (B, C)
        return Judged(self.classify(pooled), attention)
