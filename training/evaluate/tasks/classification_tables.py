"""The tables of a classification, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from ..datasets.labelled import Labelled
from ..heads.classifiers import HEADS
from ..heads.cross_validation import Problem
from ..metrics.comparison import compare, comparison_words
from ..metrics.ranking import METRICS, Predictions, chance_levels
from ..metrics.statistics import Interval, chance_test, figures, holm, retrained_test, run_values, verdict
from ..report.tables import Curves, Results, Table, cell

ENOUGH_RUNS = 20

COLUMNS = (
    "encoder", "head", "AUROC (95 %)", "AUROC, sd of runs", "AP (95 %)", "balanced accuracy (95 %)", "p against chance"
)  # fmt: skip
PAIR_COLUMNS = ("head", "first", "second", "AUROC difference (95 %)", "p")
PAIR_CAPTION = (
    "First less second, on the same cases, folds and runs. Interval: paired bootstrap over patients and runs. p: "
    "two-sided, the larger of two tests, exchange of the encoders' within-fold ranks patient by patient (Bandos et al. "
    "2005) and the corrected t test over folds (Nadeau & Bengio 2003), adjusted for the number of pairs (Holm 1979)."
)


@dataclass(frozen=True)
class Judged:
    """One row of the table: an encoder and a head, what they said, the settings chosen in all folds of all runs, and
    AUROC of runs with permuted labels, by their names, which all rows share."""

    row: str
    head: str
    predictions: Predictions
    settings: list[float]
    permuted: Mapping[str, float | None] = field(default_factory=dict)


def summarise(
    labelled: Labelled, problem: Problem, seed: int, judged: Sequence[Judged], broken: Mapping[str, str]
) -> Results:
    """All that the task has to say. ``judged`` hold the same cases, and equal runs within a head."""
    dataset = labelled.dataset
    table, words = _table(dataset.name, problem, seed, judged)
    pairs, pair_words = _pairs(judged)
    runs = len(judged[0].predictions.probabilities)
    if runs < ENOUGH_RUNS:
        words.append(f"only {runs} runs: heads on few cases vary, so {ENOUGH_RUNS} or more are needed for a table")
    notes = [note for note in (dataset.note, *dataset.left_out, _settings_note(judged)) if note]
    tables = [table, *([pairs] if pairs.rows else [])]
    curves = [_roc(judged)] if problem.classes == 2 else []
    return Results("classification", dataset.name, tables, curves, words + pair_words, dict(broken), notes)


def _table(name: str, problem: Problem, seed: int, judged: Sequence[Judged]) -> tuple[Table, list[str]]:
    chance = chance_levels(judged[0].predictions.truth, problem.classes)
    estimates = [figures(one.predictions) for one in judged]
    p_values = _against_chance(judged, [found["auroc"].value for found in estimates])
    least = 1 / (1 + len(_shared_permutations(judged))) if _shared_permutations(judged) else 0.0
    rows, words = [], []
    for one, found, p in zip(judged, estimates, p_values, strict=True):
        auroc, ap, accuracy = (_cell(found[metric]) for metric in METRICS)
        rows.append([one.row, one.head, auroc, float(np.std(run_values(one.predictions)["auroc"])), ap, accuracy, p])
        said = verdict(found["auroc"], p, problem.smallest_class(), least)
        words.append(f"{one.row}, {HEADS[one.head].words}: {said}")
    auroc, ap, accuracy = (cell(chance[metric]) for metric in METRICS)
    rows.append(["guessing", "", auroc, None, ap, accuracy, None])
    return Table(f"Classification, {name}", COLUMNS, rows, _caption(problem, seed, judged)), words


def _against_chance(judged: Sequence[Judged], aurocs: Sequence[float]) -> list[float]:
    """p of every row, adjusted for their number."""
    names = _shared_permutations(judged)
    if not names:
        return holm([chance_test(one.predictions) for one in judged])
    return retrained_test(aurocs, np.array([[one.permuted[name] for name in names] for one in judged], dtype=float))


def _shared_permutations(judged: Sequence[Judged]) -> list[str]:
    return [name for name in judged[0].permuted if all(name in one.permuted for one in judged)]


def _pairs(judged: Sequence[Judged]) -> tuple[Table, list[str]]:
    """Every two encoders under every head."""
    pairs = [(a, b) for a, b in combinations(judged, 2) if a.head == b.head]
    found = [compare(a.predictions, b.predictions) for a, b in pairs]
    found = [replace(one, p=p) for one, p in zip(found, holm([one.p for one in found]), strict=True)]
    rows, words = [], []
    for (a, b), one in zip(pairs, found, strict=True):
        rows.append([a.head, a.row, b.row, _cell(one.auroc), one.p])
        words.append(f"{HEADS[a.head].words}: {comparison_words(a.row, b.row, one)}")
    return Table("Encoders compared", PAIR_COLUMNS, rows, PAIR_CAPTION), words


def _roc(judged: Sequence[Judged]) -> Curves:
    """One line a row of the table."""
    several = len({one.row for one in judged}) > 1
    lines = {f"{one.row}, {one.head}" if several else one.head: roc_curve(one.predictions) for one in judged}
    return Curves("Receiver operating characteristic, mean over folds and runs", "false positives", "found", lines)


def roc_curve(predictions: Predictions) -> list[list[float]]:
    """Points [share of false positives, share of positives found] of two classes, averaged at equal false positives.

    Each fold of each run has its own curve, as it has its own classifier; they weigh by their positives (Fawcett 2006,
    "An introduction to ROC analysis", Pattern Recognition Letters 27, vertical averaging).
    """
    from sklearn import metrics

    grid = np.linspace(0, 1, 51)
    found, total = np.zeros(len(grid)), 0
    for scores, folds in zip(predictions.probabilities, predictions.folds, strict=True):
        for fold in np.unique(folds):
            truth, score = predictions.truth[folds == fold], scores[folds == fold, 1]
            if 0 < truth.sum() < len(truth):
                false, true, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
                # At false = 0 the curve climbs straight up: the mean there is of its upper end.
                found += truth.sum() * np.interp(grid, false, true)
                total += int(truth.sum())
    return [[float(x), float(y)] for x, y in zip(grid, found / max(1, total), strict=True)]


def _cell(found: Interval) -> dict:
    return cell(found.value, found.low, found.high)


def _caption(problem: Problem, seed: int, judged: Sequence[Judged]) -> str:
    predictions = judged[0].predictions
    runs, tested, _ = predictions.probabilities.shape
    folds = len(np.unique(predictions.folds[0]))
    if problem.own_folds is not None:
        where = f"the data set's own {folds} folds" if folds > 1 else "the data set's own split"
    else:
        where = f"{folds} folds drawn by patient anew for every run (seed {seed})"
    return (
        f"{tested} samples of {len(np.unique(predictions.patients))} patients tested, {runs} runs on {where}, settings "
        "chosen by inner cross-validation. Figures are means over runs, ranks taken within folds; intervals: 95 %, "
        f"bootstrap over patients and runs, heads not trained again. p: {_test_words(judged)}."
    )


def _test_words(judged: Sequence[Judged]) -> str:
    count = len(_shared_permutations(judged))
    if count:
        return (
            f"{count} runs with labels permuted by patient, trained anew, adjusted for the number of rows (Westfall & "
            "Young 1993)"
        )
    return (
        "labels permuted by patient under finished predictions, which with few cases is too ready to see something, "
        "adjusted for the number of rows (Holm 1979)"
    )


def _settings_note(judged: Sequence[Judged]) -> str:
    """Which settings inner cross-validation chose."""
    parts = []
    for one in judged:
        counts = {setting: one.settings.count(setting) for setting in sorted(set(one.settings))}
        parts.append(f"{one.row}, {one.head}: " + ", ".join(f"{s:g} ({n})" for s, n in counts.items()))
    return f"Settings chosen (penalty, or steps of attention, and how often): {'; '.join(parts)}."
