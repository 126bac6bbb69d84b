"""The projection heads of DINO and iBOT: a small MLP onto the unit sphere, and prototypes on that sphere.

Caron et al. 2021 (arXiv 2104.14294), Zhou et al. 2022 (iBOT, arXiv 2111.07832); sizes as in DINOv2
(arXiv 2304.07193): three layers, 2,048 hidden, 256 out, 65,536 prototypes. Head and prototypes are two steps
here, because logits over all prototypes are made only in chunks, inside the loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

UNIT_EPS = 2e-5
"""Under this length a vector has no direction. F.normalize's own 1e-12 is zero in float16; and a gradient grows by
up to 1 / eps, which must stay under float16's 65,504."""


@dataclass(frozen=True)
class HeadSpec:
    """Sizes of a projection head."""

    prototypes: int = 65536
    hidden: int = 2048
    bottleneck: int = 256
    layers: int = 3

    def __post_init__(self) -> None:
        if min(self.prototypes, self.hidden, self.bottleneck, self.layers) < 1:
            raise ValueError(f"every size of a head is at least 1: {self}")


class ProjectionHead(nn.Module):
    """Features (M, C) -> unit vectors (M, bottleneck) float32, to be compared with :meth:`unit_prototypes`."""

    def __init__(self, dim: int, spec: HeadSpec) -> None:
        super().__init__()
        self.mlp = mlp(dim, spec.hidden, spec.bottleneck, spec.layers)
        self.prototypes = nn.Linear(spec.bottleneck, spec.prototypes, bias=False)
        nn.init.trunc_normal_(self.prototypes.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return unit(self.mlp(x))

    def unit_prototypes(self) -> Tensor:
        """(K, bottleneck) float32 unit rows: DINO's weight norm with the gain held at 1."""
        return unit(self.prototypes.weight)


def mlp(dim: int, hidden: int, out: int, layers: int) -> nn.Sequential:
    """Linear layers with GELU between them, DINOv2's initialisation."""
    sizes = [dim, *[hidden] * (layers - 1), out]
    modules: list[nn.Module] = []
    for i in range(layers):
        linear = nn.Linear(sizes[i], sizes[i + 1])
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.GELU()] if i < layers - 1 else [linear]
    return nn.Sequential(*modules)


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, in float32 whatever comes in; a zero row stays zero and gives no NaN."""
    return F.normalize(x.float(), dim=-1, eps=UNIT_EPS)
