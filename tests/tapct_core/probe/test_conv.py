"""The convolution learns from full masks, wherever in the scan these lie."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.known_field import VOXELS, strokes_of


def test_the_conv_head_reads_blocks_where_the_masks_lie(scan, monkeypatch):
    """Masks of a few slices only: blocks drawn elsewhere would hold no voxel and make the loss no number."""
    monkeypatch.setattr("tapct_core.probe.conv.STEPS", 25)
    features, truth = scan
    masks = np.where(truth == 1, 0, truth).astype(np.uint8)
    part = LabelMap(masks[20:30, 8:40], VOXELS.cropped((20, 8, 0), (10, 32, 64)))
    probe = LinearProbe.fit([(features, part)], head="conv", zero="background")
    assert np.isfinite(probe.weights).all()
    found = probe.predict(features, part)
    assert dice_report(found, part)["mean_dice"] > 0.7


def test_conv_refuses_strokes(scan):
    features, truth = scan
    with pytest.raises(UserError, match="full masks"):
        LinearProbe.fit([(features, LabelMap(strokes_of(truth), VOXELS))], head="conv")
