"""The coarse motion: what it must find, and what it must not fall for."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core import load_ct
from tapct_core.embedding import embed
from tapct_core.geometry import Geometry
from tapct_core.matching.affine import IDENTITY, apply
from tapct_core.matching.prepared import prepare
from tapct_core.matching.prior import Prior, body_points, find_prior
from tapct_core.synthetic import STANDARD, make_follow_up
from tapct_core.volume import CTVolume


@pytest.fixture(scope="module")
def ct(data_dir) -> CTVolume:
    return load_ct(data_dir / "ct" / "pyradiomics_lung2_ct.nii.gz")


@pytest.fixture(scope="module")
def pair(ct):
    return make_follow_up(ct, STANDARD, seed=77)


@pytest.fixture(scope="module")
def prepared(pair):
    a = prepare(embed(pair.baseline, None))
    return a, prepare(embed(pair.follow_up, None), like=a)


@pytest.fixture(scope="module")
def prior(prepared) -> Prior:
    return find_prior(*prepared, ("hu",))


def seen_points(pair, prepared, count: int) -> tuple[np.ndarray, np.ndarray]:
    points = body_points(prepared[0], count, np.random.default_rng(0))
    truth = pair.motion.to_follow_up(points)
    inside = pair.follow_up.geometry.contains(truth)
    return points[inside], truth[inside]


def test_the_local_motion_beats_one_affine_and_that_beats_identity(pair, prepared, prior):
    points, truth = seen_points(pair, prepared, 300)
    local, linear, spread = prior.at(points)
    off = {
        "identity": np.linalg.norm(points - truth, axis=1).mean(),
        "affine": np.linalg.norm(apply(prior.motion, points) - truth, axis=1).mean(),
        "local": np.linalg.norm(local - truth, axis=1).mean(),
    }
    assert off["local"] < off["affine"] < 0.5 * off["identity"]
    assert off["local"] < 1.2
    assert np.isfinite(linear).all() and (spread > 0).all()


def test_the_linear_part_is_the_derivative_of_the_motion(pair, prepared, prior):
    points, _ = seen_points(pair, prepared, 60)
    _, linear, _ = prior.at(points)
    true = np.stack([(pair.motion.to_follow_up(points + 5 * e) - pair.motion.to_follow_up(points)) / 5
                     for e in np.eye(3)], axis=2)  # fmt: skip
    assert np.median(np.abs(linear - true)) < 0.08


def test_it_is_never_worse_than_identity_on_agreement(prior, prepared):
    assert prior.agreement >= prior.identity_agreement
    itself = find_prior(prepared[0], prepared[0], ("hu",))
    points = body_points(prepared[0], 50, np.random.default_rng(1))
    assert np.linalg.norm(itself.at(points)[0] - points, axis=1).max() < 1.0
    assert itself.agreement > 0.95


def test_the_inverse_leads_back(pair, prepared, prior):
    points, _ = seen_points(pair, prepared, 200)
    back = prior.inverse().at(prior.at(points)[0])[0]
    assert np.median(np.linalg.norm(back - points, axis=1)) < 1.5


def test_without_pairs_the_motion_is_the_same_everywhere_and_unsure():
    motion = np.column_stack([np.eye(3), [10.0, -5.0, 3.0]])
    prior = Prior(motion, *np.zeros((2, 0, 3)), np.zeros(0), 0.5, 0.1)
    points = np.random.default_rng(0).uniform(-100, 100, (5, 3))
    places, linear, spread = prior.at(points)
    assert np.allclose(places, points + (10, -5, 3)) and np.allclose(linear, np.eye(3))
    assert (spread == 20).all()


def test_a_short_scan_is_slid_to_its_place(ct):
    """Half of the length, with its table at another height: only a slide of 60 mm and more explains it."""
    start = ct.hu.shape[0] // 2
    affine = ct.geometry.cropped((start, 0, 0), (ct.hu.shape[0] - start, *ct.hu.shape[1:])).affine.copy()
    affine[:3, 3] += (0.0, 0.0, -90.0)
    short = CTVolume(ct.hu[start:], Geometry((ct.hu.shape[0] - start, *ct.hu.shape[1:]), affine))
    a = prepare(embed(ct, None))
    b = prepare(embed(short, None), like=a)
    prior = find_prior(a, b, ("hu",))
    points = body_points(a, 300, np.random.default_rng(2))
    points = points[b.scanned.contains(points + (0, 0, -90.0))]
    assert np.median(np.linalg.norm(prior.at(points)[0] - points - (0, 0, -90.0), axis=1)) < 3.0
    assert not np.allclose(prior.motion, IDENTITY)
