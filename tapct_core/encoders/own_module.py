"""A network of somebody else's behind the house's Encoder: any module that maps windows to a grid of tokens.

The module sees (B, 1, D, H, W) float32, HU clipped and scaled by the InputSpec, and gives (B, C, Z, Y, X), one token a
patch, as convolutions do. It always sees whole windows: where a scan is smaller than one, air is put behind it and the
tokens over that are taken off again, so position tables and pooling of fixed size work as they stand.
"""

from __future__ import annotations

import copy
import hashlib
import re

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..preprocessing import InputSpec
from ..vit import Tokens
from ..volume import AIR_HU
from .checkpoint import freeze, hash_weights


class OwnModule(nn.Module):
    """``module`` as an Encoder's network. ``embed_dim`` is the length of its tokens."""

    def __init__(self, module: nn.Module, spec: InputSpec, embed_dim: int) -> None:
        super().__init__()
        self.module, self.spec, self.embed_dim = module, spec, embed_dim

    def forward(self, voxels: Tensor) -> Tokens:
        """(B, 1, D, H, W), whole patches, at most a window -> Tokens; the mean token stands for the missing CLS."""
        window, patch = self.spec.img_size, self.spec.patch_size
        grid = tuple(n // p for n, p in zip(voxels.shape[2:], patch, strict=True))
        missing = [w - n for w, n in zip(window, voxels.shape[2:], strict=True)]
        if min(missing) < 0:
            raise UserError(f"a window of {tuple(voxels.shape[2:])} is more than the {window} this module was made for")
        air = float(self.spec.normalise(torch.tensor(AIR_HU, dtype=torch.int16)))
        padding = [n for size in reversed(missing) for n in (0, size)]
        tokens = self.module(nn.functional.pad(voxels, padding, value=air) if any(missing) else voxels)
        tokens = tokens[:, :, : grid[0], : grid[1], : grid[2]].flatten(2).transpose(1, 2).float()
        return Tokens(tokens.mean(dim=1), tokens[:, :0], tokens, grid)


def own_module(module: nn.Module, spec: InputSpec) -> OwnModule:
    """A frozen copy of ``module``, tried on one window. Raises UserError where it does not give a grid of tokens."""
    frozen = freeze(copy.deepcopy(module).to("cpu", torch.float32))
    with torch.inference_mode():
        try:
            found = frozen(torch.zeros(1, 1, *spec.img_size))
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"the module cannot take a window of {(1, 1, *spec.img_size)}: {_line(error)}; "
                "it must map (B, 1, D, H, W) to (B, C, Z, Y, X)"
            ) from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    wanted = spec.window_tokens
    if not isinstance(found, Tensor) or found.ndim != 5 or shape[0] != 1 or shape[2:] != wanted or not shape[1]:
        raise UserError(
            f"the module gives {shape} for a window of {spec.img_size}; with patches of {spec.patch_size} it must give "
            f"(1, C, {', '.join(map(str, wanted))}), one token a patch"
        )
    if not torch.isfinite(found).all():
        raise UserError("the module gives numbers that are not finite for a window of water; check its weights")
    return OwnModule(frozen, spec, shape[1]).eval()


def checked_hash(network: OwnModule, weights_sha256: str | None) -> str:
    """The hash as given, or one over the module's printed structure and all its tensors.

    What ``forward`` does with them shows in neither: after a change there, give a hash, or features stored before it
    are taken for those after it. Raises UserError for what is no SHA-256.
    """
    if weights_sha256 is None:
        return hashlib.sha256(f"{network.module}\n{hash_weights(network.module)}".encode()).hexdigest()
    if not re.fullmatch("[0-9a-f]{64}", weights_sha256):
        raise UserError(f"weights_sha256 is {weights_sha256!r}, not 64 hexadecimal digits; or leave it out")
    return weights_sha256


def copied_to(network: OwnModule, device: torch.device) -> OwnModule:
    """A copy on ``device``; its old device holds no second one meanwhile, as it may be full."""
    memo: dict[int, Tensor] = {}
    for tensor in network.parameters():
        memo[id(tensor)] = nn.Parameter(tensor.detach().to(device, copy=True), requires_grad=False)
    for tensor in network.buffers():
        memo[id(tensor)] = tensor.detach().to(device, copy=True)
    return copy.deepcopy(network, memo)


def with_random_weights(network: OwnModule, seed: int) -> OwnModule:
    """A copy with weights drawn anew as its layers draw them; raises UserError for a layer that cannot."""
    fresh = copy.deepcopy(network)
    drawn: set[int] = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in fresh.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
                drawn |= {id(tensor) for tensor in layer.parameters(recurse=False)}
    left = [name for name, tensor in fresh.module.named_parameters() if id(tensor) not in drawn]
    if left:
        raise UserError(f"{left[0]} has no reset_parameters(), so this network has no twin with random weights")
    return freeze(fresh)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
