"""Probes fitted on strokes and masks of known fields, and extended; what cannot be fitted is named."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe
from tapct_core.probe.model import CLIP
from tapct_core.progress import ProbeCancelled
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.known_field import (
    PROVENANCE,
    TOKENS,
    VOXELS,
    known_map,
    mean_dice,
    partition,
    smooth_field,
    strokes_of,
)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_strokes_recover_a_partition_that_is_linear_in_the_features(scan, head):
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(strokes_of(truth, count=30), VOXELS))], head=head)
    assert probe.classes == (1, 2, 3)
    assert mean_dice(probe, features, truth) > 0.85


@pytest.mark.parametrize(("head", "least"), [("ridge", 0.85), ("logistic", 0.9), ("conv", 0.85)])
def test_full_masks_beat_chance_by_far_and_zero_is_a_class(scan, head, least, monkeypatch):
    monkeypatch.setattr("tapct_core.probe.conv.STEPS", 120)
    monkeypatch.setattr("tapct_core.probe.conv.HIGHEST_RATE", 0.05)
    features, truth = scan
    masks = np.where(truth == 1, 0, truth).astype(np.uint8)
    probe = LinearProbe.fit([(features, LabelMap(masks, VOXELS))], head=head)
    assert probe.classes == (0, 2, 3)
    assert mean_dice(probe, features, masks) > least


def test_the_same_seed_gives_the_same_probe_and_another_seed_another(scan):
    features, truth = scan
    labels = LabelMap(truth, VOXELS)
    first, again, other = (LinearProbe.fit([(features, labels)], cap=50, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.weights, again.weights)
    assert not np.array_equal(first.weights, other.weights)


def test_extending_equals_fitting_all_strokes_at_once_in_the_closed_form(scan):
    features, truth = scan
    painted = strokes_of(truth, count=4)
    early, late = painted.copy(), painted.copy()
    early[16:], late[:16] = 0, 0
    assert set(np.unique(early)) == {0, 1, 2, 3}
    grown = LinearProbe.fit([(features, LabelMap(early, VOXELS))]).extend([(features, LabelMap(late, VOXELS))])
    whole = LinearProbe.fit([(features, LabelMap(painted, VOXELS))])
    assert len(grown.memory.x) == len(whole.memory.x)
    np.testing.assert_allclose(grown.memory.moments.scatter, whole.memory.moments.scatter, rtol=1e-4, atol=1e-3)
    agree = grown.predict(features, VOXELS).labels == whole.predict(features, VOXELS).labels
    assert agree.mean() > 0.9  # the penalty was chosen on fewer strokes, nothing else differs


def test_extending_with_a_new_class_and_a_cropped_stroke(scan):
    features, truth = scan
    two = np.where(strokes_of(truth, 6) == 3, 0, strokes_of(truth, 6))
    probe = LinearProbe.fit([(features, LabelMap(two, VOXELS, names={1: "a"}))])
    z, y, x = np.argwhere(truth == 3)[500]
    stroke = LabelMap(np.full((1, 1, 5), 3, np.uint8), VOXELS.cropped((z, y, x), (1, 1, 5)), names={3: "c"})
    grown = probe.extend([(features, stroke)])
    assert probe.classes == (1, 2) and grown.classes == (1, 2, 3)
    assert grown.names == {1: "a", 3: "c"}
    assert (grown.predict(features, VOXELS).labels == 3).any()


def test_logistic_extension_starts_warm_and_stays_close(scan):
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(strokes_of(truth, 6), VOXELS))], head="logistic")
    grown = probe.extend([(features, LabelMap(strokes_of(truth, 6, seed=9), VOXELS))])
    assert mean_dice(grown, features, truth) > mean_dice(probe, features, truth) - 0.02


def test_two_scans_are_fitted_together_and_progress_is_told(scan):
    features, truth = scan
    seen = []
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))] * 2, progress=lambda *p: seen.append(p))
    assert seen == [(0, 2), (1, 2), (2, 2)] and probe.facts["scans"] == 2
    with pytest.raises(ProbeCancelled):
        LinearProbe.fit([(features, LabelMap(truth, VOXELS))], cancel=lambda: True)
    with pytest.raises(ProbeCancelled):
        probe.predict(features, VOXELS, cancel=lambda: True)


@pytest.mark.parametrize("hu_features", ["token", "voxel"])
def test_hu_columns_find_what_tokens_cannot(hu_features):
    """Two tissues that only HU tell apart, both inside one band on either side of a third."""
    hu = np.full(VOXELS.shape, 40, np.int16)
    hu[:, 16:32], hu[:, 32:48] = 150, -90
    truth = np.select([hu == 150, hu == -90], [1, 2], 3).astype(np.uint8)
    features = known_map(hu=hu)
    labels = LabelMap(strokes_of(truth, 8), VOXELS)
    blind = LinearProbe.fit([(features, labels)])
    seeing = LinearProbe.fit([(features, labels)], hu_features=hu_features)
    assert mean_dice(seeing, features, truth) > max(0.85, mean_dice(blind, features, truth) + 0.1)


def test_one_class_only(scan):
    features, truth = scan
    painted = np.where(strokes_of(truth) == 2, 2, 0).astype(np.uint8)
    with pytest.raises(UserError, match="only liver is labelled; paint a second class"):
        LinearProbe.fit([(features, LabelMap(painted, VOXELS, names={2: "liver"}))])


def test_an_empty_stroke(scan):
    features, truth = scan
    empty = LabelMap(np.zeros(VOXELS.shape, np.uint8), VOXELS)
    with pytest.raises(UserError, match="no voxel is labelled"):
        LinearProbe.fit([(features, empty)])
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))])
    with pytest.raises(UserError, match="no voxel is labelled"):
        probe.extend([(features, empty)])


def test_one_of_several_masks_may_hold_background_only(scan):
    features, truth = scan
    masks = LabelMap(np.where(truth == 1, 0, truth).astype(np.uint8), VOXELS)
    nothing = LabelMap(np.zeros((8, 64, 64), np.uint8), VOXELS.cropped((0, 0, 0), (8, 64, 64)))
    probe = LinearProbe.fit([(features, masks), (features, nothing)], zero="background")
    assert probe.classes == (0, 2, 3)
    with pytest.raises(UserError, match="only class 0 is labelled"):
        LinearProbe.fit([(features, nothing)], zero="background")


def test_strokes_partly_and_wholly_outside(scan):
    features, truth = scan
    grid = VOXELS.cropped((0, 0, 0), (32, 64, 80))
    painted = np.zeros(grid.shape, np.uint8)
    painted[..., :64] = strokes_of(truth, 6)
    inside = LinearProbe.fit([(features, LabelMap(painted[..., :64], VOXELS))])
    painted[4, 4, 60:80] = truth[4, 4, 60]
    assert mean_dice(LinearProbe.fit([(features, LabelMap(painted, grid))]), features, truth) > 0.5
    painted[6, 6, 70:80] = 7
    with pytest.raises(UserError, match="class 7 is painted only outside the scan"):
        LinearProbe.fit([(features, LabelMap(painted, grid))])
    assert inside.classes == (1, 2, 3)


def test_labels_elsewhere_in_the_world_are_refused(scan):
    features, truth = scan
    elsewhere = VOXELS.cropped((0, 0, 500), VOXELS.shape)
    with pytest.raises(UserError, match="labels lie outside the scan"):
        LinearProbe.fit([(features, LabelMap(truth, elsewhere))])


def test_labels_on_another_grid_of_the_same_patient_are_read_where_they_lie(scan):
    features, truth = scan
    coarse = VOXELS.pooled((2, 2, 2))
    labels = partition(smooth_field(coarse))
    probe = LinearProbe.fit([(features, LabelMap(labels, coarse))], head="logistic")
    assert mean_dice(probe, features, truth) > 0.8


def test_more_classes_than_a_probe_takes_and_as_many_classes_as_samples(scan):
    features, _ = scan
    many = np.zeros(VOXELS.shape, np.uint16)
    many[0, :5].reshape(-1)[:300] = np.arange(1, 301)
    many[0, :5] = np.arange(1, 321).reshape(5, 64)
    with pytest.raises(UserError, match="320 classes and a probe takes 255"):
        LinearProbe.fit([(features, LabelMap(many, VOXELS))])
    few = np.zeros(VOXELS.shape, np.uint8)
    few[16, 10:50:8, 20] = np.arange(1, 6)  # one voxel a class, far fewer than the 24 dimensions
    for head in ("ridge", "logistic"):
        probe = LinearProbe.fit([(features, LabelMap(few, VOXELS))], head=head)
        found = probe.predict(features, VOXELS).labels
        assert (found[few > 0] == few[few > 0]).all()


def test_tokens_that_are_not_numbers_count_as_missing(scan):
    features, truth = scan
    tokens = features.tokens.copy()
    tokens[7, 7, 7] = np.nan
    broken = FeatureMap(tokens, features.valid, TOKENS, features.hu, VOXELS, features.cls, PROVENANCE)
    probe = LinearProbe.fit([(broken, LabelMap(truth, VOXELS))], head="logistic")
    assert np.isfinite(probe.weights).all()
    assert mean_dice(probe, broken, truth) > 0.8
    corner = np.zeros_like(truth)
    corner[2, 2, 2:9], corner[31, 63, 61:64] = 1, 2
    with pytest.raises(UserError, match="class 2 lies only where features are not numbers"):
        LinearProbe.fit([(broken, LabelMap(corner, VOXELS))])


def test_a_class_in_skipped_air_is_named(scan):
    _, truth = scan
    valid = np.ones(TOKENS.shape, bool)
    valid[:4] = False
    painted = np.zeros_like(truth)
    painted[2, 5, 5:10], painted[20, 5, 5:10] = 1, 2
    with pytest.raises(UserError, match=r"class 1 \(air\) is painted only in empty air"):
        LinearProbe.fit([(known_map(valid), LabelMap(painted, VOXELS, names={1: "air"}))])


def test_contradicting_names_are_refused(scan):
    features, truth = scan
    pairs = [(features, LabelMap(truth, VOXELS, names={1: name})) for name in ("liver", "spleen")]
    with pytest.raises(UserError, match="called liver in one scan and spleen in another"):
        LinearProbe.fit(pairs)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_a_loaded_probe_and_one_stroke_keep_its_classes_and_what_it_knows(scan, tmp_path, head):
    features, truth = scan
    labels = LabelMap(strokes_of(truth, count=20), VOXELS, names={1: "a", 2: "b", 3: "c"})
    LinearProbe.fit([(features, labels)], head=head).save(tmp_path / "abc.probe")
    loaded = LinearProbe.load(tmp_path / "abc.probe")
    before = loaded.predict(features, VOXELS).labels
    stroke = np.zeros(VOXELS.shape, np.uint8)
    z, y, x = np.argwhere((before == 1) & (truth == 2))[0]
    stroke[z, y, x : x + 6] = 2
    corrected = loaded.extend([(features, LabelMap(stroke, VOXELS))])
    after = corrected.predict(features, VOXELS).labels
    assert corrected.classes == (1, 2, 3) and corrected.names == {1: "a", 2: "b", 3: "c"}
    place = (slice(z, z + 1), slice(y, y + 1), slice(x, x + 6))
    chances = [one.probabilities(features, VOXELS, value=2, region=place).mean() for one in (loaded, corrected)]
    assert chances[1] > chances[0] + 0.05
    assert (after == before).mean() > 0.95
    assert mean_dice(corrected, features, truth) > mean_dice(loaded, features, truth) - 0.01
    assert np.array_equal(loaded.predict(features, VOXELS).labels, before)


def test_a_loaded_probe_learns_a_new_class(scan, tmp_path):
    features, truth = scan
    painted = strokes_of(truth, count=20)
    two = np.where(painted == 3, 0, painted)
    LinearProbe.fit([(features, LabelMap(two, VOXELS))]).save(tmp_path / "two.probe")
    grown = LinearProbe.load(tmp_path / "two.probe").extend([(features, LabelMap(painted, VOXELS, names={3: "c"}))])
    assert grown.classes == (1, 2, 3) and grown.names == {3: "c"}
    assert mean_dice(grown, features, truth) > 0.8


def test_metal_in_the_scan_does_not_break_the_fit():
    """Columns of HU that hardly occur lay 1,000 deviations off, and no Cholesky factor was found."""
    rng = np.random.default_rng(1)
    hu = rng.normal(40, 15, VOXELS.shape).astype(np.int16)
    hu[9:11, 20:22, 20:22] = 3071
    features = known_map(hu=hu)
    painted = np.zeros(VOXELS.shape, np.uint8)
    painted[10, 20:22, 18:26], painted[20, 40, 30:50] = 1, 2
    for hu_features in ("token", "voxel"):
        probe = LinearProbe.fit([(features, LabelMap(painted, VOXELS))], hu_features=hu_features)
        assert np.abs(probe.memory.x).max() <= CLIP
        found = probe.predict(features, VOXELS).labels
        assert (found[painted > 0] == painted[painted > 0]).mean() > 0.9
