"""The guided filter slice by slice equals its formula, in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe.guided import EPSILON, GuidedScores, running_sums
from tapct_core.probe.upsample import GridScores

TOKENS = Geometry.from_spacing((4, 5, 6), (6.0, 8.0, 8.0), (3.0, -4.0, 10.0))
VOXELS = Geometry(TOKENS.shape, TOKENS.affine).resized((23, 37, 48))


def guided_case(guide: np.ndarray) -> tuple[GridScores, GuidedScores]:
    hu = guide.astype(np.int16)
    features = FeatureMap(
        np.zeros((*TOKENS.shape, 1), np.float16),
        np.ones(TOKENS.shape, bool),
        TOKENS,
        hu,
        VOXELS,
        np.zeros((0, 1), np.float16),
    )
    scores = np.random.default_rng(0).normal(size=(*TOKENS.shape, 2)).astype(np.float32)
    plain = GridScores.on(scores, features.valid, TOKENS, VOXELS)
    return plain, GuidedScores.on([plain], features, VOXELS)


def difference(field: GridScores, z: int) -> np.ndarray:
    """What the guided filter filters: the second class less the first."""
    plane = field.plane(z)
    return plane[1] - plane[0]


def test_the_guided_filter_over_flat_hu_only_smooths():
    plain, guided = guided_case(np.full(VOXELS.shape, 40))
    before = np.stack([difference(plain, z) for z in range(VOXELS.shape[0])])
    found = np.stack([guided.plane(z)[1] for z in range(VOXELS.shape[0])])
    assert found.mean() == pytest.approx(before.mean(), abs=0.05)
    assert found.std() < before.std()


def test_the_guided_filter_slice_by_slice_equals_the_formula_at_once():
    guide = np.random.default_rng(2).integers(-100, 200, VOXELS.shape)
    plain, guided = guided_case(guide)
    size = [2 * r + 1 for r in guided.radius]

    def box(a):
        return uniform_filter(a, size, mode="nearest")

    image = np.clip((guide + 160) / 400, 0, 1)
    scores = np.stack([difference(plain, z) for z in range(VOXELS.shape[0])]).astype(float)
    slope = (box(image * scores) - box(image) * box(scores)) / (box(image**2) - box(image) ** 2 + EPSILON)
    expected = box(slope) * image + box(box(scores) - slope * box(image))
    found = np.stack([guided.plane(z) for z in range(VOXELS.shape[0])])
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-4)


def test_the_guided_filter_gives_the_same_in_any_order():
    guide = np.random.default_rng(2).integers(-100, 200, VOXELS.shape)
    in_order = guided_case(guide)[1]
    expected = [in_order.plane(z) for z in range(VOXELS.shape[0])]
    any_order = guided_case(guide)[1]
    for z in (11, 12, 3, 22, 0, 0, 1):
        np.testing.assert_allclose(any_order.plane(z), expected[z], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 17), st.integers(0, 5), st.integers(1, 4), st.integers(0, 1), st.integers(0, 2**31))
def test_running_sums_are_sums_of_neighbours(width, more, other, axis, seed):
    shape = (width + more, other) if axis == 0 else (other, width + more)
    plane = np.random.default_rng(seed).normal(size=shape)
    expected = np.lib.stride_tricks.sliding_window_view(plane, width, axis=axis).sum(axis=-1)
    np.testing.assert_allclose(running_sums(plane, width, axis), expected, atol=1e-9)
