"""Scores between tokens and voxels: interpolation, holes, the running maximum, the guided filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe.upsample import AxisLerp, GridScores, axis_weights, linear_rows, running_argmax, softmax

TOKENS = Geometry.from_spacing((4, 5, 6), (6.0, 8.0, 8.0), (3.0, -4.0, 10.0))
VOXELS = Geometry(TOKENS.shape, TOKENS.affine).resized((23, 37, 48))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31), st.booleans())
def test_running_argmax_is_argmax(count, ny, nx, seed, ties):
    planes = np.random.default_rng(seed).normal(size=(count, ny, nx)).astype(np.float32)
    planes = np.round(planes) if ties else planes
    kept = planes.copy()
    assert np.array_equal(running_argmax(planes, (ny, nx)), planes.argmax(axis=0))
    assert np.array_equal(planes, kept)


def test_running_argmax_of_the_most_classes():
    planes = np.zeros((255, 2, 2), np.float32)
    planes[254, 1, 1] = 1
    assert running_argmax(planes, (2, 2)).tolist() == [[0, 0], [0, 254]]


def test_rows_interpolate_clamp_and_end():
    rows = linear_rows(4, np.array([0.0, 0.25, 2.9, -0.5, 3.6, -1.4, 4.4, -2.0, 5.0]))
    np.testing.assert_allclose(rows @ np.arange(4), [0, 0.25, 2.9, 0, 3, 0, 3, 0, 0], atol=1e-6)
    assert rows.sum(axis=1).tolist() == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0, 0])
    assert linear_rows(1, np.array([0.3])).tolist() == [[1.0]]


def test_planes_equal_trilinear_interpolation_of_scipy():
    scores = np.random.default_rng(0).normal(size=(*TOKENS.shape, 3)).astype(np.float32)
    field = GridScores.on(scores, np.ones(TOKENS.shape, bool), TOKENS, VOXELS)
    index = np.moveaxis(TOKENS.to_index(VOXELS.to_world(np.moveaxis(np.indices(VOXELS.shape), 0, -1))), -1, 0)
    for k in range(3):
        expected = map_coordinates(scores[..., k], index, order=1, mode="nearest")
        found = np.stack([field.plane(z)[k] for z in range(VOXELS.shape[0])])
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert field.holes(0) is None


def test_invalid_tokens_do_not_count_exactly_as_in_the_feature_map():
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(*TOKENS.shape, 4)).astype(np.float16)
    valid = rng.random(TOKENS.shape) > 0.4
    features = FeatureMap(tokens, valid, TOKENS, np.zeros(VOXELS.shape, np.int16), VOXELS, np.zeros((0, 4), np.float16))
    field = GridScores.on(tokens.astype(np.float32), valid, TOKENS, VOXELS)
    index = rng.integers(0, VOXELS.shape, (400, 3))
    expected = features.sample(VOXELS.to_world(index))
    found = np.stack([field.plane(z)[:, y, x] for z, y, x in index])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    covered = features.covers(VOXELS.to_world(index))
    holes = np.array([(h := field.holes(z)) is not None and h[y, x] for z, y, x in index])
    assert np.array_equal(covered, ~holes)


def test_not_a_number_in_an_invalid_token_stays_there():
    scores = np.ones((*TOKENS.shape, 2), np.float32)
    valid = np.ones(TOKENS.shape, bool)
    scores[1, 1, 1], valid[1, 1, 1] = np.nan, False
    field = GridScores.on(scores, valid, TOKENS, VOXELS)
    assert all(np.isfinite(field.plane(z)).all() for z in range(VOXELS.shape[0]))


def test_grids_that_are_turned_are_refused_and_flipped_ones_too():
    flipped = VOXELS.affine.copy()
    flipped[:, 2] *= -1
    with pytest.raises(UserError, match="turned against each other"):
        axis_weights(TOKENS, Geometry(VOXELS.shape, flipped))


def test_softmax_sums_to_one_without_overflow():
    p = softmax(np.array([[1e4, -1e4], [0, 0], [1e4, 5]], np.float32))
    np.testing.assert_allclose(p.sum(axis=0), 1)
    assert p[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [TOKENS.shape, (2, 5, 9), (9, 3, 6)])
def test_lerps_equal_the_products_with_the_rows(shape):
    source = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    grid = Geometry(TOKENS.shape, TOKENS.affine).resized(shape)
    rows = axis_weights(grid, Geometry(VOXELS.shape, VOXELS.affine).cropped((-9, -40, 5), (30, 60, 40)))
    lerps = [AxisLerp.of(r) for r in rows]
    expected = np.einsum("az,by,cx,zyx->abc", *rows, source)
    found = [lerps[2].along(lerps[1].along(lerps[0].at(z, source), 0), 1) for z in range(len(rows[0]))]
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)
    assert AxisLerp.of(np.eye(5, dtype=np.float32)).identity and not lerps[1].identity
