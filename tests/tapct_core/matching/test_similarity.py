"""Cosines between tokens, against their definition: interpolate first, then compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tapct_core import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.matching.similarity import (
    NOWHERE,
    box_round,
    climb,
    full_box,
    local_maxima,
    make_keys,
    pooled,
    require_same_encoder,
    scan_cell,
    score,
    score_at,
    search_grid,
    suppress,
)

SHAPE = (6, 7, 8)


@pytest.fixture
def keys():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(*SHAPE, 16, generator=generator)
    valid = np.ones(SHAPE, bool)
    valid[:, :2] = False
    geometry = Geometry.from_spacing(SHAPE, (8.0, 6.0, 6.0), (10, -20, 30))
    return make_keys("tokens", vectors, valid, geometry, search_grid(geometry))


def test_search_grid_steps_at_most_half_a_token_or_the_given_step():
    lattice = Geometry.from_spacing((5, 6, 1), (4.0, 16.0, 9.0))
    grid = search_grid(lattice, 3.5)
    assert grid.shape == (10, 30, 1)
    assert np.allclose(grid.to_world((-0.5, -0.5, -0.5)), lattice.to_world((-0.5, -0.5, -0.5)))


def test_cosines_are_those_of_interpolated_vectors(keys):
    queries = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    found = keys.cosines(queries, full_box(keys.grid))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in keys.grid.shape], indexing="ij"), -1).reshape(-1, 3)
    mixed = keys.sample(keys.grid.to_world(index))
    expected = F.normalize(queries, dim=1) @ F.normalize(mixed, dim=1).T
    there = mixed.norm(dim=1) > 0.1
    assert (found.reshape(3, -1) - expected)[:, there].abs().max() < 1e-4
    assert (found.reshape(3, -1)[:, mixed.norm(dim=1) == 0] == NOWHERE).all()


def test_a_box_is_a_part_of_the_whole(keys):
    query = torch.randn(1, 16)
    box = (slice(2, 9), slice(3, 8), slice(0, 5))
    assert torch.allclose(keys.cosines(query, box), keys.cosines(query, full_box(keys.grid))[:, *box], atol=1e-6)


def test_a_place_finds_itself_between_tokens(keys):
    rng = np.random.default_rng(2)
    points = keys.geometry.to_world(rng.uniform((0, 2.2, 0), np.array(SHAPE) - 1, (20, 3)))
    for point in points:
        query = [keys.sample(point[None])]
        peak = local_maxima(score([keys], query, [1.0], full_box(keys.grid))[0], 1)
        start = scan_cell([keys], query, [1.0], keys.grid.to_world(peak))
        place, height = climb([keys], query, [1.0], start, rounds=14)
        assert np.linalg.norm(place[0] - point) < 1.0
        assert height[0] > 0.995


def test_score_is_the_weighted_mean_of_the_evidence(keys):
    wide = pooled(keys, "pooled")
    point = keys.geometry.to_world((3.3, 4.4, 5.5))
    queries = [keys.sample(point[None]), wide.sample(point[None])]
    at = keys.geometry.to_world(np.random.default_rng(0).uniform(2, 5, (1, 9, 3)))
    both = score_at([keys, wide], queries, [1.0, 3.0], at)
    parts = [score_at([k], [q], [1.0], at) for k, q in zip((keys, wide), queries, strict=True)]
    assert torch.allclose(both, (parts[0] + 3 * parts[1]) / 4, atol=1e-6)


def test_pooled_is_the_mean_of_27_at_its_own_place(keys):
    wide = pooled(keys, "pooled")
    assert np.allclose(wide.geometry.to_world((1, 2, 2)), keys.geometry.to_world((2, 4, 4)))
    assert torch.allclose(wide.vectors[1, 2, 2], keys.vectors[1:4, 3:6, 3:6].mean(dim=(0, 1, 2)), atol=1e-5)


def test_local_maxima_and_suppression():
    values = torch.zeros(6, 6, 6)
    values[1, 1, 1], values[1, 1, 3], values[4, 4, 4] = 1.0, 0.9, 0.8
    assert local_maxima(values, 3).tolist() == [[1, 1, 1], [1, 1, 3], [4, 4, 4]]
    points = np.array([[0, 0, 0], [3, 0, 0], [20, 0, 0]], float)
    assert list(suppress(points, np.array([0.5, 0.9, 0.1]), 5.0)) == [1, 2]


def test_box_round_stays_on_the_grid(keys):
    assert box_round(keys.grid, keys.grid.to_world((500, 0, 0)), 10) is None
    box = box_round(keys.grid, keys.grid.to_world((0, 5, 5)), 9)
    assert box[0].start == 0 and all(b.stop <= n for b, n in zip(box, keys.grid.shape, strict=True))


def _map(dim=8, **words) -> FeatureMap:
    geometry = Geometry.from_spacing((2, 2, 2), (8, 8, 8))
    hu = np.zeros((2, 2, 2), np.int16)
    tokens = np.zeros((2, 2, 2, dim), np.float16)
    return FeatureMap(tokens, np.ones((2, 2, 2), bool), geometry, hu, geometry, np.zeros((0, dim), np.float16), words)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (_map(weights="a"), _map(weights="b"), "weights"),
        (_map(plan="release"), _map(plan="spacing"), "plan"),
        (_map(spacing_mm="1 1 1"), _map(spacing_mm="2 2 2"), "spacing"),
        (_map(dim=8), _map(dim=4), "8 and 4"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(one, other, said):
    with pytest.raises(UserError, match=said):
        require_same_encoder(one, other)
    require_same_encoder(one, one)
