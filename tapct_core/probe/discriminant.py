"""The live head: a ridge-penalised linear discriminant in closed form, kept as sums so that strokes can be added.

Penalised discriminant analysis (Hastie, Buja and Tibshirani 1995, Ann. Stat. 23:73) finds the same directions as
ridge regression onto class indicators; written as Gaussian classes of one covariance it also has constants that
never let one class mask another, as plain indicator regression does from three classes on, and its scores are log
probabilities that a change of class frequencies shifts by a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
SCALES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
FOLDS = 5
UNCHECKED = (1.0, 0.25)
"""Penalty and scale for one stroke a class; chosen on dev patients."""
MOST_CHECKED = 10_000


@dataclass(frozen=True, eq=False)
class Moments:
    """Per class: ``counts`` (K,), ``means`` (K, D) float64, and ``scatter`` (K, D, D) float32 about the own mean.

    Sums about the mean, not about zero: the difference of large sums of squares has no correct digits left.
    """

    counts: np.ndarray
    means: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, index: np.ndarray, count: int) -> Moments:
        """Moments of standardised columns ``x`` (N, D) with class indices (N,)."""
        dim = x.shape[1]
        means, scatter = np.zeros((count, dim)), np.zeros((count, dim, dim), np.float32)
        for c in np.unique(index):
            own = x[index == c]
            means[c] = own.mean(axis=0, dtype=np.float64)
            own = (own - means[c]).astype(np.float32)
            scatter[c] = own.T @ own
        return cls(np.bincount(index, minlength=count).astype(float), means, scatter)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub and LeVeque 1983)."""
        counts = self.counts + other.counts
        part = other.counts / np.maximum(counts, 1)
        apart = other.means - self.means
        scatter = self.scatter + other.scatter
        for c in np.flatnonzero((self.counts > 0) & (other.counts > 0)):
            scatter[c] += (self.counts[c] * part[c]) * np.outer(apart[c], apart[c]).astype(np.float32)
        return Moments(counts, self.means + part[:, None] * apart, scatter)

    def spread(self, place: np.ndarray, count: int) -> Moments:
        """The same moments among ``count`` classes, the old class i being the new class ``place[i]``."""
        dim = self.means.shape[1]
        new = Moments(np.zeros(count), np.zeros((count, dim)), np.zeros((count, dim, dim), np.float32))
        new.counts[place], new.means[place], new.scatter[place] = self.counts, self.means, self.scatter
        return new

    def within(self) -> np.ndarray:
        """Covariance within classes (D, D) float64, classes having equal say whatever their counts."""
        shares = 1.0 / (len(self.counts) * np.maximum(self.counts, 1.0))
        return np.tensordot(shares.astype(np.float32), self.scatter, axes=1).astype(np.float64)


def discriminant(means: np.ndarray, within: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (D, K) and constants (K,), float64, of classes with ``means`` (K, D) and one covariance (D, D).

    ``penalty`` times the identity is added to it; columns have unit variance.
    """
    weights = _solved(within, penalty, means.T)  # (D, K)
    return weights, -0.5 * np.einsum("kd,dk->k", means, weights)


def _solved(matrix: np.ndarray, penalty: float, right: np.ndarray) -> np.ndarray:
    """(matrix + penalty I)^-1 right, the matrix being symmetric and without negative eigenvalues; float64."""
    import scipy.linalg

    matrix = matrix.copy()
    matrix[np.diag_indices_from(matrix)] += penalty
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        # Sums in float32 may leave an eigenvalue a little under zero, and so under -penalty where others are huge.
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ ((vectors.T @ right) / np.maximum(values, penalty)[:, None])
    return scipy.linalg.cho_solve(factor, right, check_finite=False)


def choose_penalty(x: np.ndarray, index: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Penalty and score scale with the smallest class-balanced log loss on strokes that were left out.

    Neighbouring voxels share tokens, so whole ``groups`` (stroke or place) are left out together, in at most
    FOLDS turns; a class with one group only is never left without any. Returns (penalty, scale): scores times
    ``scale`` are calibrated where few labels in many dimensions make the fit too sure of itself. With one stroke a
    class nothing can be left out, and the answer is UNCHECKED.
    """
    if len(x) > MOST_CHECKED:
        some = np.arange(0, len(x), -(-len(x) // MOST_CHECKED))
        x, index, groups = x[some], index[some], groups[some]
    folds = assign_folds(index, groups)
    held: dict[float, list[np.ndarray]] = {penalty: [] for penalty in PENALTIES}
    truth = []
    for fold in range(FOLDS):
        out = folds == fold
        if not out.any():
            continue
        truth.append(index[out])
        solve = Pooled.of(x[~out], index[~out]).discriminant
        for penalty in PENALTIES:
            weights, constants = solve(penalty)
            held[penalty].append((x[out] @ weights + constants).astype(np.float32))
    if not truth:
        return UNCHECKED
    truth = np.concatenate(truth)
    losses = {
        (penalty, scale): balanced_log_loss(scale * np.concatenate(scores), truth)
        for penalty, scores in held.items()
        for scale in SCALES
    }
    return min(losses, key=lambda key: (losses[key], -key[0]))


@dataclass(frozen=True, eq=False)
class Pooled:
    """Class ``means`` (K, D) float64 and samples ``centred`` (N, D) whose columns' products are the covariance within:
    what :class:`Moments` have, without a matrix a class. ``gram`` (D, D), or (N, N) if that is smaller, is float64."""

    means: np.ndarray
    centred: np.ndarray
    gram: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, index: np.ndarray) -> Pooled:
        """Of standardised columns ``x`` (N, D) with class indices (N,)."""
        count = int(index.max()) + 1
        sizes = np.maximum(np.bincount(index, minlength=count), 1)
        means = np.zeros((count, x.shape[1]))
        for c in range(count):
            means[c] = x[index == c].mean(axis=0, dtype=np.float64) if (index == c).any() else 0.0
        centred = (x - means[index]) / np.sqrt(count * sizes[index])[:, None]
        if len(x) < x.shape[1]:  # float64: one column of large numbers is in every product of two samples
            return cls(means, centred, centred @ centred.T)
        centred = centred.astype(np.float32)
        return cls(means, centred, (centred.T @ centred).astype(np.float64))

    def discriminant(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """:func:`discriminant` of these. With fewer samples than columns in a system of as many unknowns as samples,
        by the identity of Woodbury (1950): a person's first strokes, and the ones that they wait for."""
        if len(self.gram) == self.means.shape[1]:
            return discriminant(self.means, self.gram, penalty)
        inner = _solved(self.gram, penalty, self.centred @ self.means.T)
        weights = (self.means.T - self.centred.T @ inner) / penalty
        return weights, -0.5 * np.einsum("kd,dk->k", self.means, weights)


def assign_folds(index: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Fold (N,) of each sample, whole groups together and each class spread over the folds; -1: never left out."""
    folds = np.full(len(index), -1)
    for c in np.unique(index):
        own, place = np.unique(groups[index == c], return_inverse=True)
        if len(own) > 1:
            folds[index == c] = place.reshape(-1) % FOLDS
    return folds


def balanced_log_loss(scores: np.ndarray, index: np.ndarray) -> float:
    """Mean over classes of the mean negative log probability; ``scores`` (N, K)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(index)), index]
    return float(np.mean([loss[index == c].mean() for c in np.unique(index)]))
