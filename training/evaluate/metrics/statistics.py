"""How sure a figure is, and whether it is more than luck: intervals, tests and the words for them.

Intervals: 95 %, percentile bootstrap over patients and runs, both drawn with replacement (Owen & Eckles 2012,
"Bootstrapping data arrays of arbitrary order", Annals of Applied Statistics 6(3)). They are of the heads as they are:
what another training set would change is not in them, and with few cases that is much. On noise of 20 channels, 40
patients and five folds they covered 0.5 in 85 % of 240 simulations, and a test that permutes labels under finished
predictions found p < 0.05 in 12 %. So whether a result is more than chance is left to permutations that train again.

Tests: permutation, p = (1 + as extreme) / (1 + permutations) (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol.
9(1)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .ranking import METRICS, Predictions, auroc_ap, measure

DRAWS = 1000
LEVEL = 0.05
FEW_PATIENTS = 10
"""Under this many patients a percentile interval is known to be too narrow, and the verdict says so."""
BLOCK_VALUES = 2_000_000
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
    values = mean_of_defined(measure(predictions, np.ones((1, len(predictions.truth))))[:, 0])  # (3,)
    rng = np.random.default_rng(seed)
    runs = len(predictions.probabilities)
    drawn = []
    for weights in in_blocks(patient_weights(predictions.patients, draws, rng)):
        measured = measure(predictions, weights)  # (3, B, R)
        picked = rng.integers(runs, size=(1, len(weights), runs))
        drawn.append(mean_of_defined(np.take_along_axis(measured, np.broadcast_to(picked, measured.shape), axis=2)))
    spread = np.concatenate(drawn, axis=1)
    return {name: percentiles(value, row) for name, value, row in zip(METRICS, values, spread, strict=True)}


def run_values(predictions: Predictions) -> dict[str, list[float]]:
    """Each metric of each run by itself: how much the folds and the training's chance move it."""
    measured = measure(predictions, np.ones((1, len(predictions.truth))))[:, 0]
    return {name: [float(v) for v in row] for name, row in zip(METRICS, measured, strict=True)}


def retrained_test(observed: Sequence[float], permuted: np.ndarray) -> list[float]:
    """One-sided p of each row's AUROC against runs of its whole cross-validation with permuted labels.

    ``permuted`` (rows, permutations): AUROC of one run each (Ojala & Garriga 2010, "Permutation tests for studying
    classifier performance", JMLR 11). Rows share their permutations, so that the largest of them gives p adjusted for
    the number of rows (Westfall & Young 1993, "Resampling-based multiple testing"). ``observed`` are means over runs,
    which vary less than one run does: the test errs on the careful side. NaN where a row's AUROC is not defined.
    """
    highest = np.where(np.isfinite(permuted), permuted, -np.inf).max(axis=0)
    p = [(1 + int((highest >= value - 1e-12).sum())) / (1 + len(highest)) for value in observed]
    return [one if np.isfinite(value) else float("nan") for one, value in zip(p, observed, strict=True)]


def chance_test(predictions: Predictions, permutations: int = DRAWS, seed: int = 0) -> float:
    """One-sided p of an AUROC this high when labels have nothing to do with the finished predictions.

    As :func:`label_permuter` permutes. The heads are not trained again, so with few cases the test is too ready to
    see something (the module's docstring has figures); with thousands it hardly differs from :func:`retrained_test`.
    """
    rng = np.random.default_rng(seed)
    ones = np.ones((1, len(predictions.truth)))
    observed = float(mean_of_defined(auroc_ap(predictions, ones)[0])[0])
    if not np.isfinite(observed):
        return float("nan")
    permute = label_permuter(predictions.truth, predictions.patients)
    size = block_size(len(predictions.truth))
    as_high = 0
    for start in range(0, permutations, size):
        labels = np.stack([permute(rng) for _ in range(min(size, permutations - start))])
        values = mean_of_defined(auroc_ap(predictions, np.ones_like(labels, dtype=float), labels)[0])
        as_high += int((values >= observed - 1e-12).sum())
    return (1 + as_high) / (1 + permutations)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of one table adjusted for their number (Holm 1979, Scand. J. Statist. 6); NaN stays and counts not."""
    p = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order))))
    out = np.full(len(p), np.nan)
    out[order] = np.minimum(1.0, adjusted)
    return out.tolist()


def verdict(auroc: Interval, p: float, smaller: int, least: float = 0.0) -> str:
    """One sentence on whether an AUROC is more than chance.

    ``p`` as :func:`chance_test` gives it (adjusted where several rows are tested); ``smaller`` counts the patients of
    the rarest class. ``least``: the smallest p that the test's permutations can give.
    """
    if not np.isfinite(auroc.value) or not np.isfinite(p):
        return "cannot be judged: no fold holds both classes"
    figure = f"AUROC {auroc.text(2)}, p = {p:.3g}"
    if not np.isfinite(auroc.low):
        return f"cannot be judged: too few patients for an interval ({figure})"
    if auroc.high < 0.5:
        # Labels that balance a strong feature do it without any fault: Jamalabadi et al. 2016, Human Brain Mapping 37.
        words = "below chance, as cross-validation of few cases can be; it is no sign of information"
    elif auroc.low > 0.5 and p >= LEVEL and least >= LEVEL:
        return f"cannot be judged: so few permutations give no p under {least:.2g}; use 39 or more ({figure})"
    elif auroc.low <= 0.5 or p >= LEVEL:
        words = "indistinguishable from chance"
    else:
        words = "better than chance"
    doubt = f"; with {smaller} patient{'s' * (smaller != 1)} in the smallest class the interval is too narrow"
    return f"{words} ({figure}{doubt * (smaller < FEW_PATIENTS)})"


def interval(
    values: np.ndarray, patients: np.ndarray, figure: Callable[[np.ndarray], float], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """``figure`` of the rows of ``values`` (N, ...) with its percentile bootstrap interval by patient.

    For figures without weights, such as a median or a mean over cases. NaN from ``figure`` means undefined. One
    patient alone gives no interval: it says nothing of others.
    """
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan)
    if len(np.unique(patients)) == 1:
        return Interval(float(figure(values)), np.nan, np.nan)
    rng = np.random.default_rng(seed)
    weights = patient_weights(patients, draws, rng)
    drawn = np.array([figure(np.repeat(values, row.astype(int), axis=0)) for row in weights])
    return percentiles(float(figure(values)), drawn)


def patient_weights(patients: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each case counts when patients are drawn with replacement; ``draws`` rows (N,) float64."""
    _, member = np.unique(patients, return_inverse=True)
    count = int(member.max()) + 1
    for _ in range(draws):
        yield np.bincount(rng.integers(count, size=count), minlength=count)[member].astype(float)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis over what is no NaN; NaN where all is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.divide(total, known.sum(axis=-1), out=np.full(total.shape, np.nan), where=known.any(axis=-1))


def percentiles(value: float, drawn: np.ndarray) -> Interval:
    """Percentiles of the draws in which the figure is defined; none where half of them are not."""
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < max(1, len(drawn) / 2):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.quantile(defined, (LEVEL / 2, 1 - LEVEL / 2))
    return Interval(float(value), float(low), float(high))


def block_size(cases: int) -> int:
    """Draws taken at once for so many cases."""
    return max(1, BLOCK_VALUES // max(1, cases))


def in_blocks(rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Rows (N,) stacked into blocks (B, N) of bounded size."""
    block: list[np.ndarray] = []
    for row in rows:
        block.append(row)
        if len(block) >= block_size(len(row)):
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)


def label_permuter(truth: np.ndarray, patients: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that gives the labels (N,) permuted within what may be exchanged.

    Block permutation (Winkler et al. 2015, NeuroImage 123): patients with one label each exchange it as a whole; where
    a patient's cases differ, they exchange labels within the patient, and patients of equally many cases exchange
    their rows of labels.
    """
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
