"""What a probe says of a scan: whole and in parts alike, on any grid of the patient, with the borders HU have."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe import LinearProbe
from tapct_core.probe.channels import column_count, columns_at, statistics
from tapct_core.volume import CTVolume, LabelMap
from tests.tapct_core.probe.known_field import PROVENANCE, TOKENS, VOXELS, known_map, three_classes


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
