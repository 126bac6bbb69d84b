"""What the run runs on: precision, wrapping for many devices, compiling, starting from weights.

The student is wrapped, never renamed: checkpoints of one process, of DDP and of FSDP2 hold the same names,
compiled or not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from tapct_core.errors import UserError
from tapct_core.vit import VisionTransformer3D

from ..network.student_teacher import StudentTeacher
from . import distributed
from .config import Config, EngineConfig

SyncContext = Callable[[bool], AbstractContextManager]


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16: CUDA from compute capability 8.0, CPUs with AMX or AVX512-BF16.

    A CPU without either emulates it, 2.1 to 2.4 times slower than float32 (measured, docs/pretraining_cost.md).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of the forward passes, None for float32. Raises UserError where bf16 would be emulated."""
    if precision == "fp32" or (precision == "auto" and not has_fast_bf16(device)):
        return None
    if not has_fast_bf16(device):
        raise UserError("engine.precision=bf16, but this device only emulates it, at half the speed; use auto or fp32")
    return torch.bfloat16


def prepare_process(engine: EngineConfig) -> torch.device:
    """Join the other ranks and set this process's threads and determinism; returns the device."""
    device = distributed.init(engine.device)
    if engine.threads:
        torch.set_num_threads(engine.threads)
    if engine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
    return device


def build(config: Config, device: torch.device) -> StudentTeacher:
    """Student and teacher on ``device``, equal on every rank: from random weights of the seed, or from an encoder."""
    torch.manual_seed(config.seed)
    heads = config.heads
    model = StudentTeacher(
        config.model.vit(),
        heads.head(),
        config.loss,
        heads.head() if heads.separate else None,
        autocast_dtype(config.engine.precision, device),
    )
    if config.model.init_from:
        start_from(model, config)
    model.student.backbone.activation_checkpointing = config.engine.activation_checkpointing
    return model.to(device)


def start_from(model: StudentTeacher, config: Config) -> None:
    """Put an encoder's weights into student and teacher; its position table is fitted to this run's grid.

    Raises UserError where the encoder is of another shape.
    """
    from tapct_core.encoders import load_encoder

    source = load_encoder(config.model.init_from, device="cpu").vit
    state = dict(source.state_dict())
    with torch.no_grad():
        state["pos_embed"] = source.position_table(config.model.grid)
    wanted = model.student.backbone.state_dict()
    wrong = sorted(
        (wanted.keys() ^ state.keys()) | {n for n in wanted.keys() & state.keys() if wanted[n].shape != state[n].shape}
    )
    if wrong:
        raise UserError(
            f"{config.model.init_from} does not have this model's shape "
            f"({wrong[0]} and {len(wrong) - 1} more tensors differ); "
            "set patch_size, embed_dim, depth, num_heads and num_register_tokens under model: to the encoder's"
        )
    for branch in (model.student, model.teacher):
        branch.backbone.load_state_dict(state)


def wrap(model: StudentTeacher, engine: EngineConfig) -> tuple[nn.Module, SyncContext]:
    """(callable student, ``sync(last)``): gradients are reduced over ranks in the last micro-batch of a step only."""
    if engine.compile:
        for backbone in (model.student.backbone, model.teacher.backbone):
            for block in backbone.blocks:  # block by block: one compilation serves all of them
                block.compile(dynamic=False)
    if not distributed.is_distributed():
        return model.student, lambda last: nullcontext()
    if engine.parallel == "fsdp2":
        for branch in (model.student, model.teacher):
            for block in branch.backbone.blocks:
                fully_shard(block)
            # the root, too, goes back to its shards after the forward: no backward of the teacher's does it later
            fully_shard(branch, reshard_after_forward=True)

        def sync_sharded(last: bool) -> AbstractContextManager:
            model.student.set_requires_gradient_sync(last)
            return nullcontext()

        return model.student, sync_sharded
    device = next(model.student.parameters()).device
    wrapped = DistributedDataParallel(
        model.student, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )
    return wrapped, lambda last: nullcontext() if last else wrapped.no_sync()


@torch.no_grad()
def teacher_backbone(model: StudentTeacher) -> VisionTransformer3D:
    """The teacher's network whole, for scoring and showing; sharded weights are gathered (all ranks must call)."""
    backbone = model.teacher.backbone
    if not any(isinstance(p, DTensor) for p in backbone.parameters()):
        return backbone
    whole = {name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in backbone.state_dict().items()}
    copy = VisionTransformer3D(backbone.config).to(next(iter(whole.values())).device)
    copy.load_state_dict(whole)
    return copy.eval().requires_grad_(False)
