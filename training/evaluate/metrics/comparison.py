"""Two encoders on the same cases, folds and runs: the difference of their AUROC, its interval, and if it is luck."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .ranking import Predictions, auroc_ap
from .statistics import (
    DRAWS,
    FEW_PATIENTS,
    LEVEL,
    Interval,
    block_size,
    in_blocks,
    mean_of_defined,
    patient_weights,
    percentiles,
)


@dataclass(frozen=True)
class Difference:
    """AUROC of a first encoder less that of a second, its interval and the two-sided p of no difference."""

    auroc: Interval
    p: float
    patients: int = FEW_PATIENTS

    @property
    def swapped(self) -> Difference:
        """The second less the first."""
        return replace(self, auroc=Interval(-self.auroc.value, -self.auroc.high, -self.auroc.low))


def compare(first: Predictions, second: Predictions, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Paired comparison of two encoders on the same cases, folds and runs.

    The interval is the paired bootstrap over patients and runs. The test exchanges the encoders' within-fold ranks
    patient by patient (Bandos, Rockette & Gur 2005, "A permutation test sensitive to differences in areas for
    comparing ROC curves from a paired design", Statistics in Medicine 24(18)); a patient's cases are exchanged
    together. It knows nothing of the heads' training, so p is the larger of its own and that of :func:`corrected_t`.
    Swapping the arguments changes the sign and nothing else. Raises ValueError for other cases or folds.
    """
    same = (np.array_equal(getattr(first, n), getattr(second, n)) for n in ("truth", "folds", "patients"))
    if not all(same):
        raise ValueError("two encoders are compared on the same cases, folds and runs only")
    ones = np.ones((1, len(first.truth)))
    observed = float(mean_of_defined(auroc_ap(first, ones)[0] - auroc_ap(second, ones)[0])[0])
    rng = np.random.default_rng(seed)
    runs = len(first.probabilities)
    drawn = []
    for weights in in_blocks(patient_weights(first.patients, draws, rng)):
        gap = auroc_ap(first, weights)[0] - auroc_ap(second, weights)[0]  # (B, R)
        drawn.append(mean_of_defined(np.take_along_axis(gap, rng.integers(runs, size=gap.shape), axis=1)))
    gaps = _swapped_gaps(first, second, draws, np.random.default_rng(seed))
    p = (1 + int((np.abs(gaps) >= abs(observed) - 1e-12).sum())) / (1 + draws) if np.isfinite(observed) else np.nan
    of_training = corrected_t(_by_fold(first) - _by_fold(second))
    p = max(p, of_training) if np.isfinite(of_training) else p
    return Difference(percentiles(observed, np.concatenate(drawn)), float(p), len(np.unique(first.patients)))


def corrected_t(differences: np.ndarray) -> float:
    """Two-sided p that the mean of differences (runs, folds) of a repeated cross-validation is zero; NaN if undefined.

    The corrected resampled t test: training sets overlap, so the variance of the mean is not that of independent
    values but (1 / J + 1 / (folds - 1)) times their variance, J being their number (Nadeau & Bengio 2003, Machine
    Learning 52; for repeated folds Bouckaert & Frank 2004, PAKDD). Its degrees of freedom are folds - 1: more runs on
    the same cases are no new training sets, and with J - 1, as the latter have it, two encoders of pure noise (20
    channels, 40 patients, three runs of five folds) differed at 0.05 in 10 % of 100 simulations. NaN stands for folds
    without both classes.
    """
    from scipy.stats import t

    folds = differences.shape[1]
    known = differences[np.isfinite(differences)]
    if folds < 2 or len(known) < 2:
        return float("nan")
    spread = known.var(ddof=1) * (1 / len(known) + 1 / (folds - 1))
    if spread == 0:
        return 1.0 if known.mean() == 0 else 0.0
    return float(2 * t.sf(abs(known.mean()) / np.sqrt(spread), folds - 1))


def comparison_words(first: str, second: str, difference: Difference) -> str:
    """One sentence on whether two encoders differ; the sign is that of what is said."""
    if not np.isfinite(difference.auroc.value):
        return f"{first} and {second} cannot be compared: no fold holds both classes"
    if difference.auroc.value < 0:
        return comparison_words(second, first, difference.swapped)
    figure = f"AUROC difference {difference.auroc.text()}, p = {difference.p:.3g}"
    if difference.patients < FEW_PATIENTS:
        return f"{first} and {second}: too few to tell, with {difference.patients} patients ({figure})"
    if difference.p >= LEVEL or difference.auroc.low <= 0 <= difference.auroc.high:
        return f"{first} and {second} cannot be told apart ({figure})"
    return f"{first} is better than {second} ({figure})"


def _swapped_gaps(first: Predictions, second: Predictions, draws: int, rng: np.random.Generator) -> np.ndarray:
    """AUROC differences (draws,) when each patient's ranks of the two encoders are exchanged by the toss of a coin."""
    _, member = np.unique(first.patients, return_inverse=True)
    tossed = rng.integers(2, size=(draws, int(member.max()) + 1)).astype(bool)
    gaps = np.zeros(draws)
    for run, folds in enumerate(first.folds):
        _, fold = np.unique(folds, return_inverse=True)
        for label in first.scored_classes:
            ranks = [_fold_ranks(predictions.probabilities[run, :, label], folds) for predictions in (first, second)]
            size = block_size(len(folds))
            for start in range(0, draws, size):
                swap = tossed[start : start + size][:, member]  # (B, N)
                first_auroc, second_auroc = (
                    _auroc_of_ranks(np.where(swap, other, own), first.truth == label, fold)
                    for own, other in (ranks, ranks[::-1])
                )
                gaps[start : start + size] += first_auroc - second_auroc
    return gaps / (len(first.folds) * len(first.scored_classes))


def _by_fold(predictions: Predictions) -> np.ndarray:
    """AUROC of each run and fold (R, F), NaN where a fold lacks a class; official folds are one division, (1, F)."""
    names = np.unique(predictions.folds)
    out = np.empty((len(predictions.folds), len(names)))
    for place, fold in enumerate(names):
        for run, folds in enumerate(predictions.folds):
            mine = folds == fold
            one = Predictions(
                predictions.truth[mine], predictions.probabilities[run : run + 1, mine], folds[None, mine],
                predictions.patients[mine],
            )  # fmt: skip
            out[run, place] = auroc_ap(one, np.ones((1, int(mine.sum()))))[0, 0, 0]
    same = (predictions.folds == predictions.folds[0]).all()
    return mean_of_defined(out.T)[None] if same else out


def _fold_ranks(scores: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Twice the mean rank of each score (N,) within its fold, from 2 on, so that ties keep a whole number."""
    from scipy.stats import rankdata

    ranks = np.empty(len(scores), np.int64)
    for fold in np.unique(folds):
        ranks[folds == fold] = np.rint(2 * rankdata(scores[folds == fold]))
    return ranks


def _auroc_of_ranks(ranks: np.ndarray, positive: np.ndarray, member: np.ndarray) -> np.ndarray:
    """AUROC of each row of ranks (B, N) as :func:`_fold_ranks` gives them -> (B,); no sorting.

    ``member`` (N,) numbers the folds from 0 on.
    """
    sizes = np.bincount(member)
    places = 2 * sizes + 1  # a fold's ranks go from 0 to twice its size
    first = np.cumsum(places) - places
    length = int(places.sum())
    negatives = np.bincount(member[~positive], minlength=len(sizes))
    pairs = int((np.bincount(member[positive], minlength=len(sizes)) * negatives).sum())
    if pairs == 0:
        return np.full(len(ranks), np.nan)
    where = ranks + first[member]
    rows = length * np.arange(len(ranks))[:, None]
    count = np.bincount((where[:, ~positive] + rows).ravel(), minlength=length * len(ranks)).reshape(-1, length)
    at = where[:, positive]
    below = np.take_along_axis(np.cumsum(count, axis=1), at, axis=1) - np.take_along_axis(count, at, axis=1) / 2
    of_other_folds = (np.cumsum(negatives) - negatives)[member[positive]]
    return (below - of_other_folds).sum(axis=1) / pairs
