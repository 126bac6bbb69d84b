"""The teacher: a running average of the student's weights (Tarvainen and Valpola 2017, arXiv 1703.01780)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def update_average(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """``teacher = momentum * teacher + (1 - momentum) * student``, parameter by parameter, in a few kernels.

    To be called after an optimiser step, never per micro-batch. Sharded parameters (FSDP2) are averaged
    shard by shard, without talking to other ranks. Raises ValueError where the two differ in shape.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum lies between 0 and 1, not {momentum}")
    own = [_local(p) for p in teacher.parameters()]
    new = [_local(p) for p in student.parameters()]
    if [p.shape for p in own] != [p.shape for p in new]:
        raise ValueError("teacher and student are not the same network")
    torch._foreach_lerp_(own, [p.to(q.dtype) for p, q in zip(new, own, strict=True)], 1 - momentum)


def _local(parameter: Tensor) -> Tensor:
    parameter = parameter.detach()
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter
