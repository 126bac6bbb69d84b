"""Rigid and affine motions from point pairs that are partly wrong: iteratively reweighted least squares.

Motions are (3, 4) matrices on LPS mm: b = m[:, :3] a + m[:, 3].
"""

from __future__ import annotations

import numpy as np

IDENTITY = np.eye(3, 4)


def apply(motion: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A motion (3, 4) on points (..., 3)."""
    return points @ motion[:, :3].T + motion[:, 3]


def fit_rigid(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted least-squares rotation and translation a -> b, points (N, 3) (Kabsch 1976)."""
    weights = weights / max(weights.sum(), 1e-12)
    mean_a, mean_b = weights @ a, weights @ b
    u, _, vt = np.linalg.svd((weights[:, None] * (b - mean_b)).T @ (a - mean_a))
    rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return np.column_stack([rotation, mean_b - rotation @ mean_a])


def ransac_rigid(
    a: np.ndarray, b: np.ndarray, tolerance_mm: float, rng: np.random.Generator, tries: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """The rigid motion on which most pairs agree -> motion, inliers (N,) bool (Fischler and Bolles 1981)."""
    best, agreed = IDENTITY, np.zeros(len(a), dtype=bool)
    for _ in range(tries if len(a) >= 3 else 0):
        chosen = rng.choice(len(a), 3, replace=False)
        motion = fit_rigid(a[chosen], b[chosen], np.ones(3))
        inliers = np.linalg.norm(apply(motion, a) - b, axis=1) < tolerance_mm
        if inliers.sum() > agreed.sum():
            best, agreed = motion, inliers
    if agreed.sum() >= 3:
        best = fit_rigid(a[agreed], b[agreed], np.ones(agreed.sum()))
    return best, agreed


def local_affines(
    at: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray,
    base: np.ndarray,
    scale_mm: float,
    rounds: int = 5,
    stiffness: float = 0.05,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Robust affine motion round each of Q places from M weighted pairs.

    ``at`` (Q, 3); ``a`` and ``b`` (M, 3), or (Q, M, 3) where every place has pairs of its own; ``weights`` (Q, M);
    ``base`` (Q, 3, 4) the motion each fit is pulled to where pairs are few. Residuals beyond ``scale_mm`` lose
    weight (Cauchy). -> positions of ``at`` in b (Q, 3), linear parts (Q, 3, 3), weighted residuals (Q,) in mm.
    """
    wanted = b - (a @ base[:, :, :3].transpose(0, 2, 1) + base[:, None, :, 3])  # what the base motion leaves over
    offset = a - at[:, None]
    squared = np.einsum("qmc,qmc->qm", offset, offset)
    reach = np.sqrt((weights * squared).sum(1) / np.maximum(weights.sum(1), 1e-9) / 3).clip(1.0)
    design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset / reach[:, None, None]], axis=2)
    ridge = stiffness * np.diag([1e-3, 1.0, 1.0, 1.0])
    robust = weights
    for _ in range(rounds):
        weighted = design * robust[..., None]
        normal = np.matmul(weighted.transpose(0, 2, 1), design)
        total = robust.sum(1)[:, None, None].clip(1e-6)
        # The ridge acts like `stiffness` of the pairs' weight and one pair more, all voting for the base motion.
        solution = np.linalg.solve(normal + ridge * (total + 1.0), np.matmul(weighted.transpose(0, 2, 1), wanted))
        left = wanted - np.matmul(design, solution)
        residual = np.sqrt(np.einsum("qmc,qmc->qm", left, left))
        robust = weights / (1 + (residual / scale_mm) ** 2)
    moved = np.einsum("qij,qj->qi", base[:, :, :3], at) + base[:, :, 3] + solution[:, 0]
    linear = base[:, :, :3] + (solution[:, 1:] / reach[:, None, None]).transpose(0, 2, 1)
    spread = np.sqrt((robust * residual**2).sum(1) / np.maximum(robust.sum(1), 1e-9))
    return moved, linear, spread


def fit_affine(a: np.ndarray, b: np.ndarray, weights: np.ndarray, base: np.ndarray, scale_mm: float) -> np.ndarray:
    """One robust affine motion for all pairs, pulled gently to ``base`` (3, 4)."""
    centre = a.mean(axis=0)
    moved, linear, _ = local_affines(centre[None], a, b, weights[None], base[None], scale_mm, stiffness=0.02)
    return np.column_stack([linear[0], moved[0] - linear[0] @ centre])
