"""The live head: a ridge-penalised linear discriminant in closed form, kept as sums so that strokes can be added.

Penalised discriminant analysis (Hastie, Buja and Tibshirani 1995, Ann. Stat. 23:73) finds the same directions as
ridge regression onto class indicators; written as Gaussian classes of one covariance it also has constants that
never let one class mask another, as plain indicator regression does from three classes on, and its scores are log
probabilities that a change of class frequencies shifts by a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Moments:
    """Per class: ``counts`` (K,), ``sums`` (K, D) and ``squares`` (K, D, D), the sum of outer products; float64."""

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, classes: np.ndarray, count: int) -> Moments:
        """Moments of standardised features ``x`` (N, D) with class indices (N,)."""
        dim = x.shape[1]
        sums, squares = np.zeros((count, dim)), np.zeros((count, dim, dim), np.float32)
        for c in np.unique(classes):
            own = np.ascontiguousarray(x[classes == c], dtype=np.float32)
            sums[c] = own.sum(axis=0, dtype=np.float64)
            squares[c] = own.T @ own
        return cls(np.bincount(classes, minlength=count).astype(float), sums, squares)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.counts + other.counts, self.sums + other.sums, self.squares + other.squares)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.counts - other.counts, self.sums - other.sums, self.squares - other.squares)


def discriminant(moments: Moments, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (D, K) and constants (K,) of classes with equal say, whatever their counts; float64.

    The covariance is the mean of the classes' own, plus ``penalty`` times the identity (features have unit variance).
    """
    import scipy.linalg

    counts = np.maximum(moments.counts, 1.0)[:, None]
    means = moments.sums / counts
    share = 1.0 / len(counts)
    within = np.tensordot((share / counts[:, 0]).astype(np.float32), moments.squares, axes=1).astype(np.float64)
    within -= share * means.T @ means
    within[np.diag_indices_from(within)] += penalty
    factor = scipy.linalg.cho_factor(within, lower=True, overwrite_a=True, check_finite=False)
    weights = scipy.linalg.cho_solve(factor, means.T, check_finite=False)  # (D, K)
    return weights, -0.5 * np.einsum("kd,dk->k", means, weights)


def choose_penalty(
    x: np.ndarray, classes: np.ndarray, groups: np.ndarray, moments: Moments
) -> tuple[float, float]:
    """Penalty and score scale with the smallest class-balanced log loss on strokes that were left out.

    Neighbouring voxels share tokens, so whole ``groups`` (stroke and place) are left out together, in at most
    FOLDS turns; a class with one group only is never left without any. Returns (penalty, scale): scores times
    ``scale`` are calibrated where few labels in many dimensions make the fit too sure of itself.
    """
    folds = assign_folds(classes, groups)
    held: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {penalty: [] for penalty in PENALTIES}
    for fold in range(FOLDS):
        out = folds == fold
        if not out.any():
            continue
        rest = moments - Moments.of(x[out], classes[out], len(moments.counts))
        for penalty in PENALTIES:
            weights, constants = discriminant(rest, penalty)
            held[penalty].append((x[out] @ weights + constants, classes[out]))
    if not any(held.values()):
        return 1.0, 1.0
    losses = {}
    for penalty, parts in held.items():
        scores, truth = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        for scale in (1.0, 0.5, 0.25, 0.1, 0.05, 0.02):
            losses[penalty, scale] = balanced_log_loss(scale * scores, truth)
    return min(losses, key=lambda key: (losses[key], -key[0]))


def assign_folds(classes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Fold (N,) of each sample, whole groups together and each class spread over the folds; -1: never left out."""
    folds = np.full(len(classes), -1)
    for c in np.unique(classes):
        own = np.unique(groups[classes == c])
        if len(own) > 1:
            of_group = dict(zip(own, np.arange(len(own)) % FOLDS, strict=True))
            folds[classes == c] = [of_group[g] for g in groups[classes == c]]
    return folds


def balanced_log_loss(scores: np.ndarray, classes: np.ndarray) -> float:
    """Mean over classes of the mean negative log probability; ``scores`` (N, K)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(classes)), classes]
    return float(np.mean([loss[classes == c].mean() for c in np.unique(classes)]))
