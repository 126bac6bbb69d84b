"""Columns are read between tokens."""

from __future__ import annotations

import numpy as np

from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.known_field import TOKENS, VOXELS


def test_features_are_sampled_between_tokens_and_never_snapped():
    """A class border that runs between two token centres is found where it is, not at the next token."""
    axis = np.arange(TOKENS.shape[2])
    tokens = np.zeros((*TOKENS.shape, 2), np.float16)
    tokens[..., 0] = axis
    tokens[..., 1] = np.random.default_rng(0).normal(size=TOKENS.shape)
    features = FeatureMap(
        tokens,
        np.ones(TOKENS.shape, bool),
        TOKENS,
        np.zeros(VOXELS.shape, np.int16),
        VOXELS,
        np.zeros((0, 2), np.float16),
    )
    truth = np.ones(VOXELS.shape, np.uint8)
    truth[:, :, 30:] = 2  # token centres are at x = 27.5 and 35.5
    painted = np.zeros_like(truth)
    painted[::4, ::4, 28:32] = truth[::4, ::4, 28:32]
    probe = LinearProbe.fit([(features, LabelMap(painted, VOXELS))], zero="unlabelled")
    border = (probe.predict(features, VOXELS).labels == 1).sum(axis=2)
    assert np.abs(border - 30).max() <= 1
