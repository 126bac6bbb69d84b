"""Peaks between the search grid's steps: the score from products with the lattice is the score of the mixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tapct_core.geometry import Geometry
from tapct_core.matching.climbing import Products, climb, scan_cell, score_of
from tapct_core.matching.similarity import (
    NOWHERE,
    box_round,
    full_box,
    local_maxima,
    make_keys,
    score,
    score_at,
    search_grid,
    surroundings,
)

from .test_similarity import SHAPE, keys  # noqa: F401


@pytest.fixture
def both(keys):  # noqa: F811
    return [keys, surroundings(keys, "surroundings")]


def queries_at(fields, points):
    return [field.sample(points) for field in fields]


def test_a_place_finds_itself_between_tokens(keys):  # noqa: F811
    rng = np.random.default_rng(2)
    points = keys.geometry.to_world(rng.uniform((0, 2.2, 0), np.array(SHAPE) - 1, (20, 3)))
    queries = queries_at([keys], points)
    peaks = [local_maxima(v, 1)[0] for v in score([keys], queries, [1.0], full_box(keys.grid))]
    products, each = [Products.with_all(keys, queries[0])], np.arange(20)
    start = scan_cell(products, [1.0], keys.grid.to_world(np.array(peaks)), each)
    places, heights = climb(products, [1.0], start, each, rounds=14)
    assert (np.linalg.norm(places - points, axis=1) < 1.0).all() and (heights > 0.995).all()


def test_heights_are_the_scores_of_the_mixed_vectors(both):
    rng = np.random.default_rng(4)
    grid, weights = both[0].grid, [1.0, 0.6]
    points = grid.to_world(rng.uniform(-0.4, np.array(grid.shape) - 0.6, (60, 3)))
    queries = queries_at(both, both[0].geometry.to_world(rng.uniform((0, 3, 0), np.array(SHAPE) - 1, (5, 3))))
    products = [Products.with_all(field, q) for field, q in zip(both, queries, strict=True)]
    of = rng.integers(0, 5, 60)
    places, heights = climb(products, weights, points, of, rounds=3)
    exact = score_at(both, [q[of] for q in queries], weights, places[:, None])[:, 0].numpy()
    assert np.abs(heights - exact).max() < 1e-4
    before = score_at(both, [q[of] for q in queries], weights, points[:, None])[:, 0].numpy()
    assert (heights > before - 1e-4).all() and (heights > before + 0.05).mean() > 0.5


def test_a_part_of_the_lattice_gives_what_the_whole_gives(both):
    grid, weights = both[0].grid, [1.0, 0.6]
    points = both[0].geometry.to_world([[1.2, 3.4, 2.0], [1.6, 3.2, 2.4], [4.1, 5.5, 6.2]])
    units = [F.normalize(q, dim=1) for q in queries_at(both, points)]
    boxes, of = [box_round(grid, point, 6.0) for point in points[[0, 2]]], np.array([0, 0, 1])
    near = Products.near(both, units, boxes, of, 6)
    assert (near[0].low[0] == near[0].low[1]).all() and (near[0].low[0] != near[0].low[2]).any()
    for n in range(3):
        alone = score(both, [q[n : n + 1] for q in units], weights, boxes[of[n]])
        assert torch.allclose(score_of(near, n, weights, boxes[of[n]]), alone, atol=1e-5)
    whole = [Products.with_all(field, q) for field, q in zip(both, units, strict=True)]
    ends = [climb(products, weights, points + 1.0, np.arange(3), 6)[0] for products in (near, whole)]
    assert np.allclose(*ends, atol=1e-6)


def test_beyond_the_lattice_and_in_air_there_is_nothing(keys):  # noqa: F811
    outside = keys.geometry.to_world([[20.0, 3.0, 3.0], [3.0, 0.2, 3.0]])
    products = [Products.with_all(keys, torch.randn(1, 16, generator=torch.Generator().manual_seed(1)))]
    _, heights = climb(products, [1.0], outside, np.zeros(2, int), rounds=1)
    assert (heights == NOWHERE).all()


def test_a_lattice_of_one_slice_is_climbed_in_its_plane():
    geometry = Geometry.from_spacing((1, 7, 8), (20.0, 6.0, 6.0))
    vectors = torch.randn(1, 7, 8, 16, generator=torch.Generator().manual_seed(0))
    flat = make_keys("tokens", vectors, np.ones((1, 7, 8), bool), geometry, search_grid(geometry))
    point = geometry.to_world([[0.0, 3.3, 4.6]])
    products = [Products.with_all(flat, flat.sample(point))]
    places, heights = climb(products, [1.0], point + (1.0, 1.0, 0.0), np.zeros(1, int), rounds=14)
    assert np.linalg.norm((places - point)[0, :2]) < 0.5 and heights[0] > 0.99
