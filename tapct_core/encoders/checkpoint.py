"""An encoder on disk: a folder with ``config.json`` and ``model.safetensors``, read strictly and written whole.

The layout is the TAP-CT release's own: tensor names are ``model.`` + DINOv2's names, the shape of the
network follows from the tensors, and ``config.json`` adds what tensors cannot say (heads, the position
table's grid, HU scaling, input plan). Nothing is ever unpickled and no code from a folder is run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..atomic import atomic_folder
from ..disk import writing
from ..errors import UserError
from ..files import open_regular, require_regular
from ..preprocessing import InputSpec
from ..vit import VisionTransformer3D, ViTConfig
from .config import infer_config, written_config
from .hub import CONFIG_FILE, WEIGHTS_FILE
from .input_config import read_config, read_input
from .outputs import LAST, Outputs, read_outputs

Network = TypeVar("Network", bound=nn.Module)

PREFIX = "model."
"""The release wraps its network in an attribute of this name."""

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_VECTOR = 1 << 14
"""Tensors of up to this many numbers are always saved as float32."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Checkpoint(NamedTuple):
    """What a folder holds: the network (eval, frozen, float32), its input and outputs, its hash, the whole config."""

    vit: VisionTransformer3D
    spec: InputSpec
    outputs: Outputs
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
    spec = read_input(config, vit_config.patch_size, vit_config.img_size, folder / CONFIG_FILE)
    outputs = read_outputs(config, vit_config.depth, folder / CONFIG_FILE)
    digest = hash_weights(vit, outputs)
    if config.get("weights_sha256", digest) != digest:
        raise UserError(f"{folder}: {CONFIG_FILE} and {WEIGHTS_FILE} do not belong together; export or copy both again")
    return Checkpoint(freeze(vit), spec, outputs, digest, config)


def save_encoder(
    folder: Path | str,
    vit: VisionTransformer3D,
    spec: InputSpec,
    outputs: Outputs = LAST,
    *,
    dtype: torch.dtype = torch.float16,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write an encoder folder that :func:`load_checkpoint` reads; equal weights give equal bytes.

    ``dtype`` is for the matrices; vectors stay float32, because LayerScale factors and class tokens
    can lie below float16's normal range (6e-5). ``extra`` goes into ``config.json`` beside the shape
    and input keys: name, licence, trained, how it was trained. The folder is written elsewhere
    first and takes its place in one step; other files in an existing folder are kept.
    Raises UserError for a spec or outputs that are not the network's, another dtype, weights that
    are not finite in it, and a disk that is full.
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
    read_outputs(outputs.written(), shape.depth, Path(folder) / CONFIG_FILE)  # refuses what loading would refuse
    config = {
        **written_config(shape, spec),
        **outputs.written(),
        "weights_sha256": _digest({name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}, outputs),
    }
    if clash := sorted(set(config) & set(extra or {})):
        raise UserError(f"extra config keys {', '.join(clash)} are the network's own; leave them out")
    _write_folder(Path(folder), tensors, {**config, **(extra or {})})
    return Path(folder)


def _write_folder(folder: Path, tensors: dict[str, Tensor], config: Mapping[str, Any]) -> None:
    with writing(folder), atomic_folder(folder) as staged:
        # safetensors sorts by dtype and name, so the bytes depend on the weights alone.
        save_file(tensors, staged / WEIGHTS_FILE, metadata={"format": "pt"})
        (staged / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for other in folder.iterdir() if folder.is_dir() else ():
            if other.name in (WEIGHTS_FILE, CONFIG_FILE):
                continue
            if other.is_dir():
                shutil.copytree(other, staged / other.name, symlinks=True)
            else:
                shutil.copy2(other, staged / other.name, follow_symlinks=False)


def freeze(network: Network) -> Network:
    """The network itself, in eval mode and without gradients."""
    return network.eval().requires_grad_(False)


def hash_weights(network: nn.Module, outputs: Outputs = LAST) -> str:
    """SHA-256 over the sorted names, shapes and float32 bytes of all tensors, and over outputs that are not the last.

    Equal for equal weights that say the same.
    """
    return _digest(network.state_dict(), outputs)


def _digest(tensors: Mapping[str, Tensor], outputs: Outputs) -> str:
    digest = hashlib.sha256()
    if outputs != LAST:
        digest.update(json.dumps(outputs.written(), sort_keys=True).encode())
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


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors as float32, without the wrapper's prefix."""
    require_regular(path)
    with open_regular(path) as file:
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
