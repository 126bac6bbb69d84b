"""The paper's read-out: one linear convolution on frozen tokens, trained with Dice + cross-entropy on full masks.

TAP-CT (arXiv 2512.00872) reports a linear convolution on frozen embeddings; its loss, length and upsampling are not
public. Here: a 1 x 1 x 1 convolution on tokens standardised by each scan's own statistics, scores interpolated
trilinearly to the voxels before the loss (which is the same as interpolating the tokens, the layer being linear), soft
Dice over the classes a batch holds plus cross-entropy, AdamW with weight decay 0.01, a short warm-up and a cosine
schedule. Adam moves every weight by about its rate, so a score by about rate x width a step: the rate is 0.5 / width,
near the 1e-3 of kaiko-ai/eva (decoders on frozen encoders) at TAP-CT-B's 768, and narrow encoders learn as fast.

Every scan is read once: blocks of tokens are drawn from it into a pool of bounded size, half of them round a class that
is not the commonest, and training goes through the pool in random order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe, Recipe
from tapct_core.probe.channels import pooled, raw_columns, statistics
from tapct_core.probe.conv import dice_and_cross_entropy
from tapct_core.probe.model import Standard
from tapct_core.probe.upsample import axis_weights
from tapct_core.volume import LabelMap

STEPS = 1500
BATCH = 4
SCORE_RATE, WEIGHT_DECAY = 0.5, 0.01
HIGHEST_RATE = 0.05
OFFSET_RATE = 0.02
"""Of the classes' constants: tokens have mean 0, so only these can undo that small organs are rare."""
WARM_UP = 0.05
"""Share of the steps over which the rate rises."""
BLOCK_TOKENS = (6, 10, 10)
VOXELS_PER_TOKEN = 3
"""Masks finer than this along an axis are thinned to it: between two tokens the scores are straight lines."""
MOST_BLOCKS = 64
"""Blocks drawn from one scan, less where the pool would not fit."""
POOL_BYTES = 4e9
CURVE_POINTS = 60
UNKNOWN = 255


@dataclass(frozen=True, eq=False)
class Block:
    """Part of one scan: tokens (z, y, x, D) float16, standardised; how they are interpolated; classes of voxels.

    ``along``: for each axis the rows (voxels, tokens) float32; ``truth`` (voxels z, y, x) uint8, places in ``classes``,
    UNKNOWN where tokens that were not embedded (air) have a share: there the prediction is background anyway.
    """

    tokens: np.ndarray
    along: tuple[np.ndarray, np.ndarray, np.ndarray]
    truth: np.ndarray


def fit_linear_conv(
    scans: Iterable[tuple[FeatureMap, LabelMap]],
    count: int,
    classes: tuple[int, ...],
    names: dict[int, str],
    hu_features: str | None = None,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[LinearProbe, list[list[float]]]:
    """The trained head as a LinearProbe, which predicts on any scan's own grid, and its loss curve [[step, loss], ...].

    ``scans`` gives (features, labels) of ``count`` training cases, one at a time. ``classes``: label values, 0 first.
    Deterministic for a seed, on one kind of device. Raises UserError where only one class occurs.
    """
    generator = np.random.default_rng(seed)
    pool: list[Block] = []
    standards: list[Standard] = []
    seen = np.zeros(len(classes))
    first = None
    for features, labels in scans:
        first = first or features
        standard = statistics(features, hu_features)
        index = class_index(labels, classes)
        seen += np.bincount(index.reshape(-1), minlength=len(classes))
        each = _blocks_per_scan(count, len(standard.mean))
        pool += draw_blocks(features, labels, index, standard, hu_features, each, generator)
        standards.append(standard)
    if first is None or not pool or np.count_nonzero(seen) < 2:
        raise UserError("the training cases hold fewer than two classes; check their label maps")
    frequencies = np.log((seen + 1) / (seen + 1).sum())
    weights, constants, curve = _train(pool, frequencies, steps, seed, device)
    probe = LinearProbe(
        classes=classes,
        weights=weights,
        constants=constants,
        standard=pooled(standards),
        recipe=Recipe(head="conv", hu_features=hu_features, seed=seed),
        dim=first.dim,
        provenance={key: value for key, value in first.provenance.items() if key not in ("scan", "key")},
        names=names,
        facts={"scans": count, "steps": steps, "blocks": len(pool), "loss": curve[-1][1]},
    )
    return probe, curve


def class_index(labels: LabelMap, classes: tuple[int, ...]) -> np.ndarray:
    """Each voxel's place in ``classes`` (sorted, all values that occur), uint8."""
    table = np.full(max(int(labels.labels.max()), *classes) + 1, UNKNOWN, np.uint8)
    table[list(classes)] = np.arange(len(classes))
    return table[labels.labels]


def draw_blocks(
    features: FeatureMap,
    labels: LabelMap,
    index: np.ndarray,
    standard: Standard,
    hu_features: str | None,
    count: int,
    generator: np.random.Generator,
) -> list[Block]:
    """``count`` blocks of one scan; every second one lies round a voxel of a class that is not the commonest.

    Classes are drawn with equal chance, so that a small organ is met as often as a large one.
    """
    along = axis_weights(features.geometry, labels.geometry)
    shape = np.array(features.geometry.shape)
    size = np.minimum(BLOCK_TOKENS, shape)
    thin = index[::2, ::2, ::2]
    common = np.bincount(thin.reshape(-1)).argmax()
    rare = [np.flatnonzero(thin == value) for value in np.unique(thin) if value != common]
    blocks = []
    for number in range(count):
        if rare and number % 2 == 0:
            places = rare[generator.integers(len(rare))]
            voxel = 2 * np.array(np.unravel_index(places[generator.integers(len(places))], thin.shape))
            centre = features.geometry.to_index(labels.geometry.to_world(voxel))
            start = np.rint(centre - size / 2 + generator.uniform(-1, 1, 3)).astype(int).clip(0, shape - size)
        else:
            start = generator.integers(0, shape - size + 1)
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))
        rows, voxels = zip(*(_inside(weights, part) for weights, part in zip(along, box, strict=True)), strict=True)
        valid = features.valid[box].astype(np.float32)
        cover = np.einsum("az,by,cx,zyx->abc", *rows, valid, optimize=True)
        truth = np.where(cover > 0.999, index[np.ix_(*voxels)], np.uint8(UNKNOWN))
        if (truth != UNKNOWN).any():
            tokens = standard.apply(raw_columns(features, hu_features, box)).astype(np.float16)
            blocks.append(Block(tokens, rows, truth))
    return blocks


def _inside(weights: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Voxels along one axis whose interpolation needs no token outside the block, thinned, and their rows."""
    inside = np.flatnonzero(weights[:, part].sum(axis=1) > 0.999)
    inside = inside[:: max(1, len(inside) // ((part.stop - part.start) * VOXELS_PER_TOKEN))]
    return np.ascontiguousarray(weights[inside][:, part]), inside


def _train(
    pool: list[Block], constants: np.ndarray, steps: int, seed: int, device: str
) -> tuple[np.ndarray, np.ndarray, list[list[float]]]:
    """Weights (D, K), constants (K,) and the loss curve."""
    order = np.random.default_rng([seed, 1])
    weights = torch.zeros(pool[0].tokens.shape[-1], len(constants), device=device, requires_grad=True)
    offsets = torch.tensor(constants, dtype=torch.float32, device=device, requires_grad=True)
    rate = min(HIGHEST_RATE, SCORE_RATE / len(weights))
    groups = [{"params": [weights], "lr": rate}, {"params": [offsets], "lr": OFFSET_RATE, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: _rate(done / steps))
    queue: list[int] = []
    curve, held = [], []
    for number in range(1, steps + 1):
        scores, truth = [], []
        for _ in range(min(BATCH, len(pool))):
            queue = queue or order.permutation(len(pool)).tolist()
            block = pool[queue.pop()]
            known = torch.from_numpy(block.truth.reshape(-1) != UNKNOWN).to(device)
            scores.append(_scores(block, weights, offsets, device).flatten(1)[:, known])
            truth.append(torch.from_numpy(block.truth.reshape(-1).astype(np.int64)).to(device)[known])
        loss = dice_and_cross_entropy(torch.cat(scores, dim=1), torch.cat(truth))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        held.append(loss.detach())
        if len(held) >= max(1, steps // CURVE_POINTS) or number == steps:
            curve.append([number, float(torch.stack(held).mean())])
            held = []
    return weights.detach().cpu().numpy(), offsets.detach().cpu().numpy(), curve


def _rate(progress: float) -> float:
    """Share of the highest rate after this share of the steps."""
    return min(1.0, (progress + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _scores(block: Block, weights: torch.Tensor, offsets: torch.Tensor, device: str) -> torch.Tensor:
    """Class scores (K, z, y, x) at the block's voxels: the convolution, then one small product an axis."""
    tokens = torch.from_numpy(block.tokens).to(device, torch.float32)
    scores = (tokens @ weights + offsets).movedim(-1, 0)
    for axis, rows in enumerate(block.along, start=1):
        scores = torch.tensordot(torch.from_numpy(rows).to(device), scores, dims=([1], [axis])).movedim(0, axis)
    return scores


def pool_bytes(scans: int, columns: int) -> float:
    """Memory of the pool of blocks, for ``scans`` training cases and tokens of ``columns`` numbers."""
    return float(_blocks_per_scan(scans, columns) * _block_bytes(columns) * scans)


def _blocks_per_scan(scans: int, columns: int) -> int:
    return int(np.clip(POOL_BYTES / (_block_bytes(columns) * max(1, scans)), 4, MOST_BLOCKS))


def _block_bytes(columns: int) -> int:
    return int(np.prod(BLOCK_TOKENS)) * (2 * columns + VOXELS_PER_TOKEN**3)
