"""Is it learning? Frozen kNN and linear scores of the teacher's tokens on a small labelled set, during the run.

The DINO loss is no progress bar; these are. A token's label is what most of it shows. Folds are scans, or,
with one scan, slabs of 40 mm along z taken in turn, with 10 mm between them left out so that neighbouring
tokens do not give the answer away. Scores are balanced accuracies (mean recall over classes): guessing
scores 1 / classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec
from tapct_core.volume import CTVolume

from .config import CaseConfig

TISSUES = {"lung": (-950, -550), "fat": (-140, -40), "soft tissue": (10, 90), "bone": (250, 2000)}
"""HU ranges that stand in where a case has no labels; what lies between them is left out."""
SLAB_MM, GAP_MM = 40.0, 10.0
_RIDGE = 1e-2


@dataclass(frozen=True)
class _Case:
    volume: CTVolume
    labels: np.ndarray  # on label_geometry; 0 is background where the case has labels, else "left out"
    label_geometry: Geometry
    has_labels: bool


class OnlineProbe:
    """The labelled set, read once; :meth:`score` judges a network with it."""

    def __init__(
        self, cases: tuple[CaseConfig, ...], neighbours: int = 10, tokens_per_class: int = 200, seed: int = 0
    ) -> None:
        self.neighbours, self.tokens_per_class, self.seed = neighbours, tokens_per_class, seed
        self.cases = [_read(case) for case in cases]
        if len({case.has_labels for case in self.cases}) > 1:
            raise UserError("online.cases mixes scans with labels and without; give labels for all of them or for none")

    def score(self, vit: nn.Module, spec: InputSpec) -> dict[str, float]:
        """Balanced accuracies {"knn", "linear"} and the number of classes; the network is left as it was found."""
        was_training = vit.training
        vit.eval()
        try:
            features = [_embed(case.volume, vit, spec) for case in self.cases]
        finally:
            vit.train(was_training)
        tokens, labels, folds = [], [], []
        for number, (case, found) in enumerate(zip(self.cases, features, strict=True)):
            of_token = token_labels(found.geometry, case.labels, case.label_geometry)
            fold = np.full(found.geometry.shape, number) if len(self.cases) > 1 else slabs(found.geometry)
            keep = found.valid & (of_token >= (0 if case.has_labels else 1)) & (fold >= 0)
            tokens.append(found.tokens[keep].astype(np.float32))
            labels.append(of_token[keep])
            folds.append(fold[keep])
        return judge(
            torch.from_numpy(np.concatenate(tokens)), np.concatenate(labels), np.concatenate(folds),
            self.neighbours, self.tokens_per_class, self.seed,
        )  # fmt: skip


def token_labels(tokens: Geometry, labels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Label that most of 27 points spread over each token fall on -> int (Z, Y, X); -1 where none has half.

    ``labels`` (z, y, x) lie on ``geometry``, any grid; points outside it count as -1.
    """
    index = np.stack(np.meshgrid(*(np.arange(n) for n in tokens.shape), indexing="ij"), axis=-1)
    offsets = np.stack(np.meshgrid(*[(-1 / 3, 0, 1 / 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    votes = np.empty((len(offsets), *tokens.shape), dtype=np.int64)
    for vote, offset in zip(votes, offsets, strict=True):
        where = np.rint(geometry.to_index(tokens.to_world(index + offset))).astype(int)
        inside = ((where >= 0) & (where < np.array(geometry.shape))).all(axis=-1)
        where = where.clip(0, np.array(geometry.shape) - 1)
        vote[...] = np.where(inside, labels[where[..., 0], where[..., 1], where[..., 2]], -1)
    ordered = np.sort(votes, axis=0)
    middle = ordered[len(offsets) // 2]  # a label with over half of the votes is their median
    return np.where((votes == middle).sum(axis=0) * 2 > len(offsets), middle, -1)


def slabs(tokens: Geometry) -> np.ndarray:
    """Fold 0 or 1 of each token by its slab along z, -1 within the gaps -> (Z, Y, X)."""
    thick = tokens.shape[0] * tokens.spacing_mm[0]
    slab = min(SLAB_MM, (thick - GAP_MM) / 2)
    height = (np.arange(tokens.shape[0]) + 0.5) * tokens.spacing_mm[0]
    number, within = np.divmod(height, slab + GAP_MM)
    fold = np.where(within < slab, number.astype(int) % 2, -1)
    return np.broadcast_to(fold[:, None, None], tokens.shape)


def judge(
    tokens: Tensor, labels: np.ndarray, folds: np.ndarray, neighbours: int = 10, per_class: int = 200, seed: int = 0
) -> dict[str, float]:
    """Tokens (N, C), their labels and folds (N,) -> balanced accuracies, mean over folds left out in turn.

    Up to ``per_class`` tokens of each class and fold are taken, so that no organ outweighs another.
    """
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([
        rng.permutation(np.flatnonzero((labels == label) & (folds == fold)))[:per_class]
        for label in np.unique(labels) for fold in np.unique(folds)
    ])  # fmt: skip
    tokens, labels, folds = tokens[torch.from_numpy(chosen)], labels[chosen], folds[chosen]
    scores: dict[str, list[float]] = {"knn": [], "linear": []}
    classes = 0
    for fold in np.unique(folds):
        shared = np.intersect1d(labels[folds == fold], labels[folds != fold])
        if len(shared) < 2:
            continue
        classes = max(classes, len(shared))
        usable = np.isin(labels, shared)
        train, test = torch.from_numpy(usable & (folds != fold)), torch.from_numpy(usable & (folds == fold))
        y = torch.from_numpy(np.searchsorted(shared, labels))
        mean, std = tokens[train].mean(0), tokens[train].std(0).clamp(min=1e-6)
        x = (tokens - mean) / std
        scores["knn"].append(balanced(knn(x[train], y[train], x[test], len(shared), neighbours), y[test]))
        scores["linear"].append(balanced(linear(x[train], y[train], x[test], len(shared)), y[test]))
    if not classes:
        raise UserError("the online cases share no two classes between scans (or slabs); give other cases or labels")
    return {**{name: float(np.mean(values)) for name, values in scores.items()}, "classes": classes}


def knn(train: Tensor, labels: Tensor, test: Tensor, classes: int, neighbours: int) -> Tensor:
    """Cosine nearest neighbours voting with exp(similarity / 0.07), as DINO does (arXiv 2104.14294) -> (M,)."""
    train, test = (nn.functional.normalize(x, dim=1, eps=1e-6) for x in (train, test))
    similarity, index = (test @ train.T).topk(min(neighbours, len(train)), dim=1)
    votes = torch.zeros(len(test), classes).scatter_add_(1, labels[index], (similarity / 0.07).exp())
    return votes.argmax(dim=1)


def linear(train: Tensor, labels: Tensor, test: Tensor, classes: int) -> Tensor:
    """Ridge regression on one-hot labels, solved exactly in float64 -> (M,) predicted classes."""
    x = nn.functional.pad(train.double(), (0, 1), value=1.0)
    y = nn.functional.one_hot(labels, classes).double() - 1 / classes
    gram = x.T @ x / len(x) + _RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x.T @ y / len(x))
    return (nn.functional.pad(test.double(), (0, 1), value=1.0) @ weights).argmax(dim=1)


def balanced(predicted: Tensor, truth: Tensor) -> float:
    """Mean over classes of the share found."""
    return float(np.mean([(predicted[truth == label] == label).float().mean().item() for label in truth.unique()]))


def tissue_labels(hu: np.ndarray) -> np.ndarray:
    """HU -> 1, 2, ... for the ranges of TISSUES, 0 elsewhere."""
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for number, (low, high) in enumerate(TISSUES.values(), start=1):
        labels[(hu >= low) & (hu <= high)] = number
    return labels


def _read(case: CaseConfig) -> _Case:
    from tapct_core.io import load_ct, load_labels

    volume = load_ct(case.ct)
    if case.labels is None:
        return _Case(volume, tissue_labels(volume.hu), volume.geometry, False)
    labels = load_labels(case.labels)
    return _Case(volume, labels.labels, labels.geometry, True)


def _embed(volume: CTVolume, vit: nn.Module, spec: InputSpec) -> FeatureMap:
    """The same road as `tapct embed`: what is scored is what a user will get."""
    from tapct_core.embedding import embed
    from tapct_core.encoders import Encoder

    device = next(vit.parameters()).device
    encoder = Encoder("teacher", vit, spec, "", "", "a running pretraining", True, device)
    return embed(volume, encoder)
