"""The figures of classification under weights: AUROC, AP and balanced accuracy of several runs at once.

A classifier is judged by several runs of one cross-validation (:class:`Predictions`). All figures compare cases
only with cases of the same fold, since every fold has a classifier of its own and their scores share no scale
(Forman & Scholz 2010, "Apples-to-apples in cross-validation studies", SIGKDD Explorations 12(1)): AUROC is the
share of (positive, negative) pairs within folds that stand in the right order, ties counted half; AP is the mean
over the positives of the precision at their rank within the fold; balanced accuracy, which needs no ranks, is the
mean over classes of the share recognised. With one fold they equal scikit-learn's. With more than two classes
AUROC and AP are means over classes, each against the rest.

Shape letters: N cases, K classes, R runs, B rows of weights, L distinct scores, F folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

METRICS = ("auroc", "ap", "balanced_accuracy")


@dataclass(frozen=True, eq=False)
class Ordered:
    """Cases by fold and score: their ``order`` (N,), ``starts`` (L,) of each distinct score in it, and ``folds`` (F,),
    the first of those scores in each fold."""

    order: np.ndarray
    starts: np.ndarray
    folds: np.ndarray


@dataclass(frozen=True, eq=False)
class Predictions:
    """What R runs of a cross-validation said of N cases of K classes, each by a classifier that had not seen it.

    ``truth``         (N,) class numbers from 0 to K - 1.
    ``probabilities`` (R, N, K), any scores that grow with belief; argmax is the class chosen.
    ``folds``         (R, N) which fold's classifier spoke.
    ``patients``      (N,) whose case it is: what is drawn and permuted together.
    Raises ValueError where shapes disagree or a score is no number.
    """

    truth: np.ndarray
    probabilities: np.ndarray
    folds: np.ndarray
    patients: np.ndarray

    def __post_init__(self) -> None:
        runs, cases, classes = self.probabilities.shape
        if self.truth.shape != (cases,) or self.patients.shape != (cases,) or self.folds.shape != (runs, cases):
            raise ValueError(f"truth, patients or folds do not fit probabilities of {self.probabilities.shape}")
        if not np.isfinite(self.probabilities).all():
            raise ValueError("a score is not a finite number")
        if cases == 0 or self.truth.min() < 0 or self.truth.max() >= classes:
            raise ValueError(f"class numbers must lie from 0 to {classes - 1}")

    @cached_property
    def ordered(self) -> list[list[Ordered]]:
        """Of every run and scored class the cases in ascending order; sorted once, since every draw needs it."""
        return [
            [_ordered(scores[:, label], folds) for label in self.scored_classes]
            for scores, folds in zip(self.probabilities, self.folds, strict=True)
        ]

    @property
    def scored_classes(self) -> tuple[int, ...]:
        """Classes that AUROC and AP are taken of: the second of two, else each against the rest."""
        count = self.probabilities.shape[2]
        return (1,) if count == 2 else tuple(range(count))


def chance_levels(truth: np.ndarray, classes: int) -> dict[str, float]:
    """What guessing reaches: AUROC 0.5, AP the share of positives (mean over classes), balanced accuracy 1 / K."""
    share = np.bincount(truth, minlength=classes) / len(truth)
    return {"auroc": 0.5, "ap": float(share[1] if classes == 2 else share.mean()), "balanced_accuracy": 1 / classes}


def measure(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """All metrics under each row of case weights (B, N) -> (3, B, R)."""
    return np.concatenate([auroc_ap(predictions, weights), _balanced_accuracy(predictions, weights)[None]])


def auroc_ap(predictions: Predictions, weights: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """AUROC and AP of each run under case weights (B, N) -> (2, B, R); ``labels`` (B, N) in place of the truth."""
    labels = predictions.truth[None] if labels is None else labels
    out = np.empty((2, len(weights), len(predictions.probabilities)))
    for run, of_run in enumerate(predictions.ordered):
        per_class = []
        for label, one in zip(predictions.scored_classes, of_run, strict=True):
            mine = labels[:, one.order] == label
            weight = weights[:, one.order]
            positive = np.add.reduceat(weight * mine, one.starts, axis=1)
            negative = np.add.reduceat(weight * ~mine, one.starts, axis=1)
            per_class.append(_auroc_ap_of_counts(positive, negative, one.folds))
        out[:, :, run] = np.mean(per_class, axis=0)
    return out


def _auroc_ap_of_counts(positive: np.ndarray, negative: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """AUROC and AP from the weight of positives and negatives at each distinct score (B, L), ascending in a fold.

    ``folds`` gives the first score of each fold. -> (2, B); NaN where no fold holds both classes.
    """
    member = np.repeat(np.arange(len(folds)), np.diff(np.append(folds, positive.shape[1])))

    def within(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum up to and with each score in its fold (B, L), and of each fold (B, F)."""
        total = np.add.reduceat(values, folds, axis=1)
        before = np.cumsum(total, axis=1) - total
        return np.cumsum(values, axis=1) - before[:, member], total

    up_to_p, all_p = within(positive)
    up_to_n, all_n = within(negative)
    pairs = (all_p * all_n).sum(axis=1)
    won = (positive * (up_to_n - negative / 2)).sum(axis=1)
    from_p = all_p[:, member] - up_to_p + positive  # positives at this score or above
    from_all = from_p + all_n[:, member] - up_to_n + negative
    precision = np.divide(from_p, from_all, out=np.zeros_like(from_p), where=from_all > 1e-9)
    judged = (all_n > 0)[:, member] * positive  # a fold of positives alone has nothing to rank them against
    hits, found = (judged * precision).sum(axis=1), judged.sum(axis=1)
    nothing = np.full(len(pairs), np.nan)
    return np.stack(
        [
            np.divide(won, pairs, out=nothing.copy(), where=pairs > 0),
            np.divide(hits, found, out=nothing.copy(), where=found > 0),
        ]
    )


def _ordered(scores: np.ndarray, folds: np.ndarray) -> Ordered:
    order = np.lexsort((scores, folds))
    fold, score = folds[order], scores[order]
    new_fold = np.append(True, fold[1:] != fold[:-1])
    starts = np.flatnonzero(new_fold | np.append(True, score[1:] != score[:-1]))
    return Ordered(order, starts, np.flatnonzero(new_fold[starts]))


def _balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean over classes of the weighted share recognised -> (B, R); NaN where a class has no weight."""
    right = predictions.probabilities.argmax(axis=2) == predictions.truth  # (R, N)
    recalls = []
    for label in range(predictions.probabilities.shape[2]):
        mine = predictions.truth == label
        total = weights[:, mine].sum(axis=1, keepdims=True)
        found = weights[:, mine] @ right[:, mine].T.astype(float)
        recalls.append(np.divide(found, total, out=np.full_like(found, np.nan), where=total > 0))
    return np.mean(recalls, axis=0)
