"""Motions from pairs that are partly wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.matching.affine import IDENTITY, apply, fit_affine, fit_rigid, local_affines, ransac_rigid


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def a_rigid_motion(rng) -> np.ndarray:
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.column_stack([turn * np.sign(np.linalg.det(turn)), rng.uniform(-50, 50, 3)])


def test_rigid_is_exact_and_never_a_reflection(rng):
    motion, points = a_rigid_motion(rng), rng.uniform(-100, 100, (20, 3))
    assert np.allclose(fit_rigid(points, apply(motion, points), np.ones(20)), motion)
    mirrored = points * (-1, 1, 1)
    assert np.linalg.det(fit_rigid(points, mirrored, np.ones(20))[:, :3]) == pytest.approx(1)


def test_ransac_finds_the_motion_under_sixty_percent_lies(rng):
    motion, points = a_rigid_motion(rng), rng.uniform(-100, 100, (100, 3))
    moved = apply(motion, points) + rng.normal(0, 1, (100, 3))
    moved[:60] = rng.uniform(-200, 200, (60, 3))
    found, inliers = ransac_rigid(points, moved, 10.0, rng)
    assert inliers[60:].all() and inliers[:60].mean() < 0.1
    assert np.linalg.norm(apply(found, points[60:]) - moved[60:], axis=1).mean() < 2.5


def test_affine_is_found_with_a_third_of_wrong_pairs(rng):
    truth = np.column_stack([np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3)), [5.0, -3.0, 8.0]])
    points = rng.uniform(-80, 80, (300, 3))
    moved = apply(truth, points)
    moved[:100] += rng.uniform(-60, 60, (100, 3))
    found = fit_affine(points, moved, np.ones(300), IDENTITY, scale_mm=3.0)
    assert np.linalg.norm(apply(found, points) - apply(truth, points), axis=1).max() < 1.0


def test_local_affine_follows_a_bend_that_one_affine_cannot(rng):
    points = rng.uniform(-100, 100, (2000, 3))
    bent = points + 10 * np.sin(points[:, [1, 2, 0]] / 40)
    at = rng.uniform(-60, 60, (10, 3))
    truth = at + 10 * np.sin(at[:, [1, 2, 0]] / 40)
    weights = np.exp(-0.5 * (np.linalg.norm(at[:, None] - points, axis=2) / 20) ** 2)
    base = np.broadcast_to(fit_affine(points, bent, np.ones(2000), IDENTITY, 8.0), (10, 3, 4))
    moved, linear, _ = local_affines(at, points, bent, weights, base, scale_mm=3.0)
    one = np.linalg.norm(apply(base[0], at) - truth, axis=1).mean()
    assert np.linalg.norm(moved - truth, axis=1).mean() < 0.4 * one
    slope = 10 / 40 * np.cos(at[:, 1] / 40)  # d x' / d y
    assert np.abs(linear[:, 0, 1] - slope).max() < 0.1


def test_without_pairs_the_base_motion_stands(rng):
    base = a_rigid_motion(rng)
    at = rng.uniform(-50, 50, (4, 3))
    pairs = rng.uniform(-50, 50, (2, 5, 3))
    moved, linear, _ = local_affines(at, *pairs, np.zeros((4, 5)), np.broadcast_to(base, (4, 3, 4)), 3.0)
    assert np.allclose(moved, apply(base, at)) and np.allclose(linear, base[:, :3])
