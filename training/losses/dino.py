"""Cross-entropy between the teacher's targets and the student's softmax over K prototypes, chunk by chunk.

DINO's loss (Caron et al. 2021, arXiv 2104.14294) and the core of iBOT's. A plain form holds several M x K
tables for the backward pass (logits, softmax, targets, their gradients); at M = 2,352 tokens a crop and
K = 65,536 each is 0.6 GB a crop. Here a chunk of rows goes all the way to its gradient before the next one
starts, so memory is one chunk whatever M: only gradients of rows (M, b) and prototypes (K, b) remain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .sinkhorn import CHUNK, chunks, product

Rows = Callable[[slice], Tensor]


def prototype_cross_entropy(
    features: Tensor,
    prototypes: Tensor,
    targets: Rows,
    weights: Tensor,
    temperature: float = 0.1,
    dtype: torch.dtype = torch.float32,
    chunk: int = CHUNK,
) -> Tensor:
    """Weighted sum over rows of ``-sum_k p_k log softmax(cosine / temperature)_k`` -> 0-dim float32.

    ``features``    (M, b) unit rows of the student, float32; gradients flow here.
    ``prototypes``  (K, b) unit rows of the student, float32; and here.
    ``targets``     gives rows of p, (R, K), for a slice of M; they sum to 1 and may be overwritten.
    ``weights``     (M,) factor of each row's term.
    ``dtype``       of the factors in matrix products on CUDA; sums are float32.
    No row gives 0, still tied to the graph, so that every rank has the same gradients to reduce.
    """
    return _PrototypeCrossEntropy.apply(features, prototypes, targets, weights, temperature, dtype, chunk)


class _PrototypeCrossEntropy(torch.autograd.Function):
    """Gradients are made in forward, while the chunk's logits are at hand; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        targets: Rows,
        weights: Tensor,
        temperature: float,
        dtype: torch.dtype,
        chunk: int,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        with torch.autocast(features.device.type, enabled=False):
            features, prototypes = features.detach().float(), prototypes.detach().float()
            loss = features.new_zeros(())
            into_features = torch.zeros_like(features) if wanted else None
            into_prototypes = torch.zeros_like(prototypes) if wanted else None
            for part in chunks(len(features), len(prototypes), chunk):
                target, weight = targets(part), weights[part]
                logits = product(features[part], prototypes.T, dtype).sub_(1).div_(temperature)  # in (-2 / T, 0]
                agreement = torch.linalg.vecdot(target, logits)
                student = logits.exp_()
                total = student.sum(dim=1)
                loss += (weight * (total.log() - agreement)).sum()
                if wanted:
                    scale = weight / temperature
                    gradient = student.mul_((scale / total)[:, None]).sub_(target.mul_(scale[:, None]))  # (R, K)
                    into_features[part] = product(gradient, prototypes, dtype)
                    if dtype == torch.float32 or features.device.type != "cuda":
                        into_prototypes.addmm_(gradient.T, features[part])
                    else:
                        into_prototypes += product(gradient.T, features[part], dtype)
                    del gradient
                del target, logits, student
        # kept outside save_for_backward, so that backward may scale them in place: a copy would be K x b
        ctx.gradients = (into_features, into_prototypes)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (into_features, into_prototypes), ctx.gradients = ctx.gradients, None
        return into_features.mul_(upstream), into_prototypes.mul_(upstream), None, None, None, None, None


def dino_loss(
    features: Tensor,
    prototypes: Tensor,
    targets: Tensor,
    batch: int,
    share: float,
    temperature: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Mean cross-entropy over all pairs of a teacher's global crop and another crop of the same sample.

    ``features``  (V * batch, b): the student's crops, view by view, the two global ones first.
    ``targets``   (2 * batch, K): the teacher's, of the two global crops.
    ``share``     this batch's part of the whole batch (1 without accumulation); the parts' losses add up.
    A local crop's two pairs are one row with the mean of both targets: the loss is linear in the target.
    Raises ValueError where there are fewer than two views.
    """
    views = len(features) // batch
    if views < 2 or len(features) % batch or len(targets) != 2 * batch:
        raise ValueError(f"{len(features)} rows, {len(targets)} targets: not two or more views of {batch} samples")
    first, second = targets.split(batch)
    table = torch.cat([second, first, (first + second) / 2] if views > 2 else [second, first])
    which = torch.arange(len(features), device=features.device)
    which = torch.where(which < 2 * batch, which, 2 * batch + which % batch)
    pairs = torch.ones(len(features), device=features.device)
    pairs[2 * batch :] = 2
    weights = pairs * (share / pairs.sum())
    return prototype_cross_entropy(features, prototypes, lambda part: table[which[part]], weights, temperature, dtype)
