"""An encoder on disk: a folder with ``config.json`` and ``model.safetensors``, read strictly and written whole.

The layout is the TAP-CT release's own: tensor names are ``model.`` + DINOv2's names, the shape of the
network follows from the tensors, and ``config.json`` adds what tensors cannot say (heads, the position
table's grid, HU scaling, input plan). Nothing is ever unpickled and no code from a folder is run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import UserError
from .preprocessing import InputSpec
from .vit import Grid, VisionTransformer3D, ViTConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PREFIX = "model."
"""The release wraps its network in an attribute of this name."""

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_VECTOR = 1 << 14
"""Tensors of up to this many numbers are always saved as float32."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Checkpoint(NamedTuple):
    """What a folder holds: the network (eval, frozen, float32), its input, its hash and the whole config."""

    vit: VisionTransformer3D
    spec: InputSpec
    weights_hash: str
    config: dict[str, Any]


def load_checkpoint(folder: Path, fallback: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read an encoder folder.

    ``fallback`` gives config keys that the file may lack (a preset's facts); the file's own win.
    Raises UserError when a file is missing, damaged or pickled, when tensors are missing, extra,
    misshaped, not floating point or not finite, and when the shape of the network is not certain.
    """
    folder = Path(folder)
    weights = find_weights(folder)
    config = read_config(folder / CONFIG_FILE)
    state = _read_tensors(weights)
    vit_config = infer_config({**(fallback or {}), **config}, state, weights)
    state = _normalised(state, vit_config)
    with torch.device("meta"):
        vit = VisionTransformer3D(vit_config)
    _check_keys(state, {name: tuple(tensor.shape) for name, tensor in vit.state_dict().items()}, weights)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{weights}: tensor {name} holds NaN or infinity; fetch or export the file again")
    vit.load_state_dict(state, assign=True)
    spec = _read_spec(config, vit_config, folder / CONFIG_FILE)
    digest = hash_weights(vit)
    if config.get("weights_sha256", digest) != digest:
        raise UserError(f"{folder}: {CONFIG_FILE} and {WEIGHTS_FILE} do not belong together; export or copy both again")
    return Checkpoint(freeze(vit), spec, digest, config)


def save_encoder(
    folder: Path | str,
    vit: VisionTransformer3D,
    spec: InputSpec,
    *,
    dtype: torch.dtype = torch.float16,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write an encoder folder that :func:`load_checkpoint` reads; equal weights give equal bytes.

    ``dtype`` is for the matrices; vectors stay float32, because LayerScale factors and class tokens
    can lie below float16's normal range (6e-5). ``extra`` goes into ``config.json`` beside the shape
    and input keys: name, licence, trained, how it was trained. Both files are written elsewhere
    first, so the folder is never seen half-done; other files in an existing folder are kept.
    Raises UserError for a spec that is not the network's, another dtype, and weights that are not
    finite in it.
    """
    if dtype not in (torch.float16, torch.float32):
        raise UserError(f"weights are saved as float16 or float32, not {dtype}")
    shape = vit.config
    if (spec.patch_size, spec.img_size) != (shape.patch_size, shape.img_size):
        raise UserError(f"the input spec's patch {spec.patch_size} and window {spec.img_size} are not the network's")
    tensors = {}
    for name, tensor in vit.state_dict().items():
        kept = tensor.detach().to("cpu", dtype if tensor.numel() > _VECTOR else torch.float32)
        if not torch.isfinite(kept).all():
            raise UserError(f"tensor {name} is not finite as {kept.dtype}; the run diverged, or save as float32")
        tensors[PREFIX + name] = kept.contiguous()
    config = {
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
        "weights_sha256": _digest({name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}),
    }
    if clash := sorted(set(config) & set(extra or {})):
        raise UserError(f"extra config keys {', '.join(clash)} are the network's own; leave them out")
    _write_folder(Path(folder), tensors, {**config, **(extra or {})})
    return Path(folder)


def _write_folder(folder: Path, tensors: dict[str, Tensor], config: Mapping[str, Any]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        staged = Path(scratch) / "encoder"
        staged.mkdir()
        # safetensors sorts by dtype and name, so the bytes depend on the weights alone.
        save_file(tensors, staged / WEIGHTS_FILE, metadata={"format": "pt"})
        (staged / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if folder.is_dir():  # weights_sha256 tells a reader that comes between these two moves
            for name in (WEIGHTS_FILE, CONFIG_FILE):
                os.replace(staged / name, folder / name)
        else:
            shutil.move(staged, folder)


def freeze(vit: VisionTransformer3D) -> VisionTransformer3D:
    """The network itself, in eval mode and without gradients."""
    return vit.eval().requires_grad_(False)


def hash_weights(vit: VisionTransformer3D) -> str:
    """SHA-256 over the sorted names, shapes and float32 bytes of all tensors: equal for equal weights."""
    return _digest(vit.state_dict())


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(memoryview(tensor.numpy()).cast("B") if tensor.numel() else b"")
    return digest.hexdigest()


def find_weights(folder: Path) -> Path:
    """``model.safetensors`` in ``folder``; raises UserError with what to do when it is not there."""
    if folder.is_file():
        if folder.suffix in _PICKLED:
            raise UserError(_pickled(folder))
        raise UserError(f"{folder} is a file; give the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; give a folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        if pickled := sorted(path for path in folder.iterdir() if path.suffix in _PICKLED):
            raise UserError(_pickled(pickled[0]))
        raise UserError(f"{folder} holds no {WEIGHTS_FILE}; put it there beside {CONFIG_FILE}")
    return weights


def _pickled(path: Path) -> str:
    return f"{path} is a pickle, which can run code when it is opened; get or make a {WEIGHTS_FILE} instead"


def read_config(path: Path) -> dict[str, Any]:
    """A ``config.json`` as a dict; raises UserError when it is missing or no JSON object."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; an encoder is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); fetch or export it again") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object; fetch or export it again")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors as float32, without the wrapper's prefix."""
    with open(path, "rb") as file:
        if file.read(8) == b"version ":
            raise UserError(f"{path} is a Git LFS pointer, not the weights; download the file itself")
    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            prefix = PREFIX if names and all(name.startswith(PREFIX) for name in names) else ""
            for name in names:
                tensor = file.get_tensor(name)
                if tensor.dtype not in _FLOATS:
                    raise UserError(f"{path}: tensor {name} is {tensor.dtype}; only floating-point weights are read")
                state[name[len(prefix) :]] = tensor.to(torch.float32)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error}); fetch or export it again") from None
    return state


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
    numbers = [int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d+\.", name)]
    gated = "blocks.0.mlp.w12.weight" in state
    hidden = _needed(state, f"blocks.0.mlp.{'w3' if gated else 'fc1'}.weight", path).shape[-1 if gated else 0]
    certain = {
        "embed_dim": dim,
        "depth": 1 + max(numbers),
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
        layer_norm_eps=_number(config, "layer_norm_eps", 1e-6, path.parent / CONFIG_FILE),
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


def _normalised(state: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """The state with what a release may leave out: no LayerScale is a factor of one, no registers are none."""
    state = dict(state)
    kernel = state["patch_embed.proj.weight"]
    state["patch_embed.proj.weight"] = kernel.unsqueeze(2) if kernel.ndim == 4 else kernel
    if not any(name.endswith((".ls1.gamma", ".ls2.gamma")) for name in state):
        for index in range(config.depth):
            state |= {f"blocks.{index}.ls{branch}.gamma": torch.ones(config.embed_dim) for branch in (1, 2)}
    if "register_tokens" not in state:
        state["register_tokens"] = torch.empty(1, 0, config.embed_dim)
    return state


def _check_keys(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": sorted(state.keys() - expected.keys()),
        "misshaped": [
            f"{name} {tuple(state[name].shape)} for {shape}"
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != shape
        ],
    }
    said = [
        f"{kind}: {', '.join(n[:6])}{f' and {len(n) - 6} more' if len(n) > 6 else ''}"
        for kind, n in faults.items()
        if n
    ]
    if said:
        raise UserError(f"{path} is not a TAP-CT encoder, tensors {'; '.join(said)}; use weights of this family")


def _needed(state: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in state:
        raise UserError(f"{path} is not a TAP-CT encoder: tensor {name} is missing; use weights of this family")
    return state[name]


def _read_spec(config: Mapping[str, Any], vit: ViTConfig, path: Path) -> InputSpec:
    """InputSpec from the config; keys it lacks take the TAP-CT release's values."""
    default = InputSpec()
    try:
        return InputSpec(
            patch_size=vit.patch_size,
            img_size=vit.img_size,
            clip_hu=_floats(config, "clip_hu", default.clip_hu, path),
            mean_hu=_number(config, "mean_hu", default.mean_hu, path),
            std_hu=_number(config, "std_hu", default.std_hu, path),
            plan=config.get("plan", default.plan),
            spacing_mm=_floats(config, "spacing_mm", default.spacing_mm, path),
        )
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}; correct the file") from None


def _number(config: Mapping[str, Any], key: str, default: float, path: Path) -> float:
    return _floats({key: [config[key]]} if key in config else {}, key, (default,), path)[0]


def _floats(config: Mapping[str, Any], key: str, default: tuple[float, ...], path: Path) -> tuple[float, ...]:
    values = config.get(key, default)
    good = isinstance(values, list | tuple) and len(values) == len(default)
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise UserError(f"{path}: {key} is {values!r}, not {len(default)} finite number(s); correct the file")
    return tuple(float(v) for v in values)
