"""Talking to the other ranks, or to nobody: every function here is a no-op when the run is one process.

``torchrun`` sets RANK, WORLD_SIZE and LOCAL_RANK; without them the world is this process alone and no
process group is made, so a laptop needs no launcher and no open port.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


def init(device: str = "auto", timeout_minutes: float = 30.0) -> torch.device:
    """Join the process group if a launcher made one, and return this rank's device.

    ``device``: "auto" (CUDA where there is one), "cuda" or "cpu". CUDA talks over NCCL, with gloo beside it
    for tensors on the CPU (asynchronous checkpoints need that); the CPU talks over gloo. Safe to call twice.
    Raises ValueError where "cuda" is asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, not {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, but PyTorch sees no CUDA device; use device=cpu")
    on_cuda = torch.cuda.is_available() and device != "cpu"
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))
    return chosen


def is_distributed() -> bool:
    """Whether there is a process group with more than one rank."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's number, 0 when alone."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes train together, 1 when alone."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this rank writes logs and prints."""
    return rank() == 0


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over ranks, in place, without gradient; returns the same tensor. Alone: untouched."""
    if is_distributed():
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Mean over ranks, in place, without gradient; returns the same tensor. Alone: untouched."""
    return all_reduce_sum(tensor).div_(world_size()) if is_distributed() else tensor


def all_reduce_max(tensor: Tensor) -> Tensor:
    """Largest over ranks, in place, without gradient; returns the same tensor. Alone: untouched."""
    if is_distributed():
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def all_gather(tensor: Tensor) -> Tensor:
    """Equal-shaped (N, ...) of every rank -> (world * N, ...) in rank order, no gradient. Alone: the tensor itself."""
    if not is_distributed():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_objects(value: object) -> list:
    """A small picklable value of every rank, in rank order, on every rank. Only between ranks of one run."""
    if not is_distributed():
        return [value]
    values: list = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for all ranks."""
    if is_distributed():
        dist.barrier()


def shut_down() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
