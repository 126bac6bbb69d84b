"""AdamW's parameter groups, and what each group's rate is at a step.

DINOv2's rules (arXiv 2304.07193): the rate falls by ``layer_decay`` a block from the heads down to the patches
(as BEiT, arXiv 2106.08254), the patch embedding learns slower still, and no weight decay on what is no matrix:
biases, norms, LayerScale, and the tokens and position table (the last two are ours and timm's, not DINOv2's).
The prototypes can wait at the start of a run (DINO, arXiv 2104.14294), and so can the whole encoder under fresh
heads. Waiting means a rate of 0 and not a gradient of 0: moments then follow the gradients from the first step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

PARTS = ("backbone", "head", "prototypes")


@dataclass(frozen=True)
class GroupKey:
    """What parameters of one group share."""

    part: str
    """One of PARTS."""
    lr_factor: float
    decays: bool

    @property
    def name(self) -> str:
        """Readable and unique, for logs and checkpoints."""
        return f"{self.part} lr x{self.lr_factor:.4g}{'' if self.decays else ' no decay'}"


def parameter_groups(
    student: nn.Module, depth: int, layer_decay: float = 0.9, patch_embed_lr: float = 0.2
) -> list[dict]:
    """Groups for ``torch.optim.AdamW``: ``params``, and beside them ``part``, ``lr_factor``, ``decays`` and ``name``.

    ``student``: a network.student_teacher.Branch, or anything with ``backbone``, ``dino_head``, ``ibot_head`` in
    its parameters' names, wrapped or not. ``depth``: blocks of its encoder.
    """
    groups: dict[GroupKey, list[Tensor]] = {}
    for name, parameter in student.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(_key(name, parameter, depth, layer_decay, patch_embed_lr), []).append(parameter)
    return [
        {"params": params, "part": key.part, "lr_factor": key.lr_factor, "decays": key.decays, "name": key.name}
        for key, params in groups.items()
    ]


def set_rates(
    optimizer: torch.optim.Optimizer,
    lr: float,
    weight_decay: float,
    prototypes_lr: float | None = None,
    head_only: bool = False,
) -> None:
    """Write this step's rate and decay into every group.

    ``prototypes_lr``: 0 while the last layer is frozen; None: as ``lr``. ``head_only``: the encoder's rate is 0.
    """
    for group in optimizer.param_groups:
        rate = prototypes_lr if group["part"] == "prototypes" and prototypes_lr is not None else lr
        group["lr"] = 0.0 if head_only and group["part"] == "backbone" else rate * group["lr_factor"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


def clip_gradients(student: nn.Module, most: float) -> dict[str, Tensor]:
    """Scale the gradients of each part of ``student`` (encoder, each head) so that their 2-norm is at most ``most``.

    Part by part, as DINOv2 does: KoLeo's gradient on the encoder is by far the largest at a small LayerScale, and
    under one joint norm it would scale the heads' down with its own. ``most`` 0 leaves them as they are, and so does
    any norm that is not finite: skipping the step is the caller's decision. Returns each part's norm before, 0-dim,
    and "all", their joint one.
    """
    norms = {}
    for name, part in student.named_children():
        gradients = [p.grad for p in part.parameters() if p.grad is not None]
        if gradients:
            norm = torch.nn.utils.get_total_norm(gradients)
            norms[name] = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # sharded by FSDP2
    joint = (
        torch.linalg.vector_norm(torch.stack(list(norms.values()))) if len(norms) > 1 else next(iter(norms.values()))
    )
    if most > 0 and bool(torch.isfinite(joint)):
        for name, norm in norms.items():
            parameters = [p for p in student.get_submodule(name).parameters() if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return {**norms, "all": joint}


def _key(name: str, parameter: Tensor, depth: int, layer_decay: float, patch_embed_lr: float) -> GroupKey:
    words = [word for word in name.split(".") if word not in ("module", "_orig_mod", "_checkpoint_wrapped_module")]
    # tokens and the position table are tables of vectors, not matrices that mix channels
    decays = parameter.ndim > 1 and not words[-1].endswith(("_token", "_tokens", "pos_embed"))
    if "backbone" not in words:
        return GroupKey("prototypes" if "prototypes" in words else "head", 1.0, decays)
    if "blocks" in words:
        layer = 1 + int(words[words.index("blocks") + 1])
    else:
        layer = depth + 1 if words[words.index("backbone") + 1] == "norm" else 0
    factor = layer_decay ** (depth + 1 - layer)
    return GroupKey("backbone", factor * (patch_embed_lr if "patch_embed" in words else 1.0), decays)
