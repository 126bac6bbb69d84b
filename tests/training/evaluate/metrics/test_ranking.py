"""AUROC, AP and balanced accuracy under weights: scikit-learn's figures, and what folds and weights mean."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from training.evaluate.metrics.ranking import Predictions, chance_levels, measure


def made(rng, cases=60, classes=2, runs=1, folds=1, rounded=None) -> Predictions:
    truth = rng.permutation(np.arange(cases) % classes)
    scores = rng.normal(size=(runs, cases, classes)) + 0.7 * np.eye(classes)[truth]
    scores = scores if rounded is None else np.round(scores, rounded)
    fold = np.stack([rng.permutation(np.arange(cases) % folds) for _ in range(runs)])
    return Predictions(truth, scores, fold, np.arange(cases).astype(str))


@pytest.mark.parametrize("rounded", [None, 0], ids=["distinct", "many ties"])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_fold_of_two_classes_is_scikit_learns(weighted, rounded):
    rng = np.random.default_rng(1)
    p = made(rng, runs=3, rounded=rounded)
    weights = rng.integers(0, 4, size=(5, 60)).astype(float) if weighted else np.ones((1, 60))
    auroc, ap, balanced = measure(p, weights)
    for b, weight in enumerate(weights):
        for r, scores in enumerate(p.probabilities):
            assert auroc[b, r] == pytest.approx(roc_auc_score(p.truth, scores[:, 1], sample_weight=weight))
            assert ap[b, r] == pytest.approx(average_precision_score(p.truth, scores[:, 1], sample_weight=weight))
            expected = balanced_accuracy_score(p.truth, scores.argmax(1), sample_weight=weight)
            assert balanced[b, r] == pytest.approx(expected)


def test_more_classes_are_means_over_one_against_the_rest():
    p = made(np.random.default_rng(2), classes=4)
    auroc, ap, balanced = measure(p, np.ones((1, 60)))[:, 0, 0]
    per_class = [(p.truth == k, p.probabilities[0, :, k]) for k in range(4)]
    assert auroc == pytest.approx(np.mean([roc_auc_score(*one) for one in per_class]))
    assert ap == pytest.approx(np.mean([average_precision_score(*one) for one in per_class]))
    assert balanced == pytest.approx(balanced_accuracy_score(p.truth, p.probabilities[0].argmax(1)))


def test_folds_are_ranked_apart():
    """AUROC weighs a fold by its pairs, AP by its positives: written out here with scikit-learn fold by fold."""
    p = made(np.random.default_rng(3), cases=50, folds=4)
    auroc, ap, _ = measure(p, np.ones((1, 50)))[:, 0, 0]
    parts = []
    for fold in range(4):
        mine = p.folds[0] == fold
        truth, score = p.truth[mine], p.probabilities[0, mine, 1]
        positives = truth.sum()
        parts.append((roc_auc_score(truth, score), average_precision_score(truth, score), positives, len(truth)))
    pairs = [n * (total - n) for _, _, n, total in parts]
    assert auroc == pytest.approx(np.average([part[0] for part in parts], weights=pairs))
    assert ap == pytest.approx(np.average([part[1] for part in parts], weights=[part[2] for part in parts]))


def test_another_scale_in_every_fold_changes_no_rank_figure():
    p = made(np.random.default_rng(4), folds=3, runs=2)
    stretched = p.probabilities * np.exp(p.folds)[..., None] + 10 * p.folds[..., None]
    other = Predictions(p.truth, stretched, p.folds, p.patients)
    ones = np.ones((1, 60))
    assert np.allclose(measure(p, ones), measure(other, ones))  # argmax survives too: both columns move alike


def test_a_weight_of_two_is_the_case_twice():
    p = made(np.random.default_rng(5), cases=30, folds=2)
    twice = np.append(np.arange(30), [3, 4])
    repeated = Predictions(p.truth[twice], p.probabilities[:, twice], p.folds[:, twice], p.patients[twice])
    weights = np.ones((1, 30))
    weights[0, [3, 4]] = 2
    assert np.allclose(measure(p, weights), measure(repeated, np.ones((1, 32))))


def test_without_a_pair_in_any_fold_rank_figures_are_undefined():
    truth = np.array([0, 0, 1, 1])
    p = Predictions(truth, np.random.default_rng(0).random((1, 4, 2)), truth[None], np.arange(4).astype(str))
    auroc, ap, balanced = measure(p, np.ones((1, 4)))[:, 0, 0]
    assert np.isnan(auroc) and np.isnan(ap) and np.isfinite(balanced)


def test_chance_levels_are_what_guessing_scores():
    """Measured with guesses on 4000 cases, 30 % of them positive."""
    rng = np.random.default_rng(6)
    truth = (rng.random(4000) < 0.3).astype(int)
    guesses = rng.random((1, 4000, 1))
    p = Predictions(truth, np.concatenate([1 - guesses, guesses], 2), np.zeros((1, 4000), int), np.arange(4000))
    measured = measure(p, np.ones((1, 4000)))[:, 0, 0]
    assert np.allclose(measured, list(chance_levels(truth, 2).values()), atol=0.04)


@pytest.mark.parametrize("broken", ["nan", "class", "shape"])
def test_nonsense_is_refused(broken):
    scores, truth, folds = np.zeros((1, 3, 2)), np.array([0, 1, 1]), np.zeros((1, 3), int)
    if broken == "nan":
        scores[0, 1, 0] = np.nan
    elif broken == "class":
        truth = np.array([0, 1, 2])
    else:
        folds = np.zeros((2, 3), int)
    with pytest.raises(ValueError):
        Predictions(truth, scores, folds, np.arange(3))
