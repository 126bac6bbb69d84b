"""``tc.segment``: the promise."""

from __future__ import annotations

import numpy as np
import pytest

import tapct_core as tc
from tapct_core.delineation import Delineation, WalkCancelled
from tests.tapct_core.delineation.scene import dice, painted, trunk


def test_one_call_from_strokes_to_a_label_map_on_the_scans_grid():
    volume, truth = trunk()
    strokes = painted(truth, volume)
    found = tc.segment(volume, strokes)
    assert found.geometry is volume.geometry and found.source is volume.source
    assert found.names == {1: "liver", 2: "kidney"} and set(np.unique(found.labels)) == {0, 1, 2}
    assert dice(found.labels, truth, 1) > 0.9 and dice(found.labels, truth, 2) > 0.9
    np.testing.assert_array_equal(found.labels, tc.segment(volume, strokes, tc.embed(volume, None)).labels)
    np.testing.assert_array_equal(found.labels, Delineation(volume).run(strokes).labels)


@pytest.mark.parametrize("slices", [(0.5,), (0.35, 0.5, 0.65)])
def test_one_slice_of_strokes_is_enough_where_organs_stand_out(slices):
    volume, truth = trunk()
    found = tc.segment(volume, painted(truth, volume, slices)).labels
    assert dice(found, truth, 1) > 0.9 and dice(found, truth, 2) > 0.9


def test_can_be_cancelled():
    volume, truth = trunk()
    with pytest.raises(WalkCancelled):
        tc.segment(volume, painted(truth, volume), cancel=lambda: True)
