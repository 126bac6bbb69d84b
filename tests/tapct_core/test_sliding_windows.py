"""Windows cover every token, share them as documented, and weigh them as MONAI does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapct_core.errors import UserError
from tapct_core.sliding_windows import (
    axis_owners,
    axis_starts,
    fitted_window,
    owned_region,
    places_in_window,
    plan_windows,
    token_weights,
)

axes = st.tuples(st.integers(1, 60), st.integers(1, 30), st.sampled_from([0.0, 0.1, 0.25, 0.5, 2 / 3, 0.75, 0.9]))


@given(axes)
def test_an_axis_is_covered_to_its_last_token_and_never_beyond(axis):
    length, window, overlap = axis
    starts = axis_starts(length, window, overlap)
    size = min(window, length)
    covered = np.zeros(length, int)
    for start in starts:
        assert start >= 0 and start + size <= length
        covered[start : start + size] += 1
    assert covered.min() >= 1
    assert starts[0] == 0 and starts[-1] + size == length
    assert (np.diff(starts) >= 1).all()


@given(axes)
def test_neighbours_repeat_at_least_the_overlap_asked_for(axis):
    length, window, overlap = axis
    size = min(window, length)
    steps = np.diff(axis_starts(length, window, overlap))
    assert (steps <= max(1, size * (1 - overlap) + 1e-6)).all()
    # and no more than a token beyond it, but for the window that is pulled back
    assert (steps[:-1] >= max(1, np.floor(size * (1 - overlap) + 1e-6))).all()


@given(axes)
def test_a_token_belongs_to_the_window_whose_centre_is_nearest(axis):
    length, window, overlap = axis
    size = min(window, length)
    starts = axis_starts(length, window, overlap)
    distance = np.abs(np.arange(length)[:, None] - (starts + (size - 1) / 2)[None])
    np.testing.assert_array_equal(axis_owners(length, window, overlap), starts[distance.argmin(axis=1)])


@pytest.mark.parametrize("grid", [(1, 1, 1), (3, 28, 28), (4, 29, 31), (7, 13, 50), (2, 5, 64)])
@pytest.mark.parametrize("window", [(3, 28, 28), (1, 4, 4), (4, 16, 16)])
def test_without_overlap_every_token_is_owned_exactly_once_by_a_window_that_holds_it(grid, window):
    fitted = fitted_window(grid, window)
    owned = np.zeros(grid, int)
    for start in plan_windows(grid, window):
        region = owned_region(start, grid, fitted)
        for part, first, size in zip(region, start, fitted, strict=True):
            assert first <= part.start < part.stop <= first + size
        owned[region] += 1
    assert (owned == 1).all()


def test_windows_come_with_z_slowest():
    starts = plan_windows((6, 8, 8), (3, 4, 4))
    assert starts.dtype == np.int32
    np.testing.assert_array_equal(starts, sorted(starts.tolist()))
    assert len(starts) == 2 * 2 * 2


def test_the_released_window_on_a_512_ct_needs_225_windows():
    assert len(plan_windows((75, 64, 64), (3, 28, 28))) == 25 * 3 * 3
    assert len(plan_windows((75, 64, 64), (3, 28, 28), 0.5)) == 73 * 4 * 4  # 1-token steps in z: 3 tokens do not halve


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2.0, float("nan")])
def test_an_impossible_overlap_is_refused_with_the_remedy(overlap):
    with pytest.raises(UserError, match="at least 0 and below 1"):
        plan_windows((3, 3, 3), (2, 2, 2), overlap)


@pytest.mark.parametrize("window", [(3, 28, 28), (4, 16, 16), (1, 1, 7)])
def test_weights_are_symmetric_peak_in_the_middle_and_follow_monai(window):
    weights = token_weights(window)
    assert weights.shape == window and weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1, ::-1, ::-1], rtol=1e-6)
    utils = pytest.importorskip("monai.data.utils")
    theirs = utils.compute_importance_map(window, mode="gaussian", sigma_scale=0.125).numpy()
    # MONAI holds small weights at a floor; above it the two agree
    floor = max(theirs.min(), 1e-3)
    np.testing.assert_allclose(weights[theirs > floor * 1.01], theirs[theirs > floor * 1.01], rtol=1e-4)


def test_places_count_from_the_owning_window_and_vanish_where_one_window_covers_the_axis():
    places = places_in_window((3, 10, 4), (3, 4, 4))
    assert (places[..., 0] == 0).all() and (places[..., 2] == 0).all()
    # windows at 0, 4 and 6: the last two share tokens 6 and 7 and part between them
    np.testing.assert_array_equal(places[0, :, 0, 1], [0, 1, 2, 3, 0, 1, 2, 1, 2, 3])
