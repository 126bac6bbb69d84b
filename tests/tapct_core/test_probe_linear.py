"""LinearProbe: fitted from strokes and masks on known fields, extended, read on the source grid."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.embedding import embed
from tapct_core.encoders import UNTRAINED, load_encoder
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe import LinearProbe, ProbeCancelled, dice_report
from tapct_core.probe.channels import column_count, columns_at, statistics
from tapct_core.volume import CTVolume, LabelMap

VOXELS = Geometry.from_spacing((32, 64, 64), (1.5, 1.0, 1.0), (-20.0, 7.0, 100.0))
TOKENS = VOXELS.pooled((4, 8, 8))
PROVENANCE = {"encoder": "known field", "weights": "abc", "plan": "spacing", "spacing_mm": "1.5 1 1", "scan": "1"}


def smooth_field(geometry: Geometry, dim: int = 24, seed: int = 0) -> np.ndarray:
    """(z, y, x, dim) smooth in the world, so that the token grid and the voxel grid sample the same functions."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.normal(0, 0.03, (3, dim)), rng.uniform(0, 6, dim)
    index = np.moveaxis(np.indices(geometry.shape), 0, -1)
    return np.sin(geometry.to_world(index) @ waves + phases).astype(np.float32)


def known_map(valid=None, provenance: dict | None = None, hu: np.ndarray | None = None) -> FeatureMap:
    valid = np.ones(TOKENS.shape, bool) if valid is None else valid
    return FeatureMap(
        tokens=smooth_field(TOKENS).astype(np.float16),
        valid=valid,
        geometry=TOKENS,
        hu=np.zeros(VOXELS.shape, np.int16) if hu is None else hu,
        hu_geometry=VOXELS,
        cls=np.zeros((0, 24), np.float16),
        provenance=PROVENANCE if provenance is None else provenance,
    )


def three_classes() -> np.ndarray:
    """A partition of the volume, linear in the field: what a perfect probe can find."""
    return partition(smooth_field(VOXELS))


def partition(field: np.ndarray) -> np.ndarray:
    first = field[..., :3]
    middle = smooth_field(VOXELS)[..., :3].reshape(-1, 3)
    return (1 + np.argmax((first - middle.mean(axis=0)) / middle.std(axis=0), axis=-1)).astype(np.uint8)


def strokes_of(truth: np.ndarray, count: int = 2, length: int = 12, seed: int = 3) -> np.ndarray:
    """Flat strokes: in ``count`` slices, short runs along x in each class."""
    rng = np.random.default_rng(seed)
    painted = np.zeros_like(truth)
    for value in np.unique(truth):
        places = np.argwhere(truth == value)
        for z, y, x in places[rng.choice(len(places), count, replace=False)]:
            run = (z, y, slice(x, x + length))
            painted[run] = np.where(truth[run] == value, value, painted[run])
    return painted


@pytest.fixture(scope="module")
def scan() -> tuple[FeatureMap, np.ndarray]:
    return known_map(), three_classes()


def mean_dice(probe: LinearProbe, features: FeatureMap, truth: np.ndarray, **options) -> float:
    return dice_report(probe.predict(features, VOXELS, **options), LabelMap(truth, VOXELS))["mean_dice"]


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_strokes_recover_a_partition_that_is_linear_in_the_features(scan, head):
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(strokes_of(truth, count=30), VOXELS))], head=head)
    assert probe.classes == (1, 2, 3)
    assert mean_dice(probe, features, truth) > 0.85


@pytest.mark.parametrize(("head", "least"), [("ridge", 0.85), ("logistic", 0.9), ("conv", 0.85)])
def test_full_masks_beat_chance_by_far_and_zero_is_a_class(scan, head, least, monkeypatch):
    monkeypatch.setattr("tapct_core.probe.conv.STEPS", 60)
    monkeypatch.setattr("tapct_core.probe.conv.LEARNING_RATE", 0.05)
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


def test_region_slabs_and_whole_agree(scan):
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))])
    whole = probe.predict(features, VOXELS).labels
    region = (slice(5, 9), slice(10, 50), slice(63, 64))
    part = probe.predict(features, VOXELS, region=region)
    assert np.array_equal(part.labels, whole[region])
    assert np.allclose(part.geometry.to_world((0, 0, 0)), VOXELS.to_world((5, 10, 63)))
    joined, order = np.full_like(whole, 99), []
    for span, labels in probe.predict_slabs(features, VOXELS, first=20):
        joined[span] = labels
        order.append(span)
    assert order[0] == slice(20, 21)
    assert np.array_equal(joined, whole)


def test_prediction_equals_classifying_features_sampled_at_each_voxel(scan):
    """The head commutes with interpolation: scores upsampled are the scores of upsampled features."""
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))], standardise="fit")
    index = np.random.default_rng(0).integers(0, VOXELS.shape, (500, 3))
    x = probe.standard.apply(features.sample(VOXELS.to_world(index)))
    scores = x @ probe.weights + probe.constants
    clear = np.ptp(np.sort(scores, axis=1)[:, -2:], axis=1) > 1e-2
    expected = np.array(probe.classes)[scores.argmax(axis=1)]
    found = probe.predict(features, VOXELS).labels[tuple(index.T)]
    assert np.array_equal(found[clear], expected[clear])
    shifted = scores - scores.max(axis=1, keepdims=True)
    expected_p = (np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True))[:, 1]
    np.testing.assert_allclose(probe.probabilities(features, VOXELS, value=2)[tuple(index.T)], expected_p, atol=5e-3)


def test_probabilities_sum_to_one_and_uncertainty_is_their_margin(scan):
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))])
    p = np.stack([probe.probabilities(features, VOXELS, value=v).astype(float) for v in probe.classes])
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=5e-3)
    top = np.sort(p, axis=0)
    np.testing.assert_allclose(probe.uncertainty(features, VOXELS), 1 - (top[-1] - top[-2]), atol=5e-3)
    with pytest.raises(UserError, match="no class 9"):
        probe.probabilities(features, VOXELS, value=9)


def test_voxels_without_tokens_are_background(scan):
    _, truth = scan
    valid = np.ones(TOKENS.shape, bool)
    valid[:4] = False
    features = known_map(valid)
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS, names={2: "Background"}))])
    assert probe.background == 2
    labels = probe.predict(features, VOXELS).labels
    assert (labels[:14] == 2).all()
    assert (probe.probabilities(features, VOXELS, value=1)[:14] == 0).all()
    assert (probe.uncertainty(features, VOXELS)[:14] == 1).all()
    np.testing.assert_array_equal(
        labels[16:],
        LinearProbe.fit([(known_map(valid), LabelMap(truth, VOXELS))]).predict(features, VOXELS).labels[16:],
    )


def test_painted_strokes_are_kept_and_stray_pieces_dropped(scan):
    features, truth = scan
    painted = strokes_of(truth, count=3)
    wrong = painted.copy()
    wrong[8, 8, 8:12] = 3
    probe = LinearProbe.fit([(features, LabelMap(painted, VOXELS))])
    kept = probe.predict(features, VOXELS, strokes=LabelMap(wrong, VOXELS)).labels
    assert (kept[wrong > 0] == wrong[wrong > 0]).all()
    from scipy import ndimage

    alone = probe.predict(features, VOXELS, keep="largest").labels
    assert all(ndimage.label(alone == v, np.ones((3, 3, 3)))[1] <= 1 for v in probe.classes)
    touched = probe.predict(features, VOXELS, keep="strokes", strokes=LabelMap(painted, VOXELS)).labels
    for value in probe.classes:
        pieces, count = ndimage.label(touched == value, np.ones((3, 3, 3)))
        assert set(pieces[painted == value]) >= set(range(1, count + 1))
    with pytest.raises(UserError, match="needs the strokes"):
        probe.predict(features, VOXELS, keep="strokes")


def test_the_result_carries_source_names_and_colours(scan):
    features, truth = scan
    labels = LabelMap(truth, VOXELS, names={1: "liver", 2: "spleen"}, colours={1: (200, 10, 10)})
    volume = CTVolume(np.zeros(VOXELS.shape, np.int16), VOXELS)
    result = LinearProbe.fit([(features, labels)]).predict(features, volume)
    assert result.source is volume.source and result.geometry is volume.geometry
    assert result.names == {1: "liver", 2: "spleen"} and result.colours == {1: (200, 10, 10)}


def test_more_than_255_label_values_stay_whole(scan):
    features, truth = scan
    labels = LabelMap(truth.astype(np.uint16) + 300, VOXELS)
    result = LinearProbe.fit([(features, labels)]).predict(features, VOXELS).labels
    assert set(np.unique(result)) <= {301, 302, 303} and result.dtype == np.uint16


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
def test_joined_columns_are_read_at_voxels_as_they_are_fitted(hu_features):
    hu = np.random.default_rng(1).integers(-100, 200, VOXELS.shape, dtype=np.int16)
    features, truth = known_map(hu=hu), three_classes()
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))], hu_features=hu_features)
    assert len(probe.weights) == column_count(features, hu_features)
    index = np.random.default_rng(0).integers(0, VOXELS.shape, (300, 3))
    x = statistics(features, hu_features).apply(columns_at(features, VOXELS.to_world(index), hu_features))
    scores = x @ probe.weights + probe.constants
    clear = np.ptp(np.sort(scores, axis=1)[:, -2:], axis=1) > 0.1 * scores.std()
    found = probe.predict(features, VOXELS).labels[tuple(index.T)]
    assert clear.sum() > 100
    assert np.array_equal(found[clear], np.array(probe.classes)[scores.argmax(axis=1)][clear])


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


def test_the_guided_filter_pulls_borders_to_the_edge_of_hu():
    hu = np.zeros(VOXELS.shape, np.int16)
    hu[:, :, 29:] = 120
    truth = np.where(hu == 0, 1, 2).astype(np.uint8)
    tokens = np.zeros((*TOKENS.shape, 1), np.float16)
    tokens[..., 4:, 0] = 1  # trilinear alone puts the border at x = 32
    features = FeatureMap(
        tokens, np.ones(TOKENS.shape, bool), TOKENS, hu, VOXELS, np.zeros((0, 1), np.float16), PROVENANCE
    )
    painted = np.zeros_like(truth)
    painted[10, 10:50, 5:9], painted[10, 10:50, 50:54] = 1, 2
    probe = LinearProbe.fit([(features, LabelMap(painted, VOXELS))])
    plain = (probe.predict(features, VOXELS).labels == truth).mean()
    guided = (probe.predict(features, VOXELS, guided=True).labels == truth).mean()
    assert plain < 0.96 and guided > plain + 0.015


def test_guided_parts_agree_with_the_whole_however_it_is_cut(monkeypatch):
    """The slice on screen, the slabs and the bands of rows read the scores round them as the whole scan does."""
    hu = (np.random.default_rng(4).integers(0, 6, VOXELS.shape) * 40 - 60).astype(np.int16)
    features, truth = known_map(hu=hu), three_classes()
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))])
    whole = probe.predict(features, VOXELS, guided=True).labels
    region = (slice(17, 18), slice(10, 50), slice(40, 64))
    part = probe.predict(features, VOXELS, region=region, guided=True).labels
    assert (part == whole[region]).mean() > 0.999
    joined = np.full_like(whole, 99)
    for span, labels in probe.predict_slabs(features, VOXELS, first=20, guided=True):
        joined[span] = labels
    assert (joined == whole).mean() > 0.999
    monkeypatch.setattr("tapct_core.probe.predicting.FILTER_BYTES", 1)
    seen = []
    banded = probe.predict(features, VOXELS, guided=True, progress=lambda *p: seen.append(p)).labels
    assert (banded == whole).mean() > 0.999
    assert seen[-1] == (3 * 32, 3 * 32) and [done for done, _ in seen] == list(range(3 * 32 + 1))
    assert (whole != probe.predict(features, VOXELS).labels).mean() > 0.01


# Bad input: each ends in one clear line, or in a right result.


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


def test_the_conv_head_reads_blocks_where_the_masks_lie(scan, monkeypatch):
    """Masks of a few slices only: blocks drawn elsewhere would hold no voxel and make the loss no number."""
    monkeypatch.setattr("tapct_core.probe.conv.STEPS", 25)
    monkeypatch.setattr("tapct_core.probe.conv.LEARNING_RATE", 0.1)
    features, truth = scan
    masks = np.where(truth == 1, 0, truth).astype(np.uint8)
    part = LabelMap(masks[20:30, 8:40], VOXELS.cropped((20, 8, 0), (10, 32, 64)))
    probe = LinearProbe.fit([(features, part)], head="conv", zero="background")
    assert np.isfinite(probe.weights).all()
    found = probe.predict(features, part)
    assert dice_report(found, part)["mean_dice"] > 0.7


def test_features_of_another_encoder_plan_or_length_are_refused(scan):
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))])
    with pytest.raises(UserError, match="embed the scan with the probe's encoder"):
        probe.predict(known_map(provenance={**PROVENANCE, "weights": "other", "encoder": "B"}), VOXELS)
    with pytest.raises(UserError, match="spacing_mm 1.5 1 1"):
        probe.predict(known_map(provenance={**PROVENANCE, "spacing_mm": "2 2 2"}), VOXELS)
    short = known_map(provenance={})
    short = FeatureMap(short.tokens[..., :5], short.valid, TOKENS, short.hu, VOXELS, short.cls)
    with pytest.raises(UserError, match="24 numbers and these have 5"):
        probe.predict(short, VOXELS)
    with pytest.raises(UserError, match="embed the scan"):
        LinearProbe.fit([(features, LabelMap(truth, VOXELS)), (short, LabelMap(truth, VOXELS))])


def test_a_turned_grid_and_an_empty_region_are_refused(scan):
    features, truth = scan
    probe = LinearProbe.fit([(features, LabelMap(truth, VOXELS))])
    affine = VOXELS.affine.copy()
    turn = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ affine[:3, :3]
    with pytest.raises(UserError, match="turned against each other"):
        probe.predict(features, Geometry(VOXELS.shape, affine))
    with pytest.raises(UserError, match="holds no voxel"):
        probe.predict(features, VOXELS, region=(slice(40, 50), slice(None), slice(None)))


def test_contradicting_names_are_refused(scan):
    features, truth = scan
    pairs = [(features, LabelMap(truth, VOXELS, names={1: name})) for name in ("liver", "spleen")]
    with pytest.raises(UserError, match="called liver in one scan and spleen in another"):
        LinearProbe.fit(pairs)


def test_conv_refuses_strokes(scan):
    features, truth = scan
    with pytest.raises(UserError, match="full masks"):
        LinearProbe.fit([(features, LabelMap(strokes_of(truth), VOXELS))], head="conv")
