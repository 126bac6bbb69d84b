"""Whether a run is learning or failing, from tensors that a step has at hand anyway.

A falling DINO loss proves nothing: it falls in collapse too. These numbers tell the two collapses apart:

* *uniform*: every crop gets the same flat target, the loss stands at ln K, the teacher's entropy at its
  maximum ln K (facebookresearch/dinov2, issue 407: stuck at 8.3178 = ln 4096);
* *one prototype*: every crop gets the same peaked target, the teacher's entropy falls to 0, the loss too
  (the same, issue 272: 8-10 to 0.05 in an epoch).

Entropies are in nats; K is the number of prototypes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


def mean_entropy(probabilities: Tensor) -> Tensor:
    """(N, K) rows that sum to 1 -> mean entropy of a row, nats: ln K is uniform, 0 is one prototype."""
    return torch.special.entr(probabilities.float()).sum(dim=-1).mean()


def marginal_entropy(probabilities: Tensor) -> Tensor:
    """(N, K) -> entropy of the rows' mean, nats: how evenly prototypes share the samples; 0 if one takes all."""
    return torch.special.entr(probabilities.float().mean(dim=0)).sum()


def prototype_use(probabilities: Tensor) -> Tensor:
    """(N, K) -> share of the prototypes that N samples could reach, min(N, K), that are some sample's largest."""
    chosen = probabilities.argmax(dim=-1).unique().numel()
    return torch.tensor(chosen / min(probabilities.shape), device=probabilities.device)


def effective_rank(features: Tensor) -> Tensor:
    """(N, C) -> exp of the entropy of the centred matrix's singular values, from 1 to min(N - 1, C).

    Roy and Vetterli 2007 (EUSIPCO). All rows equal give 0: nothing varies at all. NaN where a value is not finite.
    """
    if not torch.isfinite(features).all():
        return torch.full((), math.nan, device=features.device)
    centred = features.float() - features.float().mean(dim=0)
    values = torch.linalg.svdvals(centred)
    total = values.sum()
    scale = features.float().norm(dim=1).mean()
    if total <= 1e-5 * scale:
        return torch.zeros((), device=features.device)
    return torch.special.entr(values / total).sum().exp()


def nearest_distance(features: Tensor) -> Tensor:
    """(N, C), N >= 2 -> mean distance on the unit sphere to the nearest other row, 0 to 2; NaN for one row."""
    if len(features) < 2:
        return torch.full((), math.nan, device=features.device)
    unit = torch.nn.functional.normalize(features.float(), dim=1, eps=1e-6)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-2)
    return (2 - 2 * similarity.max(dim=1).values).clamp(min=0).sqrt().mean()


@torch.no_grad()
def measure(targets: Tensor | None, features: Tensor) -> dict[str, float]:
    """The health of one step. ``targets`` (N, K): the teacher's, None without DINO; ``features`` (B, C): its CLS."""
    numbers = {"effective_rank": effective_rank(features).item(), "nearest_distance": nearest_distance(features).item()}
    if targets is not None:
        numbers |= {
            "teacher_entropy": mean_entropy(targets).item(),
            "prototype_entropy": marginal_entropy(targets).item(),
            "prototype_use": prototype_use(targets).item(),
        }
    return numbers


@dataclass
class CollapseAlarm:
    """Says in words when a collapse has lasted ``patience`` looks; silent before step ``grace``.

    At the start a loss of ln K is what an untrained network has, hence the grace.
    """

    prototypes: int
    grace: int
    patience: int = 3
    _looks: dict[str, int] = field(default_factory=dict)

    def look(self, step: int, numbers: dict[str, float]) -> list[str]:
        """Alarms for these numbers: :func:`measure`'s and ``dino``, the DINO loss. [] while all is well."""
        if step < self.grace:
            return []
        most = math.log(self.prototypes)
        entropy, loss = numbers.get("teacher_entropy", math.nan), numbers.get("dino", math.nan)
        signs = {
            "uniform": entropy > 0.98 * most and abs(loss - most) < 0.01 * most,
            "one prototype": entropy < 0.02 * most and numbers.get("prototype_entropy", math.nan) < 0.05 * most,
            "one feature": numbers.get("effective_rank", math.nan) < 1.05
            and numbers.get("nearest_distance", math.nan) < 1e-3,
        }
        for sign, seen in signs.items():
            self._looks[sign] = self._looks.get(sign, 0) + 1 if seen else 0
        words = {
            "uniform": f"COLLAPSE (uniform): the DINO loss stands at ln {self.prototypes} = {most:.2f} and the "
            f"teacher's entropy at {entropy:.2f} of {most:.2f}; every crop gets the same flat target. Sharpen the "
            "teacher (loss.entropy_target, or a lower temperature), warm up longer or lower the rate",
            "one prototype": f"COLLAPSE (one prototype): the teacher's entropy fell to {entropy:.3f}; every crop gets "
            "the same prototype. Centre the teacher (Sinkhorn), raise its temperature or lower the rate",
            "one feature": "COLLAPSE (one feature): all crops have the same CLS token; raise the KoLeo weight or lower "
            "the rate",
        }
        return [words[sign] for sign, count in self._looks.items() if count >= self.patience]
