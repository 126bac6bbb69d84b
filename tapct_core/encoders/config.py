"""``config.json`` of an encoder: what it says together with the tensors, and what we write into it.

Tensors are certain where they speak; the config adds what they cannot say. What neither says is
refused by the name of the missing key, and unknown keys are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import UserError
from ..preprocessing import InputSpec
from ..vit import Grid, ViTConfig
from .hub import CONFIG_FILE
from .input_config import number


def written_config(shape: ViTConfig, spec: InputSpec) -> dict[str, Any]:
    """The keys that describe a network and its input, as JSON values."""
    return {
        "model_type": "tapct",
        "patch_size": list(shape.patch_size),
        "img_size": list(shape.img_size),
        "embed_dim": shape.embed_dim,
        "depth": shape.depth,
        "num_heads": shape.num_heads,
        "num_register_tokens": shape.num_register_tokens,
        "mlp_ratio": shape.mlp_ratio,
        "ffn_layer": shape.ffn_layer,
        "layer_norm_eps": shape.layer_norm_eps,
        "clip_hu": list(spec.clip_hu),
        "mean_hu": spec.mean_hu,
        "std_hu": spec.std_hu,
        "plan": spec.plan,
        "spacing_mm": list(spec.spacing_mm),
    }


def infer_config(config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> ViTConfig:
    """The network's shape from its tensors (names without prefix), with ``config`` for what they cannot say.

    Certain from tensors: width, depth, patch, registers, MLP width and kind; a config value that
    contradicts them is refused. From config alone: ``num_heads``, and the position table's grid (see
    :func:`_table_grid`). Raises UserError naming the key that is missing or wrong.
    """
    kernel, table = _needed(state, "patch_embed.proj.weight", path), _needed(state, "pos_embed", path)
    if kernel.ndim not in (4, 5) or kernel.shape[1] != 1:
        raise UserError(
            f"{path}: patch_embed.proj.weight is {tuple(kernel.shape)}; "
            "a CT encoder has one channel and 2D or 3D patches"
        )
    dim, patch = kernel.shape[0], (1, *kernel.shape[2:])[-3:]
    if table.ndim != 3 or table.shape[1] < 2:
        raise UserError(f"{path}: pos_embed is {tuple(table.shape)}, not (1, 1 + patches, {dim})")
    blocks = {name.split(".")[1] for name in state if re.match(r"blocks\.\d+\.", name)}
    gated = "blocks.0.mlp.w12.weight" in state
    hidden = _needed(state, f"blocks.0.mlp.{'w3' if gated else 'fc1'}.weight", path).shape[-1 if gated else 0]
    certain = {
        "embed_dim": dim,
        "depth": len(blocks),  # a gap shows as missing tensors
        "num_register_tokens": state["register_tokens"].shape[-2] if "register_tokens" in state else 0,
    }
    _check_pair(config, {**certain, "patch_size": list(patch)}, path)
    grid = _table_grid(config.get("img_size"), patch, table.shape[1] - 1, kernel.ndim == 4, path)
    return ViTConfig(
        patch_size=patch,
        img_size=tuple(g * p for g, p in zip(grid, patch, strict=True)),
        num_heads=_heads(config, dim, path),
        mlp_ratio=_mlp_ratio(config.get("mlp_ratio"), dim, hidden, gated),
        ffn_layer="swiglu" if gated else "mlp",
        layer_norm_eps=number(config, "layer_norm_eps", 1e-6, path.parent / CONFIG_FILE),
        **certain,
    )


def _check_pair(config: Mapping[str, Any], certain: Mapping[str, Any], path: Path) -> None:
    """Refuse a config that contradicts its tensors; a patch size of one or two numbers says too little to do so."""
    for key, value in certain.items():
        stated = config.get(key, value)
        if isinstance(value, list) and not (isinstance(stated, list) and len(stated) == len(value)):
            continue
        if stated != value:
            raise UserError(f"{path}: {CONFIG_FILE} says {key} {stated}, the tensors {value}; these files are no pair")


def _heads(config: Mapping[str, Any], dim: int, path: Path) -> int:
    heads = config.get("num_heads")
    if not isinstance(heads, int) or heads < 1 or dim % heads:
        raise UserError(
            f"{path.parent / CONFIG_FILE}: num_heads is {'missing' if heads is None else heads}, and tensors cannot "
            f'tell it; add "num_heads" (DINOv2 has {max(dim // 64, 1)} at width {dim})'
        )
    return heads


def _table_grid(img_size: Any, patch: Grid, count: int, flat: bool, path: Path) -> Grid:
    """Patches (z, y, x) of the learned position table, from its count and ``img_size`` (z, y, x), (y, x) or one side.

    Without ``img_size`` only a 2D network's square table has one meaning: 2352 positions may be
    3 x 28 x 28 or 12 x 14 x 14.
    """
    config = path.parent / CONFIG_FILE
    if img_size is None:
        side = math.isqrt(count)
        if flat and side * side == count:
            return 1, side, side
        raise UserError(
            f"{config}: img_size is missing, and {count} positions fit several grids; "
            'add "img_size" as [z, y, x] voxels'
        )
    sizes = [img_size] * 2 if isinstance(img_size, int) else img_size
    if not isinstance(sizes, list | tuple) or len(sizes) not in (2, 3):
        raise UserError(f"{config}: img_size is {img_size!r}; write it as [z, y, x] voxels")
    if not all(isinstance(n, int) and n > 0 for n in sizes):
        raise UserError(f"{config}: img_size is {img_size!r}; write it as whole numbers of voxels")
    rows, columns = sizes[-2] // patch[1], sizes[-1] // patch[2]
    slabs = sizes[0] // patch[0] if len(sizes) == 3 else count // max(rows * columns, 1)
    whole = all(n % p == 0 for n, p in zip(sizes[::-1], patch[::-1], strict=False))
    if not whole or slabs * rows * columns != count:
        raise UserError(
            f"{path}: pos_embed has {count} patch positions, which img_size {img_size} and patch "
            f"{list(patch)} do not give; these files are no pair"
        )
    return slabs, rows, columns


def _mlp_ratio(stated: Any, dim: int, hidden: int, gated: bool) -> float:
    """The ratio that gives ``hidden`` channels; the stated one where it does."""
    if isinstance(stated, int | float) and ViTConfig.hidden_width(dim, stated, gated) == hidden:
        return float(stated)
    return hidden * 1.5 / dim if gated else hidden / dim


def _needed(state: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in state:
        raise UserError(f"{path} is not a TAP-CT encoder: tensor {name} is missing; use weights of this family")
    return state[name]
