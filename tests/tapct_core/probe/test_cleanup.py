"""Painted voxels keep their label; pieces that nobody painted go."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tapct_core.errors import UserError
from tapct_core.probe import LinearProbe
from tapct_core.probe.cleanup import TWIN_SHARE, keep_components
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.known_field import VOXELS, strokes_of


def test_painted_strokes_are_kept_and_stray_pieces_dropped(scan):
    features, truth = scan
    painted = strokes_of(truth, count=3)
    wrong = painted.copy()
    wrong[8, 8, 8:12] = 3
    probe = LinearProbe.fit([(features, LabelMap(painted, VOXELS))])
    kept = probe.predict(features, VOXELS, strokes=LabelMap(wrong, VOXELS)).labels
    assert (kept[wrong > 0] == wrong[wrong > 0]).all()

    alone = probe.predict(features, VOXELS, keep="largest").labels
    for value in probe.classes:
        pieces, _ = ndimage.label(alone == value, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.min() >= TWIN_SHARE * sizes.max()
    touched = probe.predict(features, VOXELS, keep="strokes", strokes=LabelMap(painted, VOXELS)).labels
    for value in probe.classes:
        pieces, count = ndimage.label(touched == value, np.ones((3, 3, 3)))
        assert set(pieces[painted == value]) >= set(range(1, count + 1))
    with pytest.raises(UserError, match="needs the strokes"):
        probe.predict(features, VOXELS, keep="strokes")


def test_a_class_keeps_its_second_organ_and_loses_what_is_small():
    labels = np.zeros(VOXELS.shape, np.uint8)
    labels[4:20, 10:30, 5:20] = labels[4:20, 10:30, 40:50] = 1  # two lungs, one of two thirds the size
    labels[25:28, 50:54, 50:54] = 1
    labels[2:6, 50:60, 5:15], labels[30, 60, 60] = 2, 2
    keep_components(labels, VOXELS, (0, 1, 2), 0, None)
    assert (labels[4:20, 10:30, 5:20] == 1).all() and (labels[4:20, 10:30, 40:50] == 1).all()
    assert not labels[25:28].any() and (labels[2:6, 50:60, 5:15] == 2).all() and labels[30, 60, 60] == 0
