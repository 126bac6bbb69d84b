"""Speed and agreement of `embed` against the model card's sliding-window recipe over the same weights.

    python -m benchmarks.embedding              both sizes, writes docs/results/embedding.md
    python -m benchmarks.embedding --quick      a tiny network and no file, for a look and for tests

The card's recipe is MONAI's SlidingWindowInferer(roi 12x224x224, sw_batch_size 1, overlap 0.75, gaussian),
here through the function that it wraps, around the network's feature map. It is run with explicit softmax
attention, as the release does without xFormers, and with PyTorch's scaled-dot-product kernel. Weights are
random: they decide neither speed nor rounding. The network of the recipe is written here plainly, so that
nothing of ours speeds it up.
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import Tensor

from tapct_core.embedding import embed
from tapct_core.embedding_state import Canvas
from tapct_core.encoders import Encoder, untrained_encoder
from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec
from tapct_core.sliding_windows import plan_windows, token_weights
from tapct_core.vit import VisionTransformer3D, ViTConfig
from tapct_core.volume import CTVolume

from .common import markdown_table, matmul, ratio, take_turns, write_page

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "embedding.md"
SIZES = {"S": ViTConfig(embed_dim=384, num_heads=6), "B": ViTConfig(embed_dim=768, num_heads=12)}
TINY = ViTConfig(patch_size=(4, 8, 8), img_size=(12, 32, 32), embed_dim=24, depth=2, num_heads=3)
TWO_THIRDS = 2 / 3
"""A stride of 4 of 12 slices: whole tokens."""
CARD = 0.75
"""The card's own overlap: a stride of 3 slices, which is not a whole token."""


def recipe_network(vit: VisionTransformer3D, explicit: bool):
    """The network of the recipe, (1, 1, D, H, W) -> (1, C, Z, Y, X), in plain PyTorch operations."""

    def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.eps)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if explicit:
            return torch.softmax(q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1), dim=-1) @ v
        return F.scaled_dot_product_attention(q, k, v)

    def forward(voxels: Tensor) -> Tensor:
        patches = vit.patch_embed.proj(voxels)
        grid = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([vit.cls_token, x], dim=1) + vit.position_table(tuple(grid))
        x = torch.cat([x[:, :1], vit.register_tokens, x[:, 1:]], dim=1)
        for block in vit.blocks:
            y = F.linear(norm(x, block.norm1), block.attn.qkv.weight, block.attn.qkv.bias)
            q, k, v = y.unflatten(-1, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
            y = attend(q, k, v).transpose(1, 2).flatten(2)
            x = x + F.linear(y, block.attn.proj.weight, block.attn.proj.bias) * block.ls1.gamma
            y = F.linear(norm(x, block.norm2), block.mlp.fc1.weight, block.mlp.fc1.bias)
            x = x + F.linear(F.gelu(y), block.mlp.fc2.weight, block.mlp.fc2.bias) * block.ls2.gamma
        return norm(x, vit.norm)[:, 1 + vit.config.num_register_tokens :].transpose(1, 2).unflatten(2, grid)

    return forward


def recipe(encoder: Encoder, volume: CTVolume, overlap: float, explicit: bool, our_weights: bool) -> np.ndarray:
    """MONAI's sliding window over the scan -> tokens (Z, Y, X, C) float32.

    MONAI shrinks its voxel Gaussian to the output by taking one voxel a token, the third of a patch's
    four, so the weights lean towards a window's end. ``our_weights`` gives it the Gaussian at token
    centres instead, each repeated over its patch, from which that choice of voxel takes what we use.
    """
    spec = encoder.spec
    weights = None
    if our_weights:
        weights = torch.from_numpy(np.kron(token_weights(spec.window_tokens), np.ones(spec.patch_size, np.float32)))
    with torch.inference_mode():
        voxels = spec.normalise(torch.from_numpy(volume.hu))[None, None]
        network = recipe_network(encoder.vit, explicit)
        tokens = sliding_window_inference(
            voxels, spec.img_size, 1, network, overlap=overlap, mode="gaussian", roi_weight_map=weights
        )
    return tokens[0].permute(1, 2, 3, 0).numpy()  # (Z, Y, X, C)


def ours_in_float32(encoder: Encoder, volume: CTVolume, overlap: float) -> np.ndarray:
    """What `embed` computes before it rounds to float16 for keeping -> (Z, Y, X, C)."""
    spec = encoder.spec
    grid = tuple(n // p for n, p in zip(volume.hu.shape, spec.patch_size, strict=True))
    starts = plan_windows(grid, spec.window_tokens, overlap)
    canvas = Canvas(grid, encoder.embed_dim, starts, spec.window_tokens, blend=True)
    for i, start in enumerate(starts):
        low = start[0] * spec.patch_size[0]
        tokens = encoder.encode(torch.from_numpy(volume.hu[low : low + spec.img_size[0]].copy())[None])
        canvas.paint(i, tokens.map()[0].numpy(), tokens.cls[0].numpy())
    return canvas.tokens


def phantom(shape: tuple[int, int, int], seed: int = 0) -> CTVolume:
    """Smoothed noise over the range of soft tissue and lung on the network's own grid: nothing is resampled."""
    coarse = np.random.default_rng(seed).normal(-200, 500, [n // 4 for n in shape])
    hu = np.kron(coarse, np.ones((4, 4, 4))).clip(-1000, 800).astype(np.int16)
    return CTVolume(hu, Geometry.from_spacing(shape, (2.0, 1.6, 1.6)))


def trained_like(config: ViTConfig) -> Encoder:
    """Random weights with LayerScale at 0.1, so that every block moves the tokens as in a trained network."""
    spec = InputSpec(patch_size=config.patch_size, img_size=config.img_size, plan="spacing", spacing_mm=(2.0, 1.6, 1.6))
    return untrained_encoder(replace(config, layer_scale_init=0.1), spec)


def gflop(config: ViTConfig) -> float:
    """Matrix products of one window: 24 d^2 N + 4 d N^2 a block (MLP ratio 4) and the patch embedding."""
    n, d = 1 + config.num_register_tokens + int(np.prod(config.grid)), config.embed_dim
    return (config.depth * (24 * d * d * n + 4 * d * n * n) + 2 * d * int(np.prod(config.img_size))) / 1e9


def compare(name: str, config: ViTConfig, turns: int, peak_size: int) -> tuple[list[list], list[list]]:
    """Speed rows and agreement rows of one size."""
    encoder = trained_like(config)
    volume = phantom((config.img_size[0] + 4, *config.img_size[1:]))  # two windows at a stride of 4 slices
    product, product_gflop = matmul(peak_size)
    outputs: dict[str, object] = {}  # the last turn's, for the agreement
    works = {
        "ours": lambda: outputs.update(ours=embed(volume, encoder, overlap=TWO_THIRDS)),
        "explicit": lambda: outputs.update(explicit=recipe(encoder, volume, TWO_THIRDS, True, our_weights=False)),
        "sdpa": lambda: outputs.update(sdpa=recipe(encoder, volume, TWO_THIRDS, False, our_weights=True)),
        "card": lambda: outputs.update(card=recipe(encoder, volume, CARD, True, our_weights=False)),
        "ours at the card's": lambda: embed(volume, encoder, overlap=CARD),
        "matmul": product,
    }
    times = take_turns(works, turns)
    work = 2 * gflop(config)
    share = statistics.median(
        (work / ours) / (product_gflop / peak) for ours, peak in zip(times["ours"], times["matmul"], strict=True)
    )
    speed = [
        [name, "explicit softmax, stride 4 slices (equal windows)", ratio(times["explicit"], times["ours"])],
        [name, "SDPA, stride 4 slices (equal windows)", ratio(times["sdpa"], times["ours"])],
        [name, "the card's own: explicit softmax, overlap 0.75", ratio(times["card"], times["ours at the card's"])],
        [name, "PyTorch's float32 matmul rate (share that embed reaches)", share],
    ]
    exact = ours_in_float32(encoder, volume, TWO_THIRDS)
    fair, spread = outputs["sdpa"], float(outputs["sdpa"].std())
    pairs = {
        "stride 4 slices, same token weights, float32": (exact, fair),
        "the same after keeping as float16": (outputs["ours"].tokens.astype(np.float32), fair),
        "stride 4 slices, MONAI's own sampling of its Gaussian": (exact, outputs["explicit"]),
        "overlap 0.75, whose windows are placed up to 3 slices off": (exact, outputs["card"]),
    }
    agreement = [[name, what, float(np.abs(a - b).max()), spread] for what, (a, b) in pairs.items()]
    return speed, agreement


def _load() -> str:
    """How busy the machine was: on a shared one the ratios scatter."""
    return f"Load average at the end: {os.getloadavg()[0]:.1f}." if hasattr(os, "getloadavg") else ""


def main(arguments: list[str] | None = None) -> int:
    """Runs the comparison and prints it; without --quick also writes the results page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny network, nothing written")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    speed, agreement = [], []
    for name, config in ({"tiny": TINY} if options.quick else SIZES).items():
        faster, closer = compare(name, config, options.turns, 256 if options.quick else 4096)
        speed += faster
        agreement += closer
    tables = [
        f"Speed: the rival's time over ours, median of {options.turns} turns taken alternately; for the matmul rate, "
        f"ours over it. {_load()}",
        markdown_table(["size", "rival", "ratio"], speed),
        "Agreement: largest difference of any token channel. The standard deviation of the tokens gives the scale.",
        markdown_table(["size", "compared with the recipe", "largest difference", "token sd"], agreement),
    ]
    print("\n\n".join(tables))
    if not options.quick:
        write_page(RESULTS, "Embedding against the model card's recipe", "python -m benchmarks.embedding", tables)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
