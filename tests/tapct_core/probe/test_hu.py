"""HU as columns: hats, what a token holds, and multi-scale filters in blocks equal to those of the whole scan."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.probe.channels import columns_at
from tapct_core.probe.hu import KNOTS_HU, VOXEL_CHANNELS, VoxelScores, hats, token_hu, voxel_channels
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.noise import TOKENS, VOXELS, scan_of


def test_hats_are_linear_interpolation_and_sum_to_one():
    hu = np.array([-3000.0, -1000, -333, 15, 30, 31, 1199, 5000], np.float32)
    np.testing.assert_allclose(hats(hu).sum(axis=-1), 1, rtol=1e-6)
    curve = np.random.default_rng(0).normal(size=len(KNOTS_HU))
    np.testing.assert_allclose(hats(hu) @ curve, np.interp(hu, KNOTS_HU, curve), atol=1e-5)


def test_token_hu_is_mean_and_deviation_of_the_tokens_own_voxels(features):
    mean, deviation = token_hu(features)
    blocks = features.hu.reshape(8, 2, 10, 4, 10, 4).astype(float)
    np.testing.assert_allclose(mean, blocks.mean(axis=(1, 3, 5)), atol=0.01)
    np.testing.assert_allclose(deviation, blocks.std(axis=(1, 3, 5)), atol=0.05)


def test_token_hu_of_a_padded_grid_uses_the_voxels_there_are():
    hu = np.full((15, 38, 40), 70, np.int16)
    voxels = VOXELS.cropped((0, 0, 0), hu.shape)
    features = FeatureMap(
        np.zeros((8, 10, 10, 1), np.float16),
        np.ones((8, 10, 10), bool),
        TOKENS,
        hu,
        voxels,
        np.zeros((0, 1), np.float16),
    )
    mean, deviation = token_hu(features)
    assert np.allclose(mean, 70) and np.allclose(deviation, 0, atol=0.01)


def test_voxel_columns_at_voxels_equal_gaussians_of_the_whole_scan(features):
    index = np.array([[0, 0, 0], [7, 20, 11], [15, 39, 39], [3, 5, 36]])
    found = voxel_channels(features, VOXELS.to_world(index)).reshape(4, 3, -1)
    for s, sigma in enumerate((1.5, 3.0, 6.0)):
        steps = [sigma / step for step in VOXELS.spacing_mm]
        smooth = ndimage.gaussian_filter(features.hu.astype(np.float32), steps, mode="nearest", truncate=3.0)
        np.testing.assert_allclose(found[:, s, : len(KNOTS_HU)], hats(smooth[tuple(index.T)]), atol=2e-3)


def test_voxel_scores_read_in_blocks_equal_the_columns_times_the_weights(features):
    weights = np.random.default_rng(3).normal(size=(VOXEL_CHANNELS, 2))
    target = VOXELS.cropped((3, 4, 5), (6, 30, 20))
    scores = VoxelScores.on(features, weights, target)
    index = np.random.default_rng(4).integers(0, target.shape, (60, 3))
    expected = voxel_channels(features, target.to_world(index)) @ weights
    found = np.stack([scores.plane(z)[:, y, x] for z, y, x in index])
    # The table rounds smoothed HU to whole ones.
    np.testing.assert_allclose(found, expected, atol=0.15)


def test_a_map_of_hu_alone_can_be_probed(features):
    bare = scan_of(features.hu, dim=0)
    truth = np.where(ndimage.gaussian_filter(features.hu.astype(float), 2) > 50, 1, 2).astype(np.uint8)
    assert columns_at(bare, VOXELS.to_world(np.array([[1, 2, 3]])), "token").shape == (1, 2 * len(KNOTS_HU) + 1)
    probe = LinearProbe.fit([(bare, LabelMap(truth, VOXELS))], hu_features="voxel")
    assert dice_report(probe.predict(bare, VOXELS), LabelMap(truth, VOXELS))["mean_dice"] > 0.7
