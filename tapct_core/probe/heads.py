"""The settled head: multinomial logistic regression, started from the closed form, or held to weights there are."""

from __future__ import annotations

import numpy as np

from .sampling import class_weights

INVERSE_PENALTY = 0.5
"""C of scikit-learn, for sample weights that sum to 1, divided by the number of independent groups of samples: ten
strokes say more than the thousand voxels that they cover. Chosen on dev patients."""
CORRECTION_VARIANCE = 0.01
"""Of each weight, a stroke, when strokes correct a probe whose own labels are not here. With more, one correct stroke
cost up to 0.04 (at 0.02) and 0.27 (at 0.5) of Dice over a scan of known fields; so it costs under 0.01."""
MOST_STEPS = 200


def fit_logistic(
    x: np.ndarray,
    index: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray,
    constants: np.ndarray,
    inverse_penalty: float = INVERSE_PENALTY,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (D, K) and constants (K,) of the smallest weighted cross-entropy plus ridge penalty, by LBFGS.

    ``x`` (N, D) standardised columns, ``index`` (N,) classes, which get equal weight; ``groups`` (N,) the stroke
    or place of each; ``weights`` and ``constants`` to start from; ``inverse_penalty`` a group. Deterministic.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    strength = inverse_penalty * len(np.unique(groups))
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


def fit_from(
    x: np.ndarray, index: np.ndarray, groups: np.ndarray, weights: np.ndarray, constants: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and constants that fit new samples and stay near the given ones, whose own samples are not here.

    As :func:`fit_logistic`, but the ridge penalty is on what is *added* (constants too): the posterior mode with the
    given weights as the prior's mean. ``new`` (K,) bool: classes that the given weights do not know, which learn as
    freely as there. One class alone may be in ``index``. Deterministic.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    rows = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
    base = rows[:, :-1] @ weights + constants
    share = class_weights(index, weights.shape[1]) if len(np.unique(index)) > 1 else np.full(len(x), 1.0 / len(x))
    share = share / share.sum()
    softness = np.where(new, INVERSE_PENALTY, CORRECTION_VARIANCE) * len(np.unique(groups))
    truth = np.eye(weights.shape[1])[index]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        added = flat.reshape(rows.shape[1], -1)
        logs = log_softmax(base + rows @ added, axis=1)
        value = -(share * (truth * logs).sum(axis=1)).sum() + (added**2 / (2 * softness)).sum()
        slope = rows.T @ (share[:, None] * (np.exp(logs) - truth)) + added / softness
        return value, slope.ravel()

    start = np.zeros(rows.shape[1] * weights.shape[1])
    added = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS}).x
    added = added.reshape(rows.shape[1], -1)
    return weights + added[:-1], constants + added[-1]
