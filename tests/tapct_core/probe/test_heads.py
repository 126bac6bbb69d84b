"""The logistic head is scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.probe.heads import fit_from, fit_logistic
from tapct_core.probe.upsample import softmax

KNOWN = np.zeros(3, bool)


def samples(n: int = 300, dim: int = 12, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, classes, n)
    return (rng.normal(size=(classes, dim))[index] + rng.normal(size=(n, dim))).astype(np.float32), index


def test_two_classes_of_the_logistic_head_equal_scikit_learns_own():
    from sklearn.linear_model import LogisticRegression

    x, index = samples(classes=2)
    weights, constants = fit_logistic(x, index, np.arange(len(x)), np.zeros((12, 2)), np.zeros(2))
    share = 0.5 / np.bincount(index)[index]
    rival = LogisticRegression(C=0.5 * len(x), tol=1e-6, max_iter=500).fit(x, index, sample_weight=share)
    np.testing.assert_allclose(weights[:, 1] - weights[:, 0], rival.coef_[0], rtol=0.02, atol=0.01)
    assert constants[1] - constants[0] == pytest.approx(rival.intercept_[0], abs=0.02)


def test_weights_that_explain_new_samples_are_left_nearly_as_they_are():
    x, index = samples()
    weights, constants = fit_logistic(x, index, np.arange(len(x)), np.zeros((12, 3)), np.zeros(3))
    sure = np.argmax(x @ weights + constants, axis=1)
    far = (x @ weights + constants).max(axis=1) > 4
    moved, shifted = fit_from(x[far], sure[far], np.zeros(far.sum(), int), weights, constants, KNOWN)
    assert np.abs(moved - weights).max() < 0.1 * np.abs(weights).max() and np.abs(shifted - constants).max() < 0.1


def test_samples_of_one_class_pull_towards_it_and_many_strokes_pull_more():
    x, index = samples()
    weights, constants = fit_logistic(x, index, np.arange(len(x)), np.zeros((12, 3)), np.zeros(3))
    wrong = x[index == 0][:5]
    shares = []
    for groups in (np.zeros(5, int), np.arange(5)):
        moved, shifted = fit_from(wrong, np.full(5, 2), groups, weights, constants, KNOWN)
        shares.append(softmax((wrong @ moved + shifted).T)[2].mean())
    assert softmax((wrong @ weights + constants).T)[2].mean() < shares[0] < shares[1]
