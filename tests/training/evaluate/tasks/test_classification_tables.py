"""What is said of predictions: curves are scikit-learn's, words follow the numbers, nothing undefined is printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from training.evaluate.datasets.cases import Case, Dataset
from training.evaluate.datasets.labelled import Labelled, Target
from training.evaluate.heads.cross_validation import Problem
from training.evaluate.metrics.ranking import Predictions
from training.evaluate.report.tables import markdown
from training.evaluate.tasks.classification_tables import Judged, roc_curve, summarise


def predictions(gain=1.0, seed=0, cases=40, folds=1, runs=2) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2
    score = gain * truth + rng.normal(size=(runs, cases))
    fold = np.tile(np.arange(cases) // 2 % folds, (runs, 1))
    return Predictions(truth, np.stack([-score, score], axis=2), fold, np.arange(cases).astype(str))


def said(*judged: Judged, classes=2):
    truth = judged[0].predictions.truth
    patients = judged[0].predictions.patients
    cases = tuple(Case(str(n), Path("ct")) for n in range(len(truth)))
    targets = {case.id: Target(np.array([label])) for case, label in zip(cases, truth, strict=True)}
    labelled = Labelled(Dataset("set", cases, note="From here."), targets, tuple("abc"[:classes]))
    return summarise(labelled, Problem(truth, patients, classes), 0, judged, {"x": "is broken"})


def test_one_folds_curve_is_scikit_learns():
    p = predictions(runs=1)
    curve = np.array(roc_curve(p))
    false, true, _ = metrics.roc_curve(p.truth, p.probabilities[0, :, 1])
    assert np.allclose(curve[1:, 1], np.interp(curve[1:, 0], false, true))
    assert metrics.auc(*curve.T) == pytest.approx(metrics.roc_auc_score(p.truth, p.probabilities[0, :, 1]), abs=0.02)
    assert (np.diff(curve[:, 1]) >= 0).all() and curve[-1].tolist() == [1.0, 1.0]


def test_curves_are_of_folds_each_on_its_own_scale():
    p = predictions(folds=4)
    moved = Predictions(p.truth, p.probabilities + 100 * p.folds[..., None], p.folds, p.patients)
    assert np.allclose(roc_curve(p), roc_curve(moved))
    assert all(y == 1 for _, y in roc_curve(predictions(gain=100.0, folds=4)))


def test_what_is_said_follows_from_the_numbers():
    good, guess = Judged("A", "cls", predictions(3.0), [1.0]), Judged("B", "cls", predictions(0.0, 1), [0.1])
    results = said(good, guess)
    assert any(w.startswith("A, linear on the class token: better than chance") for w in results.words)
    assert any(w.startswith("B, linear on the class token: indistinguishable from chance") for w in results.words)
    assert any("A is better than B" in w for w in results.words)
    assert [table.title for table in results.tables] == ["Classification, set", "Encoders compared"]
    assert set(results.curves[0].lines) == {"A, cls", "B, cls"} and results.left_out == {"x": "is broken"}
    assert results.notes == ["From here.", results.notes[1]] and "A, cls: 1 (1)" in results.notes[1]


def test_heads_of_one_encoder_are_not_compared_as_encoders():
    results = said(Judged("A", "cls", predictions(), [1.0]), Judged("A", "mean", predictions(), [1.0]))
    assert len(results.tables) == 1 and set(results.curves[0].lines) == {"cls", "mean"}


def test_three_classes_have_no_curve():
    rng = np.random.default_rng(0)
    p = Predictions(np.arange(30) % 3, rng.normal(size=(1, 30, 3)), np.zeros((1, 30), int), np.arange(30).astype(str))
    results = said(Judged("A", "cls", p, [1.0]), classes=3)
    assert results.curves == [] and "0.333" in markdown(results.tables[0])


def test_folds_without_both_classes_are_said_to_judge_nothing():
    truth = np.repeat([0, 1], 10)
    score = np.random.default_rng(0).normal(size=(1, 20))
    p = Predictions(truth, np.stack([-score, score], 2), truth[None], np.arange(20).astype(str))
    results = said(Judged("A", "cls", p, [1.0]), Judged("B", "cls", p, [1.0]))
    assert any("cannot be judged" in w for w in results.words) and any("cannot be compared" in w for w in results.words)
    assert "nan" not in "".join(map(markdown, results.tables))
