"""How sure a figure is, and whether it is more than luck: intervals, tests and the words for them.

Intervals: 95 %, percentile bootstrap over patients and runs, both drawn with replacement (Owen & Eckles 2012,
"Bootstrapping data arrays of arbitrary order", Annals of Applied Statistics 6(3)); the heads are not trained again,
so what another training set would change shows only in the runs' own spread. Tests: permutation, with
p = (1 + as extreme) / (1 + permutations) (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9(1)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .ranking import METRICS, Predictions, auroc_ap, auroc_ap_of_counts, measure

DRAWS = 1000
LEVEL = 0.05
FEW_PATIENTS = 10
"""Under this many patients a percentile interval is known to be too narrow, and the verdict says so."""
BLOCK_VALUES = 4_000_000
"""Draws are taken in blocks of about this many numbers, so that memory does not grow with their count."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; all NaN where it is not defined."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """For example ``0.912 (0.861–0.954)``; a dash where it is not defined."""
        if not np.isfinite(self.value):
            return "–"
        if not np.isfinite(self.low):
            return f"{self.value:.{digits}f} (–)"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


def figures(predictions: Predictions, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
    """AUROC, AP and balanced accuracy, means over runs, with intervals by patient and run."""
    values = np.nanmean(measure(predictions, np.ones((1, len(predictions.truth))))[:, 0], axis=1)  # (3,)
    rng = np.random.default_rng(seed)
    runs = len(predictions.probabilities)
    drawn = []
    for weights in _in_blocks(patient_weights(predictions.patients, draws, rng)):
        measured = measure(predictions, weights)  # (3, B, R)
        picked = rng.integers(runs, size=(1, len(weights), runs))
        drawn.append(np.take_along_axis(measured, np.broadcast_to(picked, measured.shape), axis=2).mean(axis=2))
    spread = np.concatenate(drawn, axis=1)
    return {name: _interval(value, row) for name, value, row in zip(METRICS, values, spread, strict=True)}


def run_values(predictions: Predictions) -> dict[str, list[float]]:
    """Each metric of each run by itself: how much the folds and the training's chance move it."""
    measured = measure(predictions, np.ones((1, len(predictions.truth))))[:, 0]
    return {name: [float(v) for v in row] for name, row in zip(METRICS, measured, strict=True)}


def chance_test(predictions: Predictions, permutations: int = DRAWS, seed: int = 0) -> float:
    """One-sided p of an AUROC this high when labels have nothing to do with the cases.

    Labels are permuted within what may be exchanged (block permutation, Winkler et al. 2015, NeuroImage 123):
    patients with one label each exchange it as a whole; where a patient's cases differ, they exchange labels within
    the patient, and patients of equally many cases exchange their rows of labels. The classifiers are not trained
    again: the test asks whether these predictions know anything of these labels.
    """
    rng = np.random.default_rng(seed)
    ones = np.ones((1, len(predictions.truth)))
    observed = np.nanmean(auroc_ap(predictions, ones)[0])
    if not np.isfinite(observed):
        return float("nan")
    permute = _label_permuter(predictions.truth, predictions.patients)
    size = _block_size(len(predictions.truth))
    as_high = 0
    for start in range(0, permutations, size):
        labels = np.stack([permute(rng) for _ in range(min(size, permutations - start))])
        values = auroc_ap(predictions, np.ones_like(labels, dtype=float), labels)[0].mean(axis=1)
        as_high += int((values >= observed - 1e-12).sum())
    return (1 + as_high) / (1 + permutations)


@dataclass(frozen=True)
class Difference:
    """AUROC of a first encoder less that of a second, its interval and the two-sided p of no difference."""

    auroc: Interval
    p: float


def compare(first: Predictions, second: Predictions, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Paired comparison of two encoders on the same cases, folds and runs.

    The interval is the paired bootstrap over patients and runs. The test exchanges the encoders' within-fold ranks
    patient by patient (Bandos, Rockette & Gur 2005, "A permutation test sensitive to differences in areas for
    comparing ROC curves from a paired design", Statistics in Medicine 24(18)); a patient's cases are exchanged
    together. Swapping the arguments changes the sign and nothing else. Raises ValueError for other cases or folds.
    """
    same = (np.array_equal(getattr(first, n), getattr(second, n)) for n in ("truth", "folds", "patients"))
    if not all(same):
        raise ValueError("two encoders are compared on the same cases, folds and runs only")
    ones = np.ones((1, len(first.truth)))
    observed = float(np.nanmean(auroc_ap(first, ones)[0]) - np.nanmean(auroc_ap(second, ones)[0]))
    rng = np.random.default_rng(seed)
    runs = len(first.probabilities)
    drawn = []
    for weights in _in_blocks(patient_weights(first.patients, draws, rng)):
        gap = auroc_ap(first, weights)[0] - auroc_ap(second, weights)[0]  # (B, R)
        drawn.append(np.take_along_axis(gap, rng.integers(runs, size=gap.shape), axis=1).mean(axis=1))
    gaps = _swapped_gaps(first, second, draws, np.random.default_rng(seed))
    p = (1 + int((np.abs(gaps) >= abs(observed) - 1e-12).sum())) / (1 + draws) if np.isfinite(observed) else np.nan
    return Difference(_interval(observed, np.concatenate(drawn)), float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of one table adjusted for their number (Holm 1979, Scand. J. Statist. 6); NaN stays and counts not."""
    p = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order))))
    out = np.full(len(p), np.nan)
    out[order] = np.minimum(1.0, adjusted)
    return out.tolist()


def verdict(auroc: Interval, p: float, positives: int, negatives: int) -> str:
    """One sentence on whether an AUROC is more than chance.

    ``p`` as :func:`chance_test` gives it (adjusted where several rows are tested); ``positives`` and ``negatives``
    count patients (with two classes) or the patients of the rarest class and the rest.
    """
    if not np.isfinite(auroc.value) or not np.isfinite(p):
        return "cannot be judged: no fold holds both classes"
    figure = f"AUROC {auroc.text(2)}, p = {p:.3g}"
    if not np.isfinite(auroc.low):
        return f"cannot be judged: too few patients for an interval ({figure})"
    covers = auroc.low <= 0.5 <= auroc.high
    if auroc.high < 0.5:
        words = "worse than chance, which points at a fault in labels or folds"
    elif covers or p >= LEVEL:
        words = "indistinguishable from chance"
    else:
        words = "better than chance"
    few = min(positives, negatives)
    doubt = f"; with {few} patient{'s' if few != 1 else ''} in the smaller class the interval is too narrow"
    return f"{words} ({figure}{doubt if few < FEW_PATIENTS else ''})"


def comparison_words(first: str, second: str, difference: Difference) -> str:
    """One sentence on whether two encoders differ."""
    if not np.isfinite(difference.auroc.value):
        return f"{first} and {second} cannot be compared: no fold holds both classes"
    figure = f"AUROC difference {difference.auroc.text()}, p = {difference.p:.3g}"
    if difference.p >= LEVEL or difference.auroc.low <= 0 <= difference.auroc.high:
        return f"{first} and {second} cannot be told apart ({figure})"
    better, worse = (first, second) if difference.auroc.value > 0 else (second, first)
    return f"{better} is better than {worse} ({figure})"


def interval(
    values: np.ndarray, patients: np.ndarray, figure: Callable[[np.ndarray], float], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """``figure`` of the rows of ``values`` (N, ...) with its percentile bootstrap interval by patient.

    For figures without weights, such as a median or a mean over cases. NaN from ``figure`` means undefined.
    """
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    weights = patient_weights(patients, draws, rng)
    drawn = np.array([figure(np.repeat(values, row.astype(int), axis=0)) for row in weights])
    return _interval(float(figure(values)), drawn)


def patient_weights(patients: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each case counts when patients are drawn with replacement; ``draws`` rows (N,) float64."""
    _, member = np.unique(patients, return_inverse=True)
    count = int(member.max()) + 1
    for _ in range(draws):
        yield np.bincount(rng.integers(count, size=count), minlength=count)[member].astype(float)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    """Percentiles of the draws in which the figure is defined; none where half of them are not."""
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < max(1, len(drawn) / 2):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.quantile(defined, (LEVEL / 2, 1 - LEVEL / 2))
    return Interval(float(value), float(low), float(high))


def _block_size(cases: int) -> int:
    return max(1, BLOCK_VALUES // max(1, cases))


def _in_blocks(rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Rows (N,) stacked into blocks (B, N) of bounded size."""
    block: list[np.ndarray] = []
    for row in rows:
        block.append(row)
        if len(block) >= _block_size(len(row)):
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)


def _label_permuter(truth: np.ndarray, patients: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that gives the labels (N,) anew, exchanged as :func:`chance_test` says."""
    _, member = np.unique(patients, return_inverse=True)
    rows = [np.flatnonzero(member == number) for number in range(int(member.max()) + 1)]
    if all((truth[row] == truth[row[0]]).all() for row in rows):
        of_patient = np.array([truth[row[0]] for row in rows])
        return lambda rng: rng.permutation(of_patient)[member]
    alike: dict[int, list[np.ndarray]] = {}
    for row in rows:
        alike.setdefault(len(row), []).append(row)

    def permuted(rng: np.random.Generator) -> np.ndarray:
        labels = np.empty_like(truth)
        for same in alike.values():
            for row, source in zip(same, rng.permutation(len(same)), strict=True):
                labels[row] = rng.permutation(truth[same[source]])
        return labels

    return permuted


def _swapped_gaps(first: Predictions, second: Predictions, draws: int, rng: np.random.Generator) -> np.ndarray:
    """AUROC differences (draws,) when each patient's ranks of the two encoders are exchanged by the toss of a coin."""
    _, member = np.unique(first.patients, return_inverse=True)
    tossed = rng.integers(2, size=(draws, int(member.max()) + 1)).astype(bool)
    gaps = np.zeros(draws)
    for run, folds in enumerate(first.folds):
        for label in first.scored_classes:
            ranks = [_fold_ranks(predictions.probabilities[run, :, label], folds) for predictions in (first, second)]
            size = _block_size(len(folds))
            for start in range(0, draws, size):
                swap = tossed[start : start + size][:, member]  # (B, N)
                first_auroc, second_auroc = (
                    _auroc_of_ranks(np.where(swap, other, own), first.truth == label, folds)
                    for own, other in (ranks, ranks[::-1])
                )
                gaps[start : start + size] += first_auroc - second_auroc
    return gaps / (len(first.folds) * len(first.scored_classes))


def _fold_ranks(scores: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Twice the mean rank of each score (N,) within its fold, from 2 on, so that ties keep a whole number."""
    from scipy.stats import rankdata

    ranks = np.empty(len(scores), np.int64)
    for fold in np.unique(folds):
        ranks[folds == fold] = np.rint(2 * rankdata(scores[folds == fold]))
    return ranks


def _auroc_of_ranks(ranks: np.ndarray, positive: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """AUROC of each row of ranks (B, N) as :func:`_fold_ranks` gives them -> (B,); no sorting."""
    _, member, sizes = np.unique(folds, return_inverse=True, return_counts=True)
    places = 2 * sizes + 1  # a fold's ranks go from 0 to twice its size
    first = np.cumsum(places) - places
    length = int(places.sum())
    where = ranks + first[member] + length * np.arange(len(ranks))[:, None]
    total = length * len(ranks)
    counts = [np.bincount(where[:, of].ravel(), minlength=total).reshape(-1, length) for of in (positive, ~positive)]
    return auroc_ap_of_counts(*(c.astype(float) for c in counts), first)[0]
