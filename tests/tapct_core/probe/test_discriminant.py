"""The closed form against scikit-learn, in both of its systems of equations, and the choice of its penalty."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.probe.discriminant import Moments, Pooled, assign_folds, choose_penalty, discriminant


def samples(n: int = 300, dim: int = 12, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, classes, n)
    return (rng.normal(size=(classes, dim))[index] + rng.normal(size=(n, dim))).astype(np.float32), index


def test_the_closed_form_is_scikit_learns_shrunk_discriminant():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, index = samples()
    moments = Moments.of(x, index, 3)
    weights, constants = discriminant(moments.means, moments.within(), 1e-6)
    # scikit-learn weights classes by the priors it is given, also within the pooled covariance.
    rival = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(x, index)
    np.testing.assert_allclose(weights, rival.coef_.T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(constants - constants[0], rival.intercept_ - rival.intercept_[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [20, 39, 40, 90])
@pytest.mark.parametrize("penalty", [1e-2, 3.0])
def test_few_samples_are_solved_among_themselves_with_the_same_answer(n, penalty):
    x, index = samples(n=n, dim=40)
    moments, few = Moments.of(x, index, 3), Pooled.of(x, index)
    assert few.gram.shape == (min(n, 40), min(n, 40))
    for found, expected in zip(
        few.discriminant(penalty), discriminant(moments.means, moments.within(), penalty), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_three_classes_in_a_row_do_not_mask_each_other():
    """Indicator regression never chooses the middle one of three classes along a line; this form must."""
    rng = np.random.default_rng(0)
    index = np.repeat([0, 1, 2], 200)
    x = (3.0 * index[:, None] + 0.3 * rng.normal(size=(600, 1))).astype(np.float32)
    moments = Moments.of(x, index, 3)
    weights, constants = discriminant(moments.means, moments.within(), 1e-3)
    assert ((x @ weights + constants).argmax(axis=1) == index).mean() > 0.99


def test_moments_of_parts_add_up_also_far_from_zero():
    x, index = samples()
    x = x + 1000
    parts = Moments.of(x[:100], index[:100], 3) + Moments.of(x[100:], index[100:], 3)
    whole = Moments.of(x, index, 3)
    np.testing.assert_allclose(parts.means, whole.means, rtol=1e-6)
    np.testing.assert_allclose(parts.scatter, whole.scatter, rtol=1e-2, atol=0.1)
    wider = whole.spread(np.array([0, 2, 3]), 4)
    assert wider.counts[1] == 0 and np.array_equal(wider.means[3], whole.means[2])


def test_groups_are_left_out_whole_and_lonely_ones_never():
    index, groups = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, 6, 7, 8, 9])
    folds = assign_folds(index, groups)
    assert folds[0] == folds[1] != folds[2] and folds[3] != folds[4] and folds[5] == -1


def test_noise_asks_for_more_penalty_than_signal():
    x, index = samples(n=60, dim=40)
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    groups = np.arange(60)
    clear = choose_penalty(3 * x, index, groups)
    lost = choose_penalty(noise, index, groups)
    assert lost[0] > clear[0] or lost[1] < clear[1]


def test_a_covariance_that_rounding_left_below_zero_is_solved_all_the_same():
    """Sums in float32 of columns a thousand deviations long leave eigenvalues under the penalty's own size."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    within = turn @ np.diag([1e6, 1.0, 0.5, -0.3]) @ turn.T
    weights, constants = discriminant(np.eye(3, 4), within, 1e-2)
    assert np.isfinite(weights).all() and np.isfinite(constants).all()
    kept = np.diag([1e6, 1.0, 0.5, 0.0])
    np.testing.assert_allclose(weights, np.linalg.solve(turn @ (kept + 1e-2 * np.eye(4)) @ turn.T, np.eye(3, 4).T))
