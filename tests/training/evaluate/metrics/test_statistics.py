"""Intervals cover, tests hold their level and see real differences, and words say what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.metrics.ranking import Predictions
from training.evaluate.metrics.statistics import (
    Interval,
    chance_test,
    figures,
    holm,
    interval,
    retrained_test,
    run_values,
    verdict,
)


def made(seed: int, gain: float, patients=40, each=1, runs=4, folds=4) -> Predictions:
    """Labels by patient; scores hold ``gain`` standard deviations of the truth, and noise that runs partly share."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), each)
    truth = (rng.permutation(patients) % 2)[patient]
    cases = patients * each
    shared = rng.normal(size=patients)[patient] + 0.3 * rng.normal(size=cases)
    score = gain * truth + shared + 0.2 * rng.normal(size=(runs, cases))
    fold = np.stack([(rng.permutation(patients) % folds)[patient] for _ in range(runs)])
    return Predictions(truth, np.stack([-score, score], axis=2), fold, patient.astype(str))


def test_a_perfect_classifier_scores_one_and_says_so():
    p = made(0, 50.0)
    found = figures(p, draws=200)
    assert found["auroc"] == Interval(1.0, 1.0, 1.0) and found["ap"].value == 1.0
    assert chance_test(p, 199) == pytest.approx(1 / 200)
    assert verdict(found["auroc"], 0.005, 20).startswith("better than chance")


def test_a_guessing_classifier_cannot_be_told_from_chance():
    p = made(1, 0.0)
    found = figures(p, draws=300)
    assert found["auroc"].low < 0.5 < found["auroc"].high
    assert verdict(found["auroc"], chance_test(p, 199), 20).startswith("indistinguishable from chance")


def test_intervals_of_guesses_cover_a_half_about_as_often_as_they_claim():
    """120 experiments, four scans a patient: 95 % intervals by patient miss 0.5 in 1 to 11 %; by scan far more."""
    missed = {"patient": 0, "scan": 0}
    for seed in range(120):
        p = made(seed, 0.0, patients=30, each=4, runs=1, folds=1)
        by_scan = Predictions(p.truth, p.probabilities, p.folds, np.arange(len(p.truth)))
        for name, one in (("patient", p), ("scan", by_scan)):
            found = figures(one, draws=200, seed=seed)["auroc"]
            missed[name] += not found.low <= 0.5 <= found.high
    assert 0.01 <= missed["patient"] / 120 <= 0.11
    assert missed["scan"] / 120 > 0.2


def test_the_chance_test_holds_its_level_by_patient():
    """Under no effect, p < 0.05 in about 5 % of 200 experiments, though a patient's scans share their score."""
    p_values = [chance_test(made(s, 0.0, patients=24, each=3, runs=1, folds=1), 99, seed=s) for s in range(200)]
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.10


def test_labels_that_differ_within_a_patient_are_exchanged_within():
    """Candidates of a scan: scores tell scans apart and nothing else, and every scan has its own share of positives.

    Pooled, such scores look better than chance; exchanged within the scan they do not.
    """
    rng = np.random.default_rng(2)
    sizes, shares = np.arange(20, 40), np.linspace(0.1, 0.6, 20)
    patient = np.repeat(np.arange(20), sizes)
    truth = np.concatenate([rng.permutation(np.arange(n) < s * n) for n, s in zip(sizes, shares, strict=True)])
    score = shares[patient] + 0.01 * rng.normal(size=len(patient))
    known = score + 1.0 * truth
    for values, low, high in ((score, 0.05, 1.0), (known, 0.0, 0.02)):
        scores = np.stack([-values, values], axis=1)[None]
        p = chance_test(Predictions(truth.astype(int), scores, np.zeros((1, len(truth)), int), patient), 199)
        assert low < p <= high


def test_run_values_are_the_runs_and_their_mean_is_the_figure():
    p = made(3, 1.0)
    each = run_values(p)
    assert len(each["auroc"]) == 4
    assert np.mean(each["auroc"]) == pytest.approx(figures(p, draws=10)["auroc"].value)


def test_more_spread_between_runs_widens_the_interval():
    p = made(4, 1.0, runs=2)
    steady = Predictions(p.truth, p.probabilities[[0, 0]], p.folds[[0, 0]], p.patients)
    bad = np.stack([p.probabilities[0], -p.probabilities[0]])
    shaky = Predictions(p.truth, bad, p.folds[[0, 0]], p.patients)

    def width(one):
        found = figures(one, draws=300)["auroc"]
        return found.high - found.low

    assert width(shaky) > 1.5 * width(steady)


def test_holm_adjusts_by_the_number_of_rows():
    assert holm([0.01, 0.04, 0.03, float("nan")])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(holm([0.01, float("nan")])[1]) and holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_an_interval_of_any_figure_goes_by_patient():
    values = np.array([1.0, 1.0, 1.0, 5.0, 5.0, 5.0])
    wide = interval(values, np.repeat(["a", "b"], 3), lambda v: float(v.mean()), draws=200)
    narrow = interval(values, np.arange(6), lambda v: float(v.mean()), draws=200)
    assert wide.value == narrow.value == 3.0
    assert (wide.low, wide.high) == (1.0, 5.0) and narrow.high - narrow.low < 4.0
    assert np.isnan(interval(np.zeros(0), np.zeros(0), np.mean).value)


def test_words_for_what_cannot_be_judged():
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    assert "cannot be judged" in verdict(nothing, 0.01, 3)
    assert "too narrow" in verdict(Interval(0.9, 0.8, 1.0), 0.01, 4)
    assert "too narrow" not in verdict(Interval(0.9, 0.8, 1.0), 0.01, 30)
    assert "indistinguishable" in verdict(Interval(0.6, 0.52, 0.7), 0.06, 30)
    assert nothing.text() == "–" and Interval(0.5, 0.25, 0.75).text(2) == "0.50 (0.25–0.75)"


def test_permutations_that_train_again_adjust_for_the_number_of_rows():
    """p of each row against the largest of all rows in every permutation, as Westfall and Young have it."""
    permuted = np.array([[0.5, 0.6, 0.4, 0.55], [0.45, 0.7, 0.5, float("nan")]])
    assert retrained_test([0.95, 0.65, 0.5], np.vstack([permuted, permuted[:1]])) == [1 / 5, 2 / 5, 5 / 5]
    assert retrained_test([0.58], permuted[:1]) == [2 / 5]
    assert np.isnan(retrained_test([float("nan"), 0.9], permuted)[0])
    assert "below chance" in verdict(Interval(0.2, 0.1, 0.4), 1.0, 30)


def test_too_few_permutations_are_not_taken_for_no_effect():
    clear = Interval(0.95, 0.9, 1.0)
    assert "cannot be judged" in verdict(clear, 1 / 20, 30, least=1 / 20)
    assert verdict(clear, 1 / 40, 30, least=1 / 40).startswith("better than chance")
    assert verdict(clear, 0.2, 30, least=1 / 40).startswith("indistinguishable")
