"""A frozen encoder and how it is loaded by name or folder: presets are data, one class serves the whole family."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path

import torch
from torch import nn

from ..errors import UserError
from ..preprocessing import InputSpec
from ..vit import Tokens, VisionTransformer3D, ViTConfig
from . import hub
from .checkpoint import freeze, hash_weights, load_checkpoint
from .hub import CONFIG_FILE, WEIGHTS_FILE
from .installed import call, installed_encoders
from .outputs import LAST, Outputs
from .own_module import OwnModule, checked_hash, copied_to, own_module, with_random_weights
from .presets import OWN_NAMES, PACKAGED, PRESETS, RELEASE_LICENCE, UNTRAINED, XS_DIM, XS_PATCH, packaged_folder

logger = logging.getLogger("tapct_core.encoders")

FILES = f"{CONFIG_FILE} and {WEIGHTS_FILE}"

XS_CONFIG = ViTConfig(patch_size=XS_PATCH, img_size=(16, 64, 64), embed_dim=XS_DIM, depth=6, num_heads=3)
XS_SPEC = InputSpec(patch_size=XS_PATCH, img_size=(16, 64, 64), plan="spacing", spacing_mm=(2.5, 2.0, 2.0))


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen network with all that using it takes: TAP-CT's ViT, or somebody else's module (:meth:`from_module`).

    ``weights_hash`` is SHA-256 over the tensors, equal for equal weights wherever they came from.
    ``origin`` says where they lie; ``trained`` is False for random weights, which are a control.
    ``outputs`` are the blocks whose tokens it gives.
    """

    name: str
    network: VisionTransformer3D | OwnModule
    spec: InputSpec
    weights_hash: str
    licence: str
    origin: str
    trained: bool
    device: torch.device
    outputs: Outputs = LAST

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        spec: InputSpec,
        *,
        name: str,
        licence: str = "not stated",
        weights_sha256: str | None = None,
        trained: bool = True,
        device: torch.device | str = "auto",
    ) -> Encoder:
        """An encoder of any module that maps (B, 1, D, H, W) to one token a patch, (B, C, Z, Y, X).

        ``spec`` says what the module expects: patch and window in voxels, HU clip and scaling, plan and spacing.
        ``name`` stands in every feature map; ``weights_sha256`` keeps maps of different weights apart (by default over
        the printed structure and all tensors). The module itself is left alone: a frozen float32 copy works.
        Raises UserError for a module that does not give a grid of tokens, and for a name that is taken.
        """
        if not name.strip() or any(sep in name for sep in "/\\") or name in OWN_NAMES:
            raise UserError(f"an encoder of your own cannot be called {name!r}; give it a name without / that is free")
        network = own_module(module, spec)
        digest = checked_hash(network, weights_sha256)
        made = cls(name, network, spec, digest, licence, "a module of your own", trained, torch.device("cpu"))
        return made.to(_device(device))

    @property
    def vit(self) -> VisionTransformer3D:
        """The network, where blocks are asked for; raises UserError if it is no vision transformer of this family."""
        if not isinstance(self.network, VisionTransformer3D):
            raise UserError(f"{self.name} is a module of your own and has no blocks to choose; leave the block out")
        return self.network

    @property
    def depth(self) -> int | None:
        """How many blocks there are to choose from; None for a module of somebody else's."""
        return self.network.config.depth if isinstance(self.network, VisionTransformer3D) else None

    @property
    def embed_dim(self) -> int:
        """Length C of a token."""
        if isinstance(self.network, OwnModule):
            return self.network.embed_dim
        return self.network.config.embed_dim * self.outputs.parts

    @torch.inference_mode()
    def encode(self, hu: torch.Tensor, block: int | None = None) -> Tokens:
        """int16 HU (B, D, H, W), whole patches -> float32 Tokens on the encoder's device.

        On CUDA in bf16 autocast with a float32 residual stream: TAP-CT-B overflows to NaN in fp16.
        Elsewhere float32. ``block``: this block's tokens (0-based) instead of ``outputs``.
        """
        voxels = self.spec.normalise(hu.to(self.device, non_blocking=True))[:, None]  # (B, 1, D, H, W)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            if block is not None:
                return self.vit(voxels, block=block)
            if not self.outputs.blocks:
                return self.network(voxels)
            return self.outputs.join([tokens for (tokens,) in self.vit.after_blocks([voxels], self.outputs.blocks)])

    def to(self, device: torch.device | str) -> Encoder:
        """The same encoder on another device: a copy, so this one goes on working; itself where it is there already."""
        device = _device(device)
        return self if device == self.device else replace(self, network=_copied(self.network, device), device=device)


def load_encoder(
    name_or_folder: str | Path | None = None, device: torch.device | str = "auto", offline: bool | None = None
) -> Encoder:
    """A frozen encoder by preset name, hub id of a preset, folder, or name under which an installed package brings it.

    No name: the packaged encoder; a build without one falls back to random weights and logs it in
    plain words. ``device``: "auto" (CUDA if there is one), "cpu" or "cuda[:n]". ``offline`` True
    forbids the network, None follows HF_HUB_OFFLINE. Raises UserError for an unknown name, a device
    that is not there, and whatever is wrong with the weights.
    """
    target = _device(device)
    if name_or_folder is None:
        name_or_folder = PACKAGED
        if not packaged_folder().is_dir():
            logger.warning(
                "no packaged encoder in this build: using %s, random weights, not trained on anything", UNTRAINED
            )
            name_or_folder = UNTRAINED
    name = str(name_or_folder)
    by_repo = {preset.repo_id: key for key, preset in PRESETS.items()}
    name = by_repo.get(name, name)
    if name == UNTRAINED:
        encoder = untrained_encoder(XS_CONFIG, XS_SPEC)
    elif name == PACKAGED:
        if not packaged_folder().is_dir():
            raise UserError(f"this build carries no packaged encoder; use --encoder {UNTRAINED} or --encoder none")
        encoder = _from_folder(packaged_folder(), name=PACKAGED)
    elif name in PRESETS:
        encoder = _from_hub(name, offline)
    elif Path(name).exists() or any(sep in name for sep in "/\\"):
        encoder = _from_folder(Path(name))
    elif name in (installed := installed_encoders()):
        encoder = _from_package(installed[name])
    else:
        known = ", ".join([PACKAGED, UNTRAINED, *PRESETS, *installed])
        raise UserError(f"no encoder and no folder is called {name!r}; choose a folder with {FILES} or one of {known}")
    return encoder.to(target)


def _from_folder(folder: Path, name: str | None = None) -> Encoder:
    checkpoint = load_checkpoint(folder)
    config = checkpoint.config
    return Encoder(
        name=name or str(config.get("name", folder.resolve().name)),
        network=checkpoint.vit,
        spec=checkpoint.spec,
        weights_hash=checkpoint.weights_hash,
        licence=str(config.get("licence", f"not stated in {CONFIG_FILE}; the TAP-CT release is {RELEASE_LICENCE}")),
        origin=str(folder),
        trained=bool(config.get("trained", True)),
        device=torch.device("cpu"),
        outputs=checkpoint.outputs,
    )


def _from_hub(name: str, offline: bool | None) -> Encoder:
    preset = PRESETS[name]
    logger.warning("%s: weights of %s, licence %s", name, preset.repo_id, preset.licence)
    folder, revision = hub.fetch(preset.repo_id, preset.revision, offline=offline)
    checkpoint = load_checkpoint(folder, preset.fallback)
    if checkpoint.vit.config.embed_dim != preset.embed_dim:
        raise UserError(
            f"{folder} is not {name}: its width is {checkpoint.vit.config.embed_dim}, not {preset.embed_dim}"
        )
    return Encoder(
        name=name,
        network=checkpoint.vit,
        spec=checkpoint.spec,
        weights_hash=checkpoint.weights_hash,
        licence=preset.licence,
        origin=f"{preset.repo_id}@{revision}",
        trained=True,
        device=torch.device("cpu"),
        outputs=checkpoint.outputs,
    )


def _from_package(point: EntryPoint) -> Encoder:
    made = call(point)
    if not isinstance(made, Encoder):
        raise UserError(f"encoder {point.name}: {point.value} gave a {type(made).__name__}, not a tapct_core.Encoder")
    return replace(made, name=point.name, origin=f"{point.value} of an installed package")


def untrained_encoder(
    config: ViTConfig, spec: InputSpec, seed: int = 0, name: str = UNTRAINED, outputs: Outputs = LAST
) -> Encoder:
    """Random weights of a given shape, equal for equal seeds: the control for what training brings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = freeze(VisionTransformer3D(config))
    return Encoder(
        name=name,
        network=vit,
        spec=spec,
        weights_hash=hash_weights(vit, outputs),
        licence="none needed (random numbers)",
        origin=f"made on the fly, seed {seed}",
        trained=False,
        device=torch.device("cpu"),
        outputs=outputs,
    )


def untrained_twin(encoder: Encoder, seed: int = 0) -> Encoder:
    """``encoder``'s shape, input, outputs and device with random weights."""
    name = f"{encoder.name} (untrained twin)"
    if isinstance(encoder.network, OwnModule):
        network = with_random_weights(encoder.network, seed)
        origin = f"made on the fly, seed {seed}"
        return replace(
            encoder, name=name, network=network, weights_hash=checked_hash(network, None), origin=origin, trained=False
        )
    twin = untrained_encoder(encoder.vit.config, encoder.spec, seed, name, encoder.outputs)
    return twin.to(encoder.device)


def _copied(vit: VisionTransformer3D | OwnModule, device: torch.device) -> VisionTransformer3D | OwnModule:
    """A frozen copy on ``device``; its old device holds no second copy meanwhile, as it may be full."""
    if isinstance(vit, OwnModule):
        return copied_to(vit, device)
    with torch.device("meta"):
        copy = VisionTransformer3D(vit.config)
    copy.load_state_dict({name: tensor.to(device, copy=True) for name, tensor in vit.state_dict().items()}, assign=True)
    return freeze(copy)


def _device(device: torch.device | str) -> torch.device:
    """ "auto", "cpu" or "cuda[:n]" -> a device that is there; raises UserError otherwise."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = str(device).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UserError(f"device {str(device)!r} is not known; use auto, cpu or cuda")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise UserError(f"there is no device {device} here; use --device cpu, or install a CUDA build of PyTorch")
    return torch.device(str(device))
