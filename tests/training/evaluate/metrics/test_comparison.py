"""Two encoders compared: a difference is seen, none is not invented, and the order of the two does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tests.training.evaluate.metrics.test_statistics import made
from training.evaluate.metrics.comparison import (
    Difference,
    _auroc_of_ranks,
    _fold_ranks,
    compare,
    comparison_words,
    corrected_t,
)
from training.evaluate.metrics.ranking import Predictions
from training.evaluate.metrics.statistics import Interval, figures


def test_swapping_two_encoders_changes_the_sign_and_nothing_else():
    a, b = made(5, 1.5), made(5, 0.4)
    there, back = compare(a, b, draws=300), compare(b, a, draws=300)
    assert there.auroc.value == pytest.approx(-back.auroc.value) and there.p == back.p
    assert there.auroc.low == pytest.approx(-back.auroc.high) and there.auroc.high == pytest.approx(-back.auroc.low)


def test_a_real_difference_is_seen_and_none_is_not_invented():
    good, poor = made(6, 3.0, patients=60), made(6, 0.2, patients=60)
    seen = compare(good, poor, draws=400)
    assert seen.p < 0.05 and seen.auroc.low > 0
    assert comparison_words("A", "B", seen).startswith("A is better than B")
    same = compare(good, good, draws=100)
    assert same.auroc.value == 0 and same.p == 1.0
    assert "cannot be told apart" in comparison_words("A", "B", same)


@pytest.mark.slow
def test_the_paired_test_holds_its_level():
    """Two encoders of equal worth with own noise: p < 0.05 in about 5 % of 200 experiments."""
    p_values = []
    for seed in range(200):
        a = made(seed, 1.0, patients=30, runs=1, folds=1)
        noise = np.random.default_rng(9000 + seed).normal(size=(1, 30))
        other = a.truth + noise
        b = Predictions(a.truth, np.stack([-other, other], axis=2), a.folds, a.patients)
        p_values.append(compare(a, b, draws=99, seed=seed).p)
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.10


def test_ranks_on_other_scales_do_not_matter_to_the_comparison():
    a, b = made(7, 1.5), made(7, 0.5)
    squeezed = Predictions(b.truth, np.tanh(b.probabilities / 50), b.folds, b.patients)
    assert compare(a, b, draws=99) == compare(a, squeezed, draws=99)


def test_other_cases_cannot_be_compared():
    with pytest.raises(ValueError, match="same cases"):
        compare(made(0, 1.0), made(1, 1.0))


def test_exchanged_ranks_give_the_auroc_of_the_mixture():
    """The quick count of the paired test against the figures' own code, with ties and several folds."""
    rng = np.random.default_rng(0)
    folds = rng.permutation(np.arange(40) % 3)
    positive = rng.random(40) < 0.4
    scores = np.round(rng.normal(size=(5, 40)), 1)
    ranks = np.stack([_fold_ranks(row, folds) for row in scores])
    for row, found in zip(scores, _auroc_of_ranks(ranks, positive, folds), strict=True):
        p = Predictions(positive.astype(int), np.stack([-row, row], axis=1)[None], folds[None], np.arange(40))
        assert found == pytest.approx(figures(p, draws=1)["auroc"].value)
    assert np.isnan(_auroc_of_ranks(ranks, np.zeros(40, bool), folds)).all()


def test_the_corrected_t_test_is_student_s_with_a_wider_spread():
    values = np.random.default_rng(0).normal(0.3, 1, size=(1, 8))
    plain = ttest_1samp(values[0], 0).statistic
    widened = plain * np.sqrt((1 / 8) / (1 / 8 + 1 / 7))
    from scipy.stats import t

    assert corrected_t(values) == pytest.approx(2 * t.sf(abs(widened), 7))
    assert corrected_t(np.zeros((2, 3))) == 1.0 and np.isnan(corrected_t(np.zeros((4, 1))))
    holed = np.append(values, np.nan)[None]
    assert np.isfinite(corrected_t(holed)) and np.isnan(corrected_t(np.full((2, 2), np.nan)))


def test_words_for_what_cannot_be_compared():
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    assert "cannot be compared" in comparison_words("A", "B", Difference(nothing, float("nan")))
