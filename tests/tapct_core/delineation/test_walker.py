"""The random walker with priors: against dense systems, against scikit-image, and what it promises of units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tapct_core.delineation import walker
from tapct_core.delineation.multigrid import WalkCancelled, both
from tapct_core.delineation.walker import (
    Lattice,
    certainty,
    edge_hu,
    edge_weights,
    noise_beta,
    random_walk,
)
from tapct_core.errors import UserError

SPACING = (3.0, 1.0, 1.5)
EXACT = 1e-6


def scene(shape=(5, 7, 6), labels=3, seed=0):
    """HU, seeds, priors and a mask with two pieces."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(40, 30, shape)
    seeds = np.zeros(shape, int)
    for k in range(labels):
        seeds[tuple(rng.integers(0, n) for n in shape)] = k + 1
    priors = rng.random((labels, *shape))
    mask = rng.random(shape) < 0.85
    mask[seeds > 0] = True
    return hu, seeds, priors / priors.sum(axis=0), mask


def dense(hu, spacing, seeds, priors, tie, beta, mask):
    """The same equations written out voxel by voxel and solved by numpy -> (K, z, y, x), 0 outside the mask."""
    count = len(priors) if priors is not None else seeds.max()
    number = {place: i for i, place in enumerate(map(tuple, np.argwhere(mask)))}
    matrix, right = np.zeros((len(number), len(number))), np.zeros((len(number), count))
    shortest = min(spacing)
    for place, i in number.items():
        for axis in range(3):
            for step in (-1, 1):
                near = tuple(p + step * (a == axis) for a, p in enumerate(place))
                if near in number:
                    difference = abs(np.float32(hu[place]) - np.float32(hu[near]))
                    weight = (np.exp(-difference / beta) + walker.FLOOR) * (shortest / spacing[axis]) ** 2
                    matrix[i, i] += weight
                    matrix[i, number[near]] -= weight
        matrix[i, i] += tie[place]
        if priors is not None:
            right[i] += tie[place] * priors[(slice(None), *place)]
    for place, i in number.items():
        if seeds[place]:
            matrix[i], matrix[i, i] = 0, 1
            right[i] = np.arange(count) == seeds[place] - 1
    out = np.zeros((count, *hu.shape))
    out[:, mask] = np.linalg.solve(matrix, right).T
    return out


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_equals_a_dense_solution_with_priors(labels):
    hu, seeds, priors, mask = scene(labels=labels)
    tie = (1.0 / 4.0) ** 2 * np.maximum(certainty(priors), walker.LEAST_TIE)
    found = random_walk(hu, SPACING, seeds, priors, 4.0, beta=20.0, mask=mask, tolerance=EXACT)
    expected = dense(hu, SPACING, seeds, priors, tie, 20.0, mask)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_equals_a_dense_solution_without_priors_and_on_a_grid_of_several_levels(monkeypatch):
    monkeypatch.setattr("tapct_core.delineation.multigrid.DIRECT", 20)
    hu, seeds, _, mask = scene((9, 11, 10))
    mask, _ = ndimage.label(mask)
    mask = mask == 1
    seeds = seeds * mask
    seeds[tuple(np.argwhere(mask)[5])] = 1
    seeds[tuple(np.argwhere(mask)[-5])] = 3
    seeds[tuple(np.argwhere(mask)[200])] = 2
    lattice = Lattice.of(hu, SPACING, 25.0, mask)
    assert len(lattice.grid) > 2
    found = lattice.walk(seeds, tolerance=EXACT)
    expected = dense(hu, SPACING, seeds, None, np.zeros(hu.shape), 25.0, mask)
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_a_length_for_each_voxel_and_a_weight_of_ones():
    hu, seeds, priors, mask = scene()
    ell = np.linspace(2, 9, hu.size).reshape(hu.shape)
    found = random_walk(
        hu, SPACING, seeds, priors, ell, beta=20.0, mask=mask, weight=np.ones(hu.shape), tolerance=EXACT
    )
    np.testing.assert_allclose(found, dense(hu, SPACING, seeds, priors, 1 / ell**2, 20.0, mask), atol=2e-4)


def test_labels_agree_with_scikit_image():
    segmentation = pytest.importorskip("skimage.segmentation")
    rng = np.random.default_rng(3)
    z, y, x = np.indices((6, 24, 24))
    ball = (y - 12) ** 2 + (x - 12) ** 2 < 49
    hu = np.where(ball, 90.0, 20.0) + rng.normal(0, 6, ball.shape)
    seeds = np.zeros(hu.shape, int)
    seeds[3, 11:14, 10:15], seeds[3, 1:3, 1:20] = 1, 2
    ours = random_walk(hu, (1.0, 1.0, 1.0), seeds, tolerance=1e-5).argmax(axis=0) + 1
    theirs = segmentation.random_walker(hu, seeds, beta=300, mode="cg_j", tol=1e-5)
    assert (ours == theirs).mean() > 0.95  # its edges weigh squares of differences
    assert (ours == np.where(ball, 1, 2)).mean() > 0.99


def test_a_seed_carries_ell_in_a_flat_image():
    shape, ell = (1, 1, 200), 12.0
    seeds = np.zeros(shape, int)
    seeds[0, 0, 0] = 1
    priors = np.stack([np.zeros(shape), np.ones(shape)])
    for spacing in ((5.0, 1.0, 1.0), (0.5, 0.5, 2.0)):
        found = random_walk(np.zeros(shape), spacing, seeds, priors, ell, beta=20.0, tolerance=EXACT)[0, 0, 0]
        at = np.arange(200) * spacing[2]
        assert np.interp(ell, at, found) == pytest.approx(np.exp(-1), abs=0.02)


def test_slices_may_be_thicker_than_pixels():
    """A seed in the middle of a flat image carries as far between thick slices as within them."""
    seeds = np.zeros((11, 33, 33), int)
    seeds[5, 16, 16] = 1
    priors = np.stack([np.zeros(seeds.shape), np.ones(seeds.shape)])
    found = random_walk(np.zeros(seeds.shape), (3.0, 1.0, 1.0), seeds, priors, 6.0, beta=20.0, tolerance=EXACT)[0]
    for slices in (1, 2, 3):
        assert found[5 + slices, 16, 16] == pytest.approx(found[5, 16 + 3 * slices, 16], rel=0.25)


def test_a_warm_start_ends_at_the_same_answer():
    hu, seeds, priors, mask = scene((12, 20, 20))
    lattice = Lattice.of(hu, SPACING, None, mask)
    cold = lattice.walk(seeds, priors, 8.0, tolerance=EXACT)
    seeds[tuple(np.argwhere(mask)[1000])] = 2
    warm = lattice.walk(seeds, priors, 8.0, start=cold, tolerance=EXACT)
    np.testing.assert_allclose(warm, lattice.walk(seeds, priors, 8.0, tolerance=EXACT), atol=2e-4)


def test_a_warm_start_takes_fewer_steps(monkeypatch):
    hu, seeds, priors, mask = scene((12, 20, 20))
    lattice = Lattice.of(hu, SPACING, None, mask)
    steps = []
    cold = lattice.walk(seeds, priors, 20.0, tolerance=1e-4, cancel=lambda: steps.append(1))
    first = len(steps)
    lattice.walk(seeds, priors, 20.0, start=cold, tolerance=1e-4, cancel=lambda: steps.append(1))
    assert len(steps) - first < first


def test_seeds_keep_their_labels_and_probabilities_are_some():
    hu, seeds, priors, mask = scene((12, 20, 20), labels=4)
    found = random_walk(hu, SPACING, seeds, priors, 30.0, mask=mask)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found[:, mask].sum(axis=0), 1, atol=1e-5)
    assert not found[:, ~mask].any()
    assert (found.argmax(axis=0)[seeds > 0] + 1 == seeds[seeds > 0]).all()
    np.testing.assert_array_equal(found, random_walk(hu, SPACING, seeds, priors, 30.0, mask=mask))


def test_pieces_that_nothing_reaches_are_undecided():
    mask = np.ones((3, 8, 9), bool)
    mask[:, :, 4] = False
    seeds = np.zeros(mask.shape, int)
    seeds[1, 2, 0], seeds[1, 6, 2] = 1, 2
    found = random_walk(np.zeros(mask.shape), (1, 1, 1), seeds, mask=mask)
    np.testing.assert_allclose(found[:, :, :, 5:], 0.5)
    assert found[0, 1, 2, 0] == 1


def test_prior_alone_where_there_is_no_seed():
    hu, _, priors, _ = scene((4, 6, 6))
    found = random_walk(hu, SPACING, np.zeros(hu.shape, int), priors, 1e-3, weight=np.ones(hu.shape), tolerance=EXACT)
    np.testing.assert_allclose(found, priors, atol=1e-4)


def test_a_single_voxel_and_an_empty_mask():
    seeds = np.ones((1, 1, 1), int)
    assert random_walk(np.zeros((1, 1, 1)), (1, 1, 1), seeds).item() == 1
    priors = np.full((2, 1, 1, 1), 0.5)
    assert not random_walk(np.zeros((1, 1, 1)), (1, 1, 1), seeds, priors, 5.0, mask=np.zeros((1, 1, 1), bool)).any()


def test_refusals():
    hu, seeds, priors, mask = scene()
    with pytest.raises(UserError, match="no seed inside the mask; paint inside the patient"):
        random_walk(hu, SPACING, np.zeros(hu.shape, int))
    with pytest.raises(ValueError, match="above zero"):
        random_walk(hu, SPACING, seeds, priors, 0.0)
    with pytest.raises(ValueError, match="label 4 and priors of 3"):
        random_walk(hu, SPACING, np.full(hu.shape, 4), priors, 5.0)
    for kwargs in ({"mask": mask[1:]}, {"start": priors[:, 1:]}):
        with pytest.raises(ValueError, match="the grid is|the HU are"):
            random_walk(hu, SPACING, seeds, priors, 5.0, **kwargs)
    with pytest.raises(WalkCancelled):
        random_walk(hu, SPACING, seeds, priors, 5.0, cancel=lambda: True)


def test_beta_follows_the_noise_and_edges_the_hu():
    rng = np.random.default_rng(0)
    calm, noisy = (rng.normal(50, s, (6, 40, 40)) for s in (10, 20))
    assert noise_beta(noisy) == pytest.approx(2 * noise_beta(calm), rel=0.1)
    assert noise_beta(np.zeros((2, 4, 4))) == walker.BETA_HU[0]
    z, y, x = edge_weights(np.array([[[0.0, 20.0], [0.0, 0.0]]], np.float32), (5.0, 1.0, 1.0), 20.0)
    assert z.shape == (0, 2, 2)
    assert x[0, 0, 0] == pytest.approx(np.exp(-1) + walker.FLOOR) and x[0, 1, 0] == pytest.approx(1 + walker.FLOOR)


def test_edges_are_measured_where_tissues_differ():
    hu = np.full((3, 9, 9), -1024.0)
    hu[:, :, 5:] = 2000
    assert edge_hu(hu, (5.0, 2.0, 2.0)).max() == 400 and edge_hu(hu, (5.0, 2.0, 2.0)).min() == -1000
    fine = edge_hu(hu, (5.0, 0.8, 0.8))
    assert -1000 < fine[1, 4, 5] < 400


def test_pairs_within_a_mask():
    mask = np.array([[[True, True, False]]])
    assert both(mask, 2).tolist() == [[[True, False]]]
