"""Which voxels are read: every stroke has its say, background near and far, masks told from strokes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tapct_core.probe.sampling import pick_voxels, shares, zero_is_background
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.noise import VOXELS


def test_shares_reach_the_total_and_nobody_gets_more_than_the_equal_share_unless_others_leave_it():
    assert shares(np.array([5, 100, 100]), 60).tolist() == [5, 27, 28]
    assert shares(np.array([10, 10]), 100).tolist() == [10, 10]
    assert shares(np.array([1000]), 30).tolist() == [30]


def test_every_stroke_of_a_class_has_an_equal_say(features):
    painted = np.zeros(VOXELS.shape, np.uint8)
    painted[2, :30, :30] = 1  # 900 voxels
    painted[9, 3, 3:13] = 1  # 10 voxels
    painted[12, 20:30, 20:30] = 1  # 100 voxels
    painted[14, :5, :5] = 2
    voxels = pick_voxels(features, LabelMap(painted, VOXELS), False, 90, np.random.default_rng(0))
    index = np.rint(VOXELS.to_index(voxels.points)).astype(int)
    assert np.array_equal(painted[tuple(index.T)], voxels.values)
    own = index[voxels.values == 1]
    assert len(own) == 90 and len(np.unique(own, axis=0)) == 90
    assert {z: int((own[:, 0] == z).sum()) for z in (2, 9, 12)} == {2: 40, 9: 10, 12: 40}
    assert (voxels.values == 2).sum() == 25


def test_more_strokes_than_the_cap_are_thinned(features):
    painted = np.zeros(VOXELS.shape, np.uint8)
    painted[::2, ::2, ::2] = 1
    painted[1, 1, 1] = 2
    voxels = pick_voxels(features, LabelMap(painted, VOXELS), False, 50, np.random.default_rng(0))
    assert (voxels.values == 1).sum() <= 50


def test_background_of_masks_is_read_near_and_far(features):
    masks = np.zeros(VOXELS.shape, np.uint8)
    masks[5:9, 10:18, 10:18] = 1
    voxels = pick_voxels(features, LabelMap(masks, VOXELS), True, 200, np.random.default_rng(0))
    zeros = voxels.points[voxels.values == 0]
    index = np.rint(VOXELS.to_index(zeros)).astype(int)
    assert len(zeros) == 200 and (masks[tuple(index.T)] == 0).all()
    distance = ndimage.distance_transform_edt(masks == 0, sampling=VOXELS.spacing_mm)[tuple(index.T)]
    assert (distance < 10).sum() > 80 and (distance > 20).sum() > 20


def test_masks_and_strokes_are_told_apart():
    masks, flat = np.zeros(VOXELS.shape, np.uint8), np.zeros(VOXELS.shape, np.uint8)
    masks[5:9, 10:18, 10:18] = 1
    flat[5, 10:18, 10:18] = 1
    assert zero_is_background(LabelMap(masks, VOXELS))
    assert not zero_is_background(LabelMap(flat, VOXELS))
    assert not zero_is_background(LabelMap(masks, VOXELS, names={1: "Background"}))
    assert zero_is_background(LabelMap(flat, VOXELS), "background")
    assert not zero_is_background(LabelMap(np.ones(VOXELS.shape, np.uint8), VOXELS))
    with pytest.raises(ValueError, match="auto, background or unlabelled"):
        zero_is_background(LabelMap(flat, VOXELS), "perhaps")
