"""A saved probe as the prior: sure places as seeds, strokes as corrections near them only."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.delineation.engine import Delineation
from tapct_core.delineation.saved import probe_prior, probe_values
from tapct_core.delineation.segment import segment
from tapct_core.embedding import embed
from tapct_core.errors import UserError
from tapct_core.probe import LinearProbe
from tapct_core.volume import LabelMap
from tests.tapct_core.delineation.scene import dice, painted, trunk


@pytest.fixture(scope="module")
def scan():
    """A scan, its features of HU alone, a probe fitted on its masks, and the masks."""
    volume, truth = trunk()
    features = embed(volume, None)
    masks = LabelMap(truth, volume.geometry, names={1: "liver", 2: "kidney"}, colours={1: (200, 0, 0)})
    return volume, features, LinearProbe.fit([(features, masks)], hu_features="voxel", zero="background"), truth


def test_without_strokes_the_surest_places_are_seeds(scan):
    volume, features, probe, truth = scan
    found = segment(volume, None, features, probe=probe)
    assert dice(found.labels, truth, 1) > 0.85 and dice(found.labels, truth, 2) > 0.85
    assert found.names == {1: "liver", 2: "kidney"} and found.colours == {1: (200, 0, 0)}
    empty = LabelMap(np.zeros_like(truth), volume.geometry)
    np.testing.assert_array_equal(segment(volume, empty, features, probe=probe).labels, found.labels)


def test_a_stroke_corrects_where_it_is_painted_and_nothing_far_away(scan):
    volume, features, probe, truth = scan
    before = segment(volume, None, features, probe=probe).labels
    z = len(truth) // 2
    strokes = np.zeros_like(truth)
    liver = np.argwhere(truth[z] == 1)
    y, x = liver.mean(axis=0).astype(int)
    strokes[z, y - 2 : y + 3, x - 2 : x + 3] = 2
    found = segment(volume, LabelMap(strokes, volume.geometry), features, probe=probe).labels
    assert (found[strokes > 0] == 2).all() and (found == 2).sum() > (before == 2).sum() + (strokes > 0).sum()
    side = truth == 2
    assert (found[side] == before[side]).mean() > 0.98


def test_background_may_have_another_number_in_the_strokes(scan):
    volume, features, probe, truth = scan
    strokes = painted(truth, volume)
    found = segment(volume, strokes, features, probe=probe).labels
    assert set(np.unique(found)) <= {0, 1, 2} and not found[strokes.labels == 9].any()
    assert (found[strokes.labels == 1] == 1).all()


def test_prior_is_the_probes_own(scan):
    volume, features, probe, _ = scan
    one = Delineation(volume, features, probe)
    prior = probe_prior(probe, features, one.grid)
    assert probe_values(probe) == (0, 1, 2)
    expected = probe.probabilities(features, one.grid.geometry, value=2)[one.grid.body]
    np.testing.assert_allclose(prior[:, 2], expected, atol=2e-3)


def test_refusals(scan):
    volume, features, probe, truth = scan
    with pytest.raises(UserError, match="give strokes, or a fitted probe"):
        segment(volume, None, features)
    with pytest.raises(UserError, match="embed the scan with the probe's encoder"):
        segment(volume, None, None, probe=probe)
    strokes = np.zeros_like(truth)
    strokes[5, 20, 20] = 5
    with pytest.raises(UserError, match="the probe has no class 5; it knows 0, 1, 2"):
        segment(volume, LabelMap(strokes, volume.geometry), features, probe=probe)
