"""TAP-CT's own read-out: one linear convolution on frozen tokens, trained by gradient on full masks.

TAP-CT (arXiv 2512.00872) reports a linear convolution on frozen embeddings; its loss, length and upsampling are not
public. Here: a 1 x 1 x 1 convolution on standardised tokens, scores interpolated trilinearly to the voxels before the
loss (which is the same as interpolating the tokens, the layer being linear), soft Dice over the classes a batch holds
plus cross-entropy, AdamW with weight decay 0.01, a short warm-up and a cosine schedule. Adam moves every weight by
about its rate, so a score by about rate x width a step: the rate is 0.5 / width, near the 1e-3 of kaiko-ai/eva
(decoders on frozen encoders) at TAP-CT-B's 768, and narrow encoders learn as fast.

Every scan is read once: blocks of tokens are drawn from it into a pool of bounded size, half of them round a class that
is not the commonest (conv_blocks.py), and training goes through the pool in random order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..progress import Cancel, Progress, step
from ..volume import LabelMap
from .channels import standard_of
from .classes import check_classes
from .conv_blocks import UNKNOWN, Block, blocks_per_scan, class_index, draw_blocks
from .model import AnyProbe, Pairs, Standard

if TYPE_CHECKING:
    import torch

STEPS = 400
"""Of a probe: few scans, and somebody waits."""
BATCH = 4
SCORE_RATE, WEIGHT_DECAY = 0.5, 0.01
HIGHEST_RATE = 0.05
OFFSET_RATE = 0.02
"""Of the classes' constants: tokens have mean 0, so only these can undo that small organs are rare."""
WARM_UP = 0.05
"""Share of the steps over which the rate rises."""
CURVE_POINTS = 60


@dataclass(frozen=True, eq=False)
class Convolution:
    """What was learnt: weights (D, K) and constants (K,) on columns standardised by each scan's ``standards``, from how
    many ``blocks``, and the loss ``curve`` [[step, loss], ...].
    """

    weights: np.ndarray
    constants: np.ndarray
    standards: list[Standard]
    blocks: int
    curve: list[list[float]]


def fit_conv(probe: AnyProbe, pairs: Pairs, progress: Progress | None, cancel: Cancel | None) -> AnyProbe:
    """``probe`` with weights trained on the masks of ``pairs``. Deterministic for the recipe's seed.

    Raises UserError for voxel features (there is no convolution over two grids) and for fewer than two classes.
    """
    if probe.recipe.hu_features == "voxel":
        raise UserError("the conv head sees one grid, the tokens'; use HU features per token or none")
    classes = tuple(sorted({int(v) for _, labels in pairs for v in np.unique(labels.labels)}))
    check_classes(classes, probe.names)
    learnt = train_conv(
        pairs, len(pairs), classes, probe.recipe.hu_features, lambda features: standard_of(probe, features),
        steps=STEPS, seed=probe.recipe.seed, progress=progress, cancel=cancel,
    )  # fmt: skip
    return replace(
        probe,
        classes=classes,
        weights=learnt.weights,
        constants=learnt.constants,
        facts={**probe.facts, "steps": STEPS, "blocks": learnt.blocks, "loss": learnt.curve[-1][1]},
    )


def train_conv(
    scans: Iterable[tuple[FeatureMap, LabelMap]],
    count: int,
    classes: tuple[int, ...],
    hu_features: str | None,
    standard_of: Callable[[FeatureMap], Standard],
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Convolution:
    """The convolution, learnt from ``count`` scans of which one at a time is held.

    ``classes``: label values, sorted; ``standard_of`` gives the statistics by which a scan's columns are standardised.
    Deterministic for a seed, on one kind of device. Raises UserError where only one class occurs.
    """
    generator = np.random.default_rng(seed)
    pool: list[Block] = []
    standards: list[Standard] = []
    seen = np.zeros(len(classes))
    for features, labels in scans:
        standard = standard_of(features)
        index = class_index(labels, classes)
        seen += np.bincount(index.reshape(-1), minlength=len(classes))
        each = blocks_per_scan(count, len(standard.mean))
        pool += draw_blocks(features, labels, index, standard, hu_features, each, generator)
        standards.append(standard)
    if not pool or np.count_nonzero(seen) < 2:
        raise UserError("the training cases hold fewer than two classes; check their label maps")
    frequencies = np.log((seen + 1) / (seen + 1).sum())
    weights, constants, curve = _train(pool, frequencies, steps, seed, device, progress, cancel)
    return Convolution(weights, constants, standards, len(pool), curve)


def dice_and_cross_entropy(scores, truth):
    """Cross-entropy plus soft Dice loss, the mean over classes that the block holds.

    ``scores`` (K, ...) float tensor, ``truth`` (...) int64 class indices.
    """
    import torch

    entropy = torch.nn.functional.cross_entropy(scores[None], truth[None])
    p = scores.softmax(dim=0).flatten(1)
    target = torch.nn.functional.one_hot(truth.flatten(), len(scores)).T.to(p.dtype)
    present = target.sum(dim=1) > 0
    dice = 2 * (p * target).sum(dim=1) / (p + target).sum(dim=1).clamp_min(1e-6)
    return entropy + 1 - dice[present].mean()


def _train(
    pool: list[Block],
    constants: np.ndarray,
    steps: int,
    seed: int,
    device: str,
    progress: Progress | None,
    cancel: Cancel | None,
) -> tuple[np.ndarray, np.ndarray, list[list[float]]]:
    """Weights (D, K), constants (K,) and the loss curve."""
    import torch

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
        step(progress, cancel, number - 1, steps)
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
    step(progress, cancel, steps, steps)
    return weights.detach().cpu().numpy(), offsets.detach().cpu().numpy(), curve


def _rate(progress: float) -> float:
    """Share of the highest rate after this share of the steps."""
    return min(1.0, (progress + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _scores(block: Block, weights: torch.Tensor, offsets: torch.Tensor, device: str) -> torch.Tensor:
    """Class scores (K, z, y, x) at the block's voxels: the convolution, then one small product an axis."""
    import torch

    tokens = torch.from_numpy(block.tokens).to(device, torch.float32)
    scores = (tokens @ weights + offsets).movedim(-1, 0)
    for axis, rows in enumerate(block.along, start=1):
        scores = torch.tensordot(torch.from_numpy(rows).to(device), scores, dims=([1], [axis])).movedim(0, axis)
    return scores
