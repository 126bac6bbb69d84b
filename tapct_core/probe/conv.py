"""TAP-CT's own read-out, for comparison: one linear convolution on the tokens, trained by gradient on full masks.

The paper (arXiv 2512.00872) reports a linear convolution on frozen tokens; its loss and schedule are not public.
Dice + cross-entropy by AdamW with weight decay 0.01 are eva's choice for the same task (github.com/kaiko-ai/eva). Its
rate of 1e-3 is for many thousand steps; in these few, 1e-2 gave much the better Dice on a dev patient. Scores are
interpolated to the voxels of the masks before the loss, as when predicting.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..progress import Cancel, Progress, step
from ..volume import LabelMap
from .channels import raw_columns, standard_of
from .classes import check_classes, log_frequencies
from .model import AnyProbe, Pairs
from .upsample import axis_weights, used_span

STEPS = 400
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 0.01
BLOCK_TOKENS = (6, 10, 10)
"""Tokens (z, y, x) of a training block; two are drawn a step."""
BLOCKS = 2
VOXELS_PER_TOKEN = 3
"""Masks finer than this are thinned to it along each axis: between two tokens the scores are straight lines."""


def fit_conv(probe: AnyProbe, pairs: Pairs, progress: Progress | None, cancel: Cancel | None) -> AnyProbe:
    """``probe`` with weights trained on the masks of ``pairs``. Deterministic for the recipe's seed.

    Raises UserError for voxel features (there is no convolution over two grids) and for fewer than two classes.
    """
    import torch

    if probe.recipe.hu_features == "voxel":
        raise UserError("the conv head sees one grid, the tokens'; use HU features per token or none")
    classes = tuple(sorted({int(v) for _, labels in pairs for v in np.unique(labels.labels)}))
    check_classes(classes, probe.names)
    generator = np.random.default_rng(probe.recipe.seed)
    scans = [_Scan(features, labels, classes) for features, labels in pairs]
    standards = [standard_of(probe, features) for features, _ in pairs]
    columns = len(probe.standard.mean)
    weights = torch.zeros(columns, len(classes), requires_grad=True)
    constants = torch.tensor(log_frequencies(pairs, classes), dtype=torch.float32, requires_grad=True)
    optimiser = torch.optim.AdamW([weights, constants], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for number in range(STEPS):
        step(progress, cancel, number, STEPS)
        loss = 0.0
        for _ in range(BLOCKS):
            which = int(generator.integers(len(scans)))
            x, along, truth = scans[which].block(generator, probe.recipe.hu_features)
            x = torch.from_numpy(standards[which].apply(x))
            scores = torch.einsum("zyxc,ck->kzyx", x, weights) + constants[:, None, None, None]
            for axis, rows in enumerate(along, start=1):
                scores = torch.tensordot(torch.from_numpy(rows), scores, dims=([1], [axis])).movedim(0, axis)
            loss = loss + dice_and_cross_entropy(scores, torch.from_numpy(truth)) / BLOCKS
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    step(progress, cancel, STEPS, STEPS)
    return replace(
        probe,
        classes=classes,
        weights=weights.detach().numpy().copy(),
        constants=constants.detach().numpy().copy(),
        facts={**probe.facts, "steps": STEPS, "loss": float(loss.detach())},
    )


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


class _Scan:
    """One scan's tokens and masks, cut into blocks; half of the blocks hold a class that is not the commonest.

    Masks may be a crop of the scan: blocks lie among the tokens that its voxels touch.
    """

    def __init__(self, features: FeatureMap, labels: LabelMap, classes: tuple[int, ...]) -> None:
        self.features = features
        self.index = np.searchsorted(classes, labels.labels).astype(np.uint8)
        self.along = axis_weights(features.geometry, labels.geometry)
        self.spans = [used_span(rows) for rows in self.along]
        common = np.bincount(self.index.reshape(-1)).argmax()
        rare = np.argwhere(self.index[::4, ::4, ::4] != common) * 4
        self.rare = labels.geometry.to_world(rare) if len(rare) else None

    def block(self, generator: np.random.Generator, hu_features: str | None) -> tuple:
        """Raw columns (z, y, x, D), interpolation rows a axis, and class indices int64 of the block's voxels."""
        first, last = (np.array([getattr(span, end) for span in self.spans]) for end in ("start", "stop"))
        size = np.minimum(BLOCK_TOKENS, last - first)
        if self.rare is not None and generator.random() < 0.5:
            centre = self.features.geometry.to_index(self.rare[generator.integers(len(self.rare))])
            start = np.rint(centre - size / 2 + generator.uniform(-1, 1, 3)).astype(int).clip(first, last - size)
        else:
            start = generator.integers(first, last - size + 1)
        tokens = tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))
        rows, voxels = [], []
        for along, part in zip(self.along, tokens, strict=True):
            # Voxels whose interpolation needs no token outside the block.
            inside = np.flatnonzero(along[:, part].sum(axis=1) > 0.999)
            inside = inside[:: max(1, len(inside) // ((part.stop - part.start) * VOXELS_PER_TOKEN))]
            rows.append(np.ascontiguousarray(along[inside][:, part]))
            voxels.append(inside)
        return raw_columns(self.features, hu_features, tokens), rows, self.index[np.ix_(*voxels)].astype(np.int64)
