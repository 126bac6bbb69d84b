"""The whole road from a small or holed volume to labels, through a real encoder."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.embedding import embed
from tapct_core.encoders import UNTRAINED, load_encoder
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe import LinearProbe
from tapct_core.volume import CTVolume, LabelMap
from tests.tapct_core.probe.known_field import VOXELS


def test_a_scan_of_one_token(scan):
    voxels = VOXELS.cropped((0, 0, 0), (4, 8, 8))
    tokens = voxels.pooled((4, 8, 8))
    features = FeatureMap(
        np.ones((1, 1, 1, 3), np.float16),
        np.ones((1, 1, 1), bool),
        tokens,
        np.zeros(voxels.shape, np.int16),
        voxels,
        np.zeros((0, 3), np.float16),
    )
    painted = np.zeros(voxels.shape, np.uint8)
    painted[0, 0, :3], painted[3, 7, 4:] = 1, 2
    result = LinearProbe.fit([(features, LabelMap(painted, voxels))]).predict(features, voxels)
    assert result.labels.shape == voxels.shape and set(np.unique(result.labels)) <= {1, 2}


def embedded(hu: np.ndarray) -> tuple[CTVolume, FeatureMap]:
    """A small volume through the whole road, by the untrained encoder: windows of 16 x 64 x 64 voxels."""
    volume = CTVolume(hu, Geometry.from_spacing(hu.shape, (2.5, 2.0, 2.0)))
    return volume, embed(volume, load_encoder(UNTRAINED))


@pytest.mark.parametrize("hu_features", [None, "token", "voxel"])
def test_a_volume_smaller_than_a_window(hu_features):
    hu = np.full((5, 13, 19), 40, np.int16)
    hu[:, :, 9:] = 200
    volume, features = embedded(hu)
    painted = np.zeros(hu.shape, np.uint8)
    painted[2, 3:6, 2:6], painted[2, 3:6, 13:17] = 1, 2
    probe = LinearProbe.fit([(features, LabelMap(painted, volume.geometry))], hu_features=hu_features)
    for guided in (False, True):
        found = probe.predict(features, volume, guided=guided).labels
        assert found.shape == hu.shape and set(np.unique(found)) <= {1, 2}
        assert (found[painted > 0] == painted[painted > 0]).all()


def test_voxels_that_are_not_numbers_count_as_air():
    hu = np.full((8, 24, 24), 40.0, np.float32)
    hu[:, :, 12:] = 200
    whole = embedded(hu)[1]
    hu[2:4, 4:7, 4:7] = np.nan
    volume, features = embedded(hu)
    truth = np.where(np.arange(24) < 12, 1, 2)[None, None].repeat(8, 0).repeat(24, 1).astype(np.uint8)
    painted = np.zeros(hu.shape, np.uint8)
    painted[2, 2:10, 2:10], painted[6, 14:18, 14:22] = 1, 2  # the first stroke runs over the hole
    for hu_features, least in ((None, 0.6), ("voxel", 0.8)):  # random weights tell little of HU
        probe = LinearProbe.fit([(features, LabelMap(painted, volume.geometry))], hu_features=hu_features)
        assert np.isfinite(probe.weights).all() and np.isfinite(probe.constants).all()
        known = np.isfinite(hu)
        assert (probe.predict(features, volume).labels == truth)[known].mean() > least
        assert (probe.predict(whole, volume).labels == truth).mean() > least
