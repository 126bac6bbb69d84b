"""Cosines between tokens, against their definition: interpolate first, then compare."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tapct_core import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.matching.similarity import (
    NOWHERE,
    Keys,
    box_round,
    full_box,
    local_maxima,
    make_keys,
    require_same_encoder,
    score_at,
    search_grid,
    suppress,
    surroundings,
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


def test_the_doubled_lattice_holds_the_squared_length_of_every_mix(keys):
    at = np.random.default_rng(3).uniform(0, np.array(SHAPE) - 1, (200, 3))
    weights = []
    for axis, size in enumerate(SHAPE):
        low = np.minimum(at[:, axis].astype(int), size - 2)
        t, row = at[:, axis] - low, np.zeros((200, 2 * size - 1))
        for k, part in enumerate(((1 - t) ** 2, t * (1 - t), t**2)):
            row[np.arange(200), 2 * low + k] = part
        weights.append(row)
    squared = np.einsum("zyx,nz,ny,nx->n", keys.doubled, *weights)
    lengths = keys.sample(keys.geometry.to_world(at)).norm(dim=1).numpy()
    assert np.allclose(squared, lengths**2, atol=1e-4) and (lengths > 1).any()


def test_score_is_the_weighted_mean_of_the_evidence(keys):
    wide = surroundings(keys, "surroundings")
    point = keys.geometry.to_world((3.3, 4.4, 5.5))
    queries = [keys.sample(point[None]), wide.sample(point[None])]
    at = keys.geometry.to_world(np.random.default_rng(0).uniform(2, 5, (1, 9, 3)))
    both = score_at([keys, wide], queries, [1.0, 3.0], at)
    parts = [score_at([k], [q], [1.0], at) for k, q in zip((keys, wide), queries, strict=True)]
    assert torch.allclose(both, (parts[0] + 3 * parts[1]) / 4, atol=1e-6)


def lattice(vectors: torch.Tensor, geometry: Geometry | None = None) -> Keys:
    geometry = geometry or Geometry.from_spacing(tuple(vectors.shape[:3]), (4.0, 4.0, 4.0))
    return Keys("tokens", vectors, geometry, search_grid(geometry))


def test_surroundings_compare_neighbours_place_by_place():
    """The cosine of two places' sums is the mean of their nine neighbours' cosines, but for noise."""
    torch.manual_seed(0)
    smooth = F.interpolate(torch.randn(1, 512, 3, 3, 3), size=(9, 9, 9), mode="trilinear", align_corners=True)
    vectors = smooth[0].permute(1, 2, 3, 0).contiguous()
    wide, unit = surroundings(lattice(vectors), "wide").vectors, F.normalize(vectors, dim=-1)
    corners = [(0, 0, 0), *product((-1, 1), repeat=3)]
    places = np.random.default_rng(0).integers(1, 8, (60, 2, 3))
    found, truth = [], []
    for one, other in places:
        found.append(float(F.cosine_similarity(wide[tuple(one)], wide[tuple(other)], dim=0)))
        truth.append(np.mean([float(unit[tuple(one + c)] @ unit[tuple(other + c)]) for c in np.array(corners)]))
    assert np.corrcoef(found, truth)[0, 1] > 0.98


def test_surroundings_tell_arrangements_apart_that_have_one_mean():
    torch.manual_seed(1)
    vectors = torch.randn(3, 3, 3, 256)
    turned = vectors.flip(0)  # the same neighbours, head over heels
    one, other = (surroundings(lattice(v), "wide").vectors[1, 1, 1] for v in (vectors, turned))
    assert F.cosine_similarity(one, other, dim=0) < 0.5
    assert torch.allclose(vectors.mean(dim=(0, 1, 2)), turned.mean(dim=(0, 1, 2)), atol=1e-6)


def test_surroundings_agree_between_lattices_stored_in_another_order():
    torch.manual_seed(2)
    vectors = torch.randn(5, 6, 7, 32)
    geometry = Geometry.from_spacing((5, 6, 7), (4.0, 4.0, 4.0), (1.0, 2.0, 3.0))
    flipped = geometry.affine.copy()
    flipped[:3, 3] = geometry.to_world((4, 0, 0))
    flipped[:3, 0] *= -1
    upside_down = lattice(vectors.flip(0).contiguous(), Geometry((5, 6, 7), flipped))
    wide, other = surroundings(lattice(vectors, geometry), "wide"), surroundings(upside_down, "wide")
    assert torch.allclose(wide.vectors, other.vectors.flip(0), atol=1e-5)
    points = geometry.to_world(np.random.default_rng(0).uniform(0.5, 3.5, (9, 3)))
    assert torch.allclose(wide.sample(points), other.sample(points), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 5, 5), (1, 1, 4), (1, 1, 1), (2, 3, 4)])
def test_surroundings_of_thin_lattices_and_of_air(shape):
    vectors = torch.randn(*shape, 64)
    vectors.view(-1, 64)[0] = 0  # air stays empty, whatever lies beside it
    wide = surroundings(lattice(vectors), "wide").vectors
    assert not wide.view(-1, 64)[0].any() and torch.isfinite(wide).all()
    assert wide.view(-1, 64)[1:].abs().sum(dim=1).gt(0).all()


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
