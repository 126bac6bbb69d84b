"""Dice by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.probe import dice_report
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.noise import VOXELS


def test_dice_by_hand_and_a_class_that_is_nowhere():
    ours, truth = np.zeros(VOXELS.shape, np.uint8), np.zeros(VOXELS.shape, np.uint8)
    ours[0, 0, :6], truth[0, 0, 2:8] = 1, 1
    truth[1, 0, :4] = 2
    report = dice_report(LabelMap(ours, VOXELS), LabelMap(truth, VOXELS, names={1: "a"}))
    assert report["classes"][1]["dice"] == pytest.approx(2 * 4 / 12) and report["classes"][1]["name"] == "a"
    assert report["classes"][2]["dice"] == 0 and report["mean_dice"] == pytest.approx(4 / 12)
    assert dice_report(LabelMap(ours, VOXELS), LabelMap(truth, VOXELS), (1, 7))["classes"][7]["dice"] is None
    with pytest.raises(UserError, match="different grids"):
        dice_report(LabelMap(ours, VOXELS), LabelMap(truth, VOXELS.cropped((0, 1, 0), VOXELS.shape)))


def test_a_class_that_the_truth_does_not_hold_has_no_dice_and_shows_its_voxels():
    ours, truth = np.zeros(VOXELS.shape, np.uint8), np.zeros(VOXELS.shape, np.uint8)
    ours[0, 0, :4] = truth[0, 0, :4] = 1
    ours[3, 3, 3] = 5
    report = dice_report(LabelMap(ours, VOXELS), LabelMap(truth, VOXELS), (1, 5, 6))
    assert report["mean_dice"] == 1
    assert report["classes"][5]["dice"] is None and report["classes"][5]["voxels"] == 1
    assert dice_report(LabelMap(ours, VOXELS), LabelMap(truth * 0, VOXELS), (1,))["mean_dice"] is None
