"""The teacher's targets over K prototypes, made so that the M x K table is never held where it need not be.

Logits are cosines: rows of the head and prototypes are unit vectors, so ``exp((cosine - 1) / T)`` lies in
(0, 1] and needs no search for a maximum. Both kinds of centring come down to one number a prototype:

* Sinkhorn-Knopp (Cuturi 2013; as in SwAV, arXiv 2006.09882, and DINOv2): alternately give every prototype
  and every row the same total. The last step normalises rows, so the result is a softmax with a bias per
  prototype, and an iteration is one pass that sums columns.
* Softmax with a running centre (DINO, arXiv 2104.14294).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..run.distributed import all_reduce_sum

MIN_TEMPERATURE = 0.025
"""Below it ``exp(-2 / T)`` leaves float32, and rows far from every prototype would lose their targets."""
CHUNK = 1 << 23
"""Logits made at a time: 32 MB in float32."""
KEEP = 1 << 28
"""Teacher logits kept between Sinkhorn's passes where there are no more than this (1 GiB); else made again."""


def product(a: Tensor, b: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """``a @ b`` -> float32; on CUDA the factors may be rounded to ``dtype`` while sums stay in float32."""
    if dtype == torch.float32 or a.device.type != "cuda":
        return a @ b
    return torch.mm(a.to(dtype), b.to(dtype), out_dtype=torch.float32)


def chunks(rows: int, prototypes: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices of rows that make about ``size`` logits each."""
    step = max(1, size // prototypes)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


class SinkhornTargets:
    """Targets (M, K) of unit rows (M, b) against unit prototypes (K, b); all ranks' rows are balanced together.

    ``temperature``: at least MIN_TEMPERATURE (a 0-dim tensor or float). With no row on any rank it holds none.
    """

    def __init__(
        self,
        features: Tensor,
        prototypes: Tensor,
        temperature: Tensor | float,
        iterations: int = 3,
        dtype: torch.dtype = torch.float32,
        keep: int = KEEP,
        chunk: int = CHUNK,
    ) -> None:
        self.features, self.prototypes, self.temperature = features, prototypes, temperature
        self.dtype, self.chunk = dtype, chunk
        self._kept = None
        if iterations and len(features) * len(prototypes) <= keep:
            kept = torch.empty(len(features), len(prototypes), device=features.device)
            for part in chunks(len(features), len(prototypes), chunk):
                kept[part] = self._affinity(part)
            self._kept, self.features, self.prototypes = kept, None, None  # all that is asked later is in the table
        self._rows = len(features)
        self.weight = torch.ones(len(prototypes), device=features.device)
        tiny = torch.finfo(torch.float32).tiny
        for iteration in range(iterations):
            columns = torch.zeros_like(self.weight)
            for part in chunks(len(features), len(prototypes), chunk):
                affinity = self._affinity(part)
                # the first balance is of the raw affinities, later ones of rows that sum to 1
                scale = 1 / (affinity @ self.weight).clamp(min=tiny) if iteration else affinity.new_ones(len(affinity))
                columns += scale @ affinity
            columns = all_reduce_sum(columns.mul_(self.weight))
            self.weight = self.weight / columns.clamp(min=tiny)
            self.weight = self.weight / self.weight.amax()  # a common factor changes nothing; keep it in range

    def __len__(self) -> int:
        return self._rows

    def rows(self, part: slice) -> Tensor:
        """Targets of some rows, (R, K) float32, each summing to 1; the caller may write to them."""
        share = self._affinity(part) * self.weight
        return share.div_(share.sum(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny))

    def _affinity(self, part: slice) -> Tensor:
        """exp((cosine - 1) / T) of some rows, (R, K)."""
        if self._kept is not None:
            return self._kept[part]
        return product(self.features[part], self.prototypes.T, self.dtype).sub_(1).div_(self.temperature).exp_()


class CentredTargets:
    """Targets softmax((cosine - centre) / T) of unit rows (M, b); ``centre`` (K,) is a running mean of the cosines."""

    def __init__(
        self,
        features: Tensor,
        prototypes: Tensor,
        temperature: Tensor | float,
        centre: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.features, self.prototypes, self.temperature, self.centre = features, prototypes, temperature, centre
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, part: slice) -> Tensor:
        """Targets of some rows, (R, K) float32, each summing to 1; the caller may write to them."""
        logits = product(self.features[part], self.prototypes.T, self.dtype)
        return logits.sub_(self.centre).div_(self.temperature).softmax(dim=1)

    def next_centre(self, momentum: float = 0.9) -> Tensor:
        """The centre after this batch: the mean cosine of all ranks' rows, which is that of the mean row."""
        total = all_reduce_sum(torch.cat([self.features.sum(dim=0), self.features.new_tensor([float(len(self))])]))
        if total[-1] == 0:
            return self.centre
        return torch.lerp(self.prototypes @ (total[:-1] / total[-1]), self.centre, momentum)
