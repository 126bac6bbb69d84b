"""The settled head: multinomial logistic regression, started from the closed form."""

from __future__ import annotations

import numpy as np

from .sampling import class_weights

INVERSE_PENALTY = 0.5
"""C of scikit-learn, for sample weights that sum to 1, divided by the number of independent groups of samples: ten
strokes say more than the thousand voxels that they cover. Chosen on dev patients."""
MOST_STEPS = 200


def fit_logistic(
    x: np.ndarray, index: np.ndarray, groups: np.ndarray, weights: np.ndarray, constants: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (D, K) and constants (K,) of the smallest weighted cross-entropy plus ridge penalty, by LBFGS.

    ``x`` (N, D) standardised columns, ``index`` (N,) classes, which get equal weight; ``groups`` (N,) the stroke
    or place of each; ``weights`` and ``constants`` to start from. Deterministic.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    strength = INVERSE_PENALTY * len(np.unique(groups))
    model = LogisticRegression(C=strength, max_iter=MOST_STEPS, tol=1e-4, warm_start=True)
    two = weights.shape[1] == 2
    # scikit-learn keeps one row for two classes: the difference of both.
    start = (weights[:, 1:] - weights[:, :1], constants[1:] - constants[:1]) if two else (weights, constants)
    model.classes_ = np.arange(weights.shape[1])
    model.coef_, model.intercept_ = start[0].T.astype(np.float32).copy(), start[1].astype(np.float32).copy()
    with warnings.catch_warnings():
        # Stopping after MOST_STEPS is meant: by then labels, not steps, limit the result.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, index, sample_weight=class_weights(index, weights.shape[1]))
    if two:
        return np.hstack([-0.5 * model.coef_.T, 0.5 * model.coef_.T]), np.array([-0.5, 0.5]) * model.intercept_
    return model.coef_.T, model.intercept_
