"""Painted voxels keep their label; pieces that nobody painted go."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tapct_core.errors import UserError
from tapct_core.probe import LinearProbe
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
    assert all(ndimage.label(alone == v, np.ones((3, 3, 3)))[1] <= 1 for v in probe.classes)
    touched = probe.predict(features, VOXELS, keep="strokes", strokes=LabelMap(painted, VOXELS)).labels
    for value in probe.classes:
        pieces, count = ndimage.label(touched == value, np.ones((3, 3, 3)))
        assert set(pieces[painted == value]) >= set(range(1, count + 1))
    with pytest.raises(UserError, match="needs the strokes"):
        probe.predict(features, VOXELS, keep="strokes")
