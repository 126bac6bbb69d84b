"""The logistic head is scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.probe.heads import fit_logistic


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
