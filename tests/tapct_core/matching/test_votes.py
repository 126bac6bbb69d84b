"""Votes of points round a click, on fields whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from tapct_core.geometry import Geometry
from tapct_core.matching.similarity import NOWHERE, Keys, full_box, make_keys, search_grid
from tapct_core.matching.votes import PULL, PULL_MM, gate, gated_search, star, vote

LATTICE = Geometry.from_spacing((18, 20, 22), (5.0, 5.0, 5.0), (-40, 10, 30))
MIDDLE = LATTICE.to_world((9, 10, 11))


def field(seed: int = 0, moved_mm: np.ndarray | None = None) -> Keys:
    """Smooth random vectors, the same for every seed, seen after a shift of the patient by ``moved_mm`` (LPS)."""
    noise = np.random.default_rng(seed).standard_normal((*LATTICE.shape, 12))
    smooth = ndimage.gaussian_filter(noise, (2, 2, 2, 0))
    if moved_mm is not None:
        smooth = ndimage.shift(smooth, (*(moved_mm[::-1] / 5.0), 0), order=1, mode="nearest")
    vectors = torch.from_numpy((smooth / smooth.std()).astype(np.float32))
    return make_keys("tokens", vectors, np.ones(LATTICE.shape, bool), LATTICE, search_grid(LATTICE))


def test_the_star_is_symmetric_and_holds_the_click():
    for count, reach in ((1, 0), (27, 10), (125, 10)):
        points = star(count)
        assert points.shape == (count, 3)
        assert np.array_equal(points[count // 2], (0, 0, 0))
        assert np.allclose(np.sort(points, axis=0), np.sort(-points, axis=0))
        assert np.abs(points).max() == reach


def test_the_soft_gate_is_the_quadratic_it_says():
    grid = search_grid(LATTICE)
    box = (slice(3, 9), slice(2, 12), slice(5, 8))
    expected = np.array([MIDDLE, MIDDLE + (7.0, -11.0, 3.0)])
    lost = gate(grid, box, expected).numpy()
    index = np.stack(np.meshgrid(*[np.arange(b.start, b.stop) for b in box], indexing="ij"), axis=-1)
    away = np.linalg.norm(grid.to_world(index)[None] - expected[:, None, None, None], axis=-1)
    assert np.allclose(lost, PULL * away**2 / (2 * PULL_MM**2), atol=1e-4)


def test_a_search_beyond_the_grid_leaves_the_place_as_expected():
    keys = field()
    far = LATTICE.to_world((9, 10, 500))[None]
    place, height = gated_search([keys], [keys.sample(MIDDLE[None])], [1.0], far, 20.0)
    assert np.array_equal(place, far) and height[0] == NOWHERE


def test_a_gated_search_is_the_best_of_the_whole_map_less_the_gate():
    keys = field()
    query = [keys.sample(MIDDLE[None])]
    expected = MIDDLE[None] + 4.0
    place, height = gated_search([keys], query, [1.0], expected, 500.0)
    whole = keys.cosines(query[0], full_box(keys.grid)) - gate(keys.grid, full_box(keys.grid), expected)
    assert height[0] == pytest.approx(float(whole.max()), abs=1e-5)
    top = np.unravel_index(int(whole.argmax()), keys.grid.shape)
    assert np.linalg.norm(place[0] - keys.grid.to_world(np.array(top))) <= np.linalg.norm(keys.grid.spacing_mm)


def one_vote(a, b, point, place, linear, **how):
    (found,) = vote(a, b, [1.0], point[None], place[None], linear[None], **how)
    return found


def test_points_together_are_told_what_each_is_told_alone():
    shift = np.array([3.0, -6.0, 4.0])
    a, b = field(), field(moved_mm=shift)
    points = np.stack([MIDDLE, MIDDLE + (6.0, 0.0, -4.0), LATTICE.to_world((9, 10, 60))])  # the last lies outside
    turns = np.tile(np.eye(3), (3, 1, 1))
    together = vote([a], [b], [1.0], points, points, turns)
    for one, point in zip(together, points, strict=True):
        alone = one_vote([a], [b], point, point, np.eye(3))
        assert np.allclose(one.place, alone.place, atol=1e-3) and np.allclose(one.linear, alone.linear, atol=1e-4)
        assert one.cycle_mm == pytest.approx(alone.cycle_mm, abs=1e-3)


@pytest.mark.parametrize("count", [27, 125])
def test_votes_find_a_shift_between_the_lattice_points(count):
    shift = np.array([3.0, -6.0, 4.0])
    a, b = field(), field(moved_mm=shift)
    found = one_vote([a], [b], MIDDLE, MIDDLE, np.eye(3), count=count)
    assert np.linalg.norm(found.place - MIDDLE - shift) < 1.0
    assert np.abs(found.linear - np.eye(3)).max() < 0.15
    assert found.spread_mm < 2.0 and found.cycle_mm < 2.0


def test_unrelated_fields_give_votes_that_do_not_come_back():
    same = one_vote([field()], [field()], MIDDLE, MIDDLE, np.eye(3))
    other = one_vote([field()], [field(seed=1)], MIDDLE, MIDDLE, np.eye(3))
    assert np.linalg.norm(same.place - MIDDLE) < 0.5
    assert other.cycle_mm > same.cycle_mm + 3.0
    assert other.spread_mm > same.spread_mm


def test_one_lying_corner_does_not_move_the_rest():
    """A quarter of the field is exchanged for another's: the votes that fall there lose theirs."""
    shift = np.array([4.0, 2.0, -3.0])
    b = field(moved_mm=shift)
    vectors = b.vectors.clone()
    vectors[:, :, 13:] = field(seed=5).vectors[:, :, 13:]
    broken = make_keys("tokens", vectors, np.ones(LATTICE.shape, bool), LATTICE, search_grid(LATTICE))
    found = one_vote([field()], [broken], MIDDLE, MIDDLE, np.eye(3))
    assert np.linalg.norm(found.place - MIDDLE - shift) < 2.0


def test_where_too_little_is_known_the_given_place_stands():
    keys = field()
    outside = LATTICE.to_world((9, 10, 60))
    found = one_vote([keys], [keys], outside, MIDDLE, 2 * np.eye(3))
    assert np.array_equal(found.place, MIDDLE) and np.array_equal(found.linear, 2 * np.eye(3))
    assert found.spread_mm == np.inf
