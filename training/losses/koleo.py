"""KoLeo: spread the features of a batch over the sphere (Sablayrolles et al. 2019, arXiv 1806.03198)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..network.projection_heads import unit

_CLOSE = 1e-4
"""Neighbours nearer than this no longer push harder: the plain -log d is infinite for two equal crops."""


def koleo_loss(features: Tensor, group: int | None = None) -> Tensor:
    """(B, C) -> mean over rows of ``-log d``, d the distance to the nearest row of the same group on the sphere.

    ``group``: rows are taken in runs of this many (default: all B), so that a batch in parts gives what the
    whole gives. float32 inside whatever comes in, autocast or not. Fewer than two rows a group have no
    neighbour: 0, tied to the graph. Raises ValueError where B is no whole number of groups.
    """
    group = group or max(1, len(features))
    if len(features) % group:
        raise ValueError(f"{len(features)} crops are not whole groups of {group}")
    if group < 2 or not len(features):
        return features.float().sum() * 0
    with torch.autocast(features.device.type, enabled=False):
        x = unit(features).unflatten(0, (-1, group))  # (G, group, C)
        with torch.no_grad():
            similarity = x @ x.transpose(1, 2)
            similarity.diagonal(dim1=1, dim2=2).fill_(-2)
            nearest = similarity.argmax(dim=2)
        neighbour = x.gather(1, nearest[..., None].expand_as(x))
        squared = (x - neighbour).square().sum(dim=2)
        return -0.5 * torch.log(squared + _CLOSE**2).mean()
