"""A FeatureMap samples where it says it does, and knows what its tokens owe to their windows."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.sliding_windows import fitted_window, places_in_window


def feature_map(tokens: np.ndarray, valid=None, window=(0, 0, 0), overlap=0.0) -> FeatureMap:
    shape = tokens.shape[:3]
    geometry = Geometry.from_spacing(shape, (10.0, 8.0, 9.0), (-50.0, 20.0, 300.0))
    return FeatureMap(
        tokens=tokens.astype(np.float16),
        valid=np.ones(shape, bool) if valid is None else valid,
        geometry=geometry,
        hu=np.zeros((2, 2, 2), np.int16),
        hu_geometry=Geometry.from_spacing((2, 2, 2), (1.0, 1.0, 1.0)),
        cls=np.zeros((0, tokens.shape[-1]), np.float16),
        window_tokens=window,
        overlap=overlap,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_at_token_centres_the_token_itself_is_sampled(rng):
    features = feature_map(rng.standard_normal((4, 5, 6, 7)))
    index = np.indices((4, 5, 6)).reshape(3, -1).T
    sampled = features.sample(features.geometry.to_world(index))
    np.testing.assert_allclose(sampled, features.tokens.reshape(-1, 7).astype(np.float32), atol=1e-6)


def test_between_tokens_a_linear_field_is_met_exactly(rng):
    index = np.moveaxis(np.indices((4, 5, 6)), 0, -1)
    features = feature_map(index @ np.array([[1.0, 0, 2], [0, 4, 1], [0.5, 0, 8]]))
    points = rng.uniform(0, (3, 4, 5), (50, 3))
    expected = points @ np.array([[1.0, 0, 2], [0, 4, 1], [0.5, 0, 8]])
    np.testing.assert_allclose(features.sample(features.geometry.to_world(points)), expected, rtol=1e-4, atol=1e-4)


def test_only_valid_tokens_count_and_outside_is_zero(rng):
    valid = np.ones((3, 3, 3), bool)
    valid[:, :, 2] = False
    tokens = rng.standard_normal((3, 3, 3, 4))
    tokens[~valid] = 1000.0
    features = feature_map(tokens, valid)
    beside = features.geometry.to_world([(1, 1, 1.4), (1, 1, 2.0), (9, 1, 1)])
    np.testing.assert_allclose(features.sample(beside)[0], features.tokens[1, 1, 1].astype(np.float32), atol=1e-5)
    assert not features.sample(beside)[1:].any()
    assert features.covers(beside).tolist() == [True, False, False]


def test_a_map_of_one_token_and_one_without_channels(rng):
    single = feature_map(rng.standard_normal((1, 1, 1, 3)))
    np.testing.assert_allclose(single.sample(single.geometry.origin_mm)[0], single.tokens[0, 0, 0], rtol=1e-3)
    empty = feature_map(np.zeros((2, 3, 4, 0)))
    assert empty.sample(empty.geometry.origin_mm).shape == (1, 0) and empty.covers(empty.geometry.origin_mm).all()


def test_shapes_that_do_not_fit_are_refused(rng):
    with pytest.raises(ValueError, match="do not fit"):
        feature_map(rng.standard_normal((2, 3, 4, 5)), np.ones((2, 3, 5), bool))


def test_the_scan_embedding_is_the_unit_mean_of_valid_tokens(rng):
    tokens, valid = rng.standard_normal((4, 5, 6, 7)), rng.random((4, 5, 6)) > 0.5
    features = feature_map(tokens, valid)
    mean = features.tokens[valid].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(features.scan_embedding(), mean / np.linalg.norm(mean), rtol=1e-5)
    assert not feature_map(tokens, np.zeros((4, 5, 6), bool)).scan_embedding().any()


def patterned(rng, grid, window, overlap=0.0, noise=0.1, channels=12):
    """Noise plus a fixed vector for each place in the window."""
    fitted = fitted_window(grid, window)
    pattern = rng.standard_normal((*fitted, channels))
    places = np.moveaxis(places_in_window(grid, window, overlap), -1, 0)
    return feature_map(pattern[tuple(places)] + noise * rng.standard_normal((*grid, channels)), None, fitted, overlap)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_the_window_pattern_is_found_and_can_be_taken_away(rng, overlap):
    features = patterned(rng, (12, 22, 25), (3, 5, 6), overlap)
    before = features.tokens.astype(np.float32)
    after = before - features.window_position_mean[features.window_places]
    assert before.std() > 0.9
    assert after.std() < 0.13


def test_the_means_are_those_of_a_plain_loop_over_places(rng):
    features = patterned(rng, (12, 22, 25), (3, 5, 6), noise=0.05)
    valid = rng.random(features.valid.shape) > 0.3
    features = feature_map(features.tokens, valid, (3, 5, 6))
    for place in np.unique(features.window_places):
        own = features.tokens[valid & (features.window_places == place)].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(features.window_position_mean[place], own, atol=0.02)


def test_where_places_say_nothing_the_mean_is_shared(rng):
    tokens = rng.standard_normal((12, 20, 24, 12)) + 3.0
    means = feature_map(tokens, None, (3, 5, 6)).window_position_mean
    assert np.abs(means - tokens.mean(axis=(0, 1, 2))).max() < 0.15  # the plain means are off by up to 0.8


@pytest.mark.parametrize("window", [(0, 0, 0), (12, 20, 24), (50, 50, 50)])
def test_one_window_leaves_place_in_the_body_alone(rng, window):
    features = feature_map(rng.standard_normal((12, 20, 24, 3)), None, window)
    assert not features.window_places.any()
    overall = features.tokens.mean(axis=(0, 1, 2), dtype=float)
    np.testing.assert_allclose(features.window_position_mean[0], overall, atol=1e-3)


def test_a_map_without_valid_tokens_or_channels_has_zero_means(rng):
    nothing = feature_map(rng.standard_normal((4, 5, 6, 3)), np.zeros((4, 5, 6), bool), (2, 2, 2))
    assert not nothing.window_position_mean.any()
    assert feature_map(np.zeros((4, 5, 6, 0)), None, (2, 2, 2)).window_position_mean.shape == (8, 0)
