"""The probe's smaller parts: which voxels are read, the closed form, HU columns, files, reports, phase copies."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.probe.channels import columns_at
from tapct_core.probe.discriminant import Moments, Pooled, assign_folds, choose_penalty, discriminant
from tapct_core.probe.heads import fit_logistic
from tapct_core.probe.hu import KNOTS_HU, VOXEL_CHANNELS, VoxelScores, hats, token_hu, voxel_channels
from tapct_core.probe.phase import phase_copies, shifted_phase
from tapct_core.probe.sampling import pick_voxels, shares, zero_is_background
from tapct_core.volume import CTVolume, LabelMap

VOXELS = Geometry.from_spacing((16, 40, 40), (3.0, 1.0, 1.0), (5.0, 6.0, 7.0))
TOKENS = VOXELS.pooled((2, 4, 4))


def scan_of(hu: np.ndarray, dim: int = 4, provenance: dict | None = None) -> FeatureMap:
    tokens = np.random.default_rng(0).normal(size=(*TOKENS.shape, dim)).astype(np.float16)
    empty = np.zeros((0, dim), np.float16)
    return FeatureMap(tokens, np.ones(TOKENS.shape, bool), TOKENS, hu, VOXELS, empty, provenance or {})


@pytest.fixture(scope="module")
def features() -> FeatureMap:
    return scan_of(np.random.default_rng(5).integers(-200, 300, VOXELS.shape, dtype=np.int16))


def test_shares_reach_the_total_and_nobody_gets_more_than_the_equal_share_unless_others_leave_it():
    assert shares(np.array([5, 100, 100]), 60).tolist() == [5, 27, 28]
    assert shares(np.array([10, 10]), 100).tolist() == [10, 10]
    assert shares(np.array([1000]), 30).tolist() == [30]


def test_every_stroke_of_a_class_has_an_equal_say(features):
    painted = np.zeros(VOXELS.shape, np.uint8)
    painted[2, :30, :30] = 1  # 900 voxels
    painted[9, 3, 3:13] = 1  # 10 voxels
    painted[12, 20:30, 20:30] = 1  # 100 voxels
    painted[14, :5, :5] = 2
    voxels = pick_voxels(features, LabelMap(painted, VOXELS), False, 90, np.random.default_rng(0))
    index = np.rint(VOXELS.to_index(voxels.points)).astype(int)
    assert np.array_equal(painted[tuple(index.T)], voxels.values)
    own = index[voxels.values == 1]
    assert len(own) == 90 and len(np.unique(own, axis=0)) == 90
    assert {z: int((own[:, 0] == z).sum()) for z in (2, 9, 12)} == {2: 40, 9: 10, 12: 40}
    assert (voxels.values == 2).sum() == 25


def test_more_strokes_than_the_cap_are_thinned(features):
    painted = np.zeros(VOXELS.shape, np.uint8)
    painted[::2, ::2, ::2] = 1
    painted[1, 1, 1] = 2
    voxels = pick_voxels(features, LabelMap(painted, VOXELS), False, 50, np.random.default_rng(0))
    assert (voxels.values == 1).sum() <= 50


def test_background_of_masks_is_read_near_and_far(features):
    masks = np.zeros(VOXELS.shape, np.uint8)
    masks[5:9, 10:18, 10:18] = 1
    voxels = pick_voxels(features, LabelMap(masks, VOXELS), True, 200, np.random.default_rng(0))
    zeros = voxels.points[voxels.values == 0]
    index = np.rint(VOXELS.to_index(zeros)).astype(int)
    assert len(zeros) == 200 and (masks[tuple(index.T)] == 0).all()
    distance = ndimage.distance_transform_edt(masks == 0, sampling=VOXELS.spacing_mm)[tuple(index.T)]
    assert (distance < 10).sum() > 80 and (distance > 20).sum() > 20


def test_masks_and_strokes_are_told_apart():
    masks, flat = np.zeros(VOXELS.shape, np.uint8), np.zeros(VOXELS.shape, np.uint8)
    masks[5:9, 10:18, 10:18] = 1
    flat[5, 10:18, 10:18] = 1
    assert zero_is_background(LabelMap(masks, VOXELS))
    assert not zero_is_background(LabelMap(flat, VOXELS))
    assert not zero_is_background(LabelMap(masks, VOXELS, names={1: "Background"}))
    assert zero_is_background(LabelMap(flat, VOXELS), "background")
    assert not zero_is_background(LabelMap(np.ones(VOXELS.shape, np.uint8), VOXELS))
    with pytest.raises(ValueError, match="auto, background or unlabelled"):
        zero_is_background(LabelMap(flat, VOXELS), "perhaps")


def samples(n: int = 300, dim: int = 12, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, classes, n)
    return (rng.normal(size=(classes, dim))[index] + rng.normal(size=(n, dim))).astype(np.float32), index


def test_the_closed_form_is_scikit_learns_shrunk_discriminant():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, index = samples()
    moments = Moments.of(x, index, 3)
    weights, constants = discriminant(moments.means, moments.within(), 1e-6)
    # scikit-learn weights classes by the priors it is given, also within the pooled covariance.
    rival = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(x, index)
    np.testing.assert_allclose(weights, rival.coef_.T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(constants - constants[0], rival.intercept_ - rival.intercept_[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [20, 39, 40, 90])
@pytest.mark.parametrize("penalty", [1e-2, 3.0])
def test_few_samples_are_solved_among_themselves_with_the_same_answer(n, penalty):
    x, index = samples(n=n, dim=40)
    moments, few = Moments.of(x, index, 3), Pooled.of(x, index)
    assert few.gram.shape == (min(n, 40), min(n, 40))
    for found, expected in zip(
        few.discriminant(penalty), discriminant(moments.means, moments.within(), penalty), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_three_classes_in_a_row_do_not_mask_each_other():
    """Indicator regression never chooses the middle one of three classes along a line; this form must."""
    rng = np.random.default_rng(0)
    index = np.repeat([0, 1, 2], 200)
    x = (3.0 * index[:, None] + 0.3 * rng.normal(size=(600, 1))).astype(np.float32)
    moments = Moments.of(x, index, 3)
    weights, constants = discriminant(moments.means, moments.within(), 1e-3)
    assert ((x @ weights + constants).argmax(axis=1) == index).mean() > 0.99


def test_moments_of_parts_add_up_also_far_from_zero():
    x, index = samples()
    x = x + 1000
    parts = Moments.of(x[:100], index[:100], 3) + Moments.of(x[100:], index[100:], 3)
    whole = Moments.of(x, index, 3)
    np.testing.assert_allclose(parts.means, whole.means, rtol=1e-6)
    np.testing.assert_allclose(parts.scatter, whole.scatter, rtol=1e-2, atol=0.1)
    wider = whole.spread(np.array([0, 2, 3]), 4)
    assert wider.counts[1] == 0 and np.array_equal(wider.means[3], whole.means[2])


def test_groups_are_left_out_whole_and_lonely_ones_never():
    index, groups = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, 6, 7, 8, 9])
    folds = assign_folds(index, groups)
    assert folds[0] == folds[1] != folds[2] and folds[3] != folds[4] and folds[5] == -1


def test_noise_asks_for_more_penalty_than_signal():
    x, index = samples(n=60, dim=40)
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    groups = np.arange(60)
    clear = choose_penalty(3 * x, index, groups)
    lost = choose_penalty(noise, index, groups)
    assert lost[0] > clear[0] or lost[1] < clear[1]


def test_two_classes_of_the_logistic_head_equal_scikit_learns_own():
    from sklearn.linear_model import LogisticRegression

    x, index = samples(classes=2)
    weights, constants = fit_logistic(x, index, np.arange(len(x)), np.zeros((12, 2)), np.zeros(2))
    share = 0.5 / np.bincount(index)[index]
    rival = LogisticRegression(C=0.5 * len(x), tol=1e-6, max_iter=500).fit(x, index, sample_weight=share)
    np.testing.assert_allclose(weights[:, 1] - weights[:, 0], rival.coef_[0], rtol=0.02, atol=0.01)
    assert constants[1] - constants[0] == pytest.approx(rival.intercept_[0], abs=0.02)


def test_hats_are_linear_interpolation_and_sum_to_one():
    hu = np.array([-3000.0, -1000, -333, 15, 30, 31, 1199, 5000], np.float32)
    np.testing.assert_allclose(hats(hu).sum(axis=-1), 1, rtol=1e-6)
    curve = np.random.default_rng(0).normal(size=len(KNOTS_HU))
    np.testing.assert_allclose(hats(hu) @ curve, np.interp(hu, KNOTS_HU, curve), atol=1e-5)


def test_token_hu_is_mean_and_deviation_of_the_tokens_own_voxels(features):
    mean, deviation = token_hu(features)
    blocks = features.hu.reshape(8, 2, 10, 4, 10, 4).astype(float)
    np.testing.assert_allclose(mean, blocks.mean(axis=(1, 3, 5)), atol=0.01)
    np.testing.assert_allclose(deviation, blocks.std(axis=(1, 3, 5)), atol=0.05)


def test_token_hu_of_a_padded_grid_uses_the_voxels_there_are():
    hu = np.full((15, 38, 40), 70, np.int16)
    voxels = VOXELS.cropped((0, 0, 0), hu.shape)
    features = FeatureMap(
        np.zeros((8, 10, 10, 1), np.float16),
        np.ones((8, 10, 10), bool),
        TOKENS,
        hu,
        voxels,
        np.zeros((0, 1), np.float16),
    )
    mean, deviation = token_hu(features)
    assert np.allclose(mean, 70) and np.allclose(deviation, 0, atol=0.01)


def test_voxel_columns_at_voxels_equal_gaussians_of_the_whole_scan(features):
    index = np.array([[0, 0, 0], [7, 20, 11], [15, 39, 39], [3, 5, 36]])
    found = voxel_channels(features, VOXELS.to_world(index)).reshape(4, 3, -1)
    for s, sigma in enumerate((1.5, 3.0, 6.0)):
        steps = [sigma / step for step in VOXELS.spacing_mm]
        smooth = ndimage.gaussian_filter(features.hu.astype(np.float32), steps, mode="nearest", truncate=3.0)
        np.testing.assert_allclose(found[:, s, : len(KNOTS_HU)], hats(smooth[tuple(index.T)]), atol=2e-3)


def test_voxel_scores_read_in_blocks_equal_the_columns_times_the_weights(features):
    weights = np.random.default_rng(3).normal(size=(VOXEL_CHANNELS, 2))
    target = VOXELS.cropped((3, 4, 5), (6, 30, 20))
    scores = VoxelScores.on(features, weights, target)
    index = np.random.default_rng(4).integers(0, target.shape, (60, 3))
    expected = voxel_channels(features, target.to_world(index)) @ weights
    found = np.stack([scores.plane(z)[:, y, x] for z, y, x in index])
    # The table rounds smoothed HU to whole ones.
    np.testing.assert_allclose(found, expected, atol=0.15)


def test_a_map_of_hu_alone_can_be_probed(features):
    bare = scan_of(features.hu, dim=0)
    truth = np.where(ndimage.gaussian_filter(features.hu.astype(float), 2) > 50, 1, 2).astype(np.uint8)
    assert columns_at(bare, VOXELS.to_world(np.array([[1, 2, 3]])), "token").shape == (1, 2 * len(KNOTS_HU) + 1)
    probe = LinearProbe.fit([(bare, LabelMap(truth, VOXELS))], hu_features="voxel")
    assert dice_report(probe.predict(bare, VOXELS), LabelMap(truth, VOXELS))["mean_dice"] > 0.7


def fitted(features: FeatureMap) -> LinearProbe:
    truth = np.ones(VOXELS.shape, np.uint8)
    truth[:, 20:] = 2
    labels = LabelMap(truth, VOXELS, names={1: "front", 2: "Rücken"}, colours={1: (1, 2, 3)})
    return LinearProbe.fit([(features, labels)], hu_features="token")


@pytest.mark.parametrize("name", ["organs.probe", "organs.safetensors"])
def test_a_saved_probe_predicts_the_same_and_carries_its_words(features, tmp_path, name):
    probe = fitted(scan_of(features.hu, provenance={"encoder": "e", "weights": "w", "scan": "secret", "key": "k"}))
    path = probe.save(tmp_path / name)
    again = LinearProbe.load(path)
    assert np.array_equal(again.predict(features).labels, probe.predict(features).labels)
    assert again.names == {1: "front", 2: "Rücken"} and again.colours == {1: (1, 2, 3)}
    assert again.recipe == probe.recipe and again.facts["samples"] == probe.facts["samples"]
    assert again.provenance == {"encoder": "e", "weights": "w"}
    with pytest.raises(UserError, match="fit it again with the old and the new strokes"):
        again.extend([(features, LabelMap(np.ones(VOXELS.shape, np.uint8), VOXELS))])
    assert [p.name for p in tmp_path.iterdir()] == [name]
    if name == "organs.probe":
        assert json.loads((path / "probe.json").read_text())["names"]["2"] == "Rücken"
    probe.save(path)  # over itself
    LinearProbe.load(path)


def test_what_is_no_probe_is_refused(features, tmp_path):
    probe = fitted(features)
    with pytest.raises(UserError, match="is no probe"):
        LinearProbe.load(tmp_path / "nothing")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="damaged or no probe"):
        LinearProbe.load(tmp_path / "text.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a probe of this version"):
        LinearProbe.load(tmp_path / "other.safetensors")
    cut = probe.save(tmp_path / "cut.safetensors").read_bytes()[:-40]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    with pytest.raises(UserError, match="damaged or no probe"):
        LinearProbe.load(tmp_path / "cut.safetensors")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="folder with other things"):
        probe.save(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "precious"


def test_dice_by_hand_and_a_class_that_is_nowhere():
    ours, truth = np.zeros(VOXELS.shape, np.uint8), np.zeros(VOXELS.shape, np.uint8)
    ours[0, 0, :6], truth[0, 0, 2:8] = 1, 1
    truth[1, 0, :4] = 2
    report = dice_report(LabelMap(ours, VOXELS), LabelMap(truth, VOXELS, names={1: "a"}))
    assert report["classes"][1]["dice"] == pytest.approx(2 * 4 / 12) and report["classes"][1]["name"] == "a"
    assert report["classes"][2]["dice"] == 0 and report["mean_dice"] == pytest.approx(4 / 12)
    assert dice_report(LabelMap(ours, VOXELS), LabelMap(truth, VOXELS), (1, 7))["classes"][7]["dice"] is None
    with pytest.raises(UserError, match="different grids"):
        dice_report(LabelMap(ours, VOXELS), LabelMap(truth, VOXELS.cropped((0, 1, 0), VOXELS.shape)))


def organs() -> tuple[CTVolume, LabelMap]:
    hu = np.full(VOXELS.shape, 50, np.int16)
    hu[:, :5] = -1024
    hu[:, 35:] = 600
    labels = np.zeros(VOXELS.shape, np.uint8)
    labels[4:12, 10:30, 10:30], labels[:, 35:] = 1, 2
    return CTVolume(hu, VOXELS), LabelMap(labels, VOXELS)


def test_phase_copies_change_soft_labels_and_leave_air_and_bone():
    volume, labels = organs()
    copies = phase_copies(volume, labels, 3, seed=4)
    inner = (slice(6, 10), slice(14, 26), slice(14, 26))
    levels = [float(c.hu[inner].mean()) for c in copies]
    assert max(levels) - min(levels) > 10 and all(10 < v < 200 for v in levels)
    assert all((c.hu[:, :3] == -1024).all() for c in copies)
    assert all(abs(float(c.hu[:, 37:].mean()) - 600) < 65 for c in copies)
    again = phase_copies(volume, labels, 3, seed=4)
    assert all(np.array_equal(a.hu, b.hu) for a, b in zip(copies, again, strict=True))
    assert not np.array_equal(copies[0].hu, phase_copies(volume, labels, 1, seed=5)[0].hu)


def test_a_shifted_phase_adds_what_was_asked_for():
    volume, labels = organs()
    shifted = shifted_phase(volume, labels, {1: 80.0})
    difference = shifted.hu.astype(int) - volume.hu
    assert (difference[6:10, 14:26, 14:26] == 80).all() and (difference[0] == 0).all()
    coarse = LabelMap(labels.labels[::2, ::2, ::2], VOXELS.pooled((2, 2, 2)))
    assert (shifted_phase(volume, coarse, {1: 80.0}).hu[7:9, 14:26, 14:26] == 130).all()


def test_adapting_moves_the_frequencies_towards_the_scans_own(features):
    """A class that the scan hardly has is given less weight, and nothing else of the probe changes."""
    tokens = np.random.default_rng(0).normal(size=(*TOKENS.shape, 2)).astype(np.float16)
    tokens[..., 0] += 1.5  # mostly class 1's side
    target = FeatureMap(tokens, np.ones(TOKENS.shape, bool), TOKENS, features.hu, VOXELS, np.zeros((0, 2), np.float16))
    tokens = tokens.copy()
    tokens[::2, ..., 0] -= 3
    source = FeatureMap(tokens, target.valid, TOKENS, features.hu, VOXELS, target.cls)
    truth = np.ones(VOXELS.shape, np.uint8)
    truth[(np.arange(16) // 2) % 2 == 0] = 2
    probe = LinearProbe.fit([(source, LabelMap(truth, VOXELS))], standardise="fit")
    adapted = probe.adapted(target)
    gain = adapted.constants - probe.constants
    assert gain[0] > gain[1] and np.array_equal(adapted.weights, probe.weights)
    assert (adapted.predict(target, VOXELS).labels == 1).mean() > (probe.predict(target, VOXELS).labels == 1).mean()
