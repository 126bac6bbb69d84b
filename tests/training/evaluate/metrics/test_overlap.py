"""Dice and surface distances: known shapes, an independent form by distance transforms, and what is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.volume import LabelMap
from training.evaluate.metrics.overlap import score_case, surface, surface_distances

SPACING = (2.5, 0.8, 1.1)


def label_map(labels: np.ndarray, spacing=SPACING) -> LabelMap:
    return LabelMap(labels.astype(np.uint8), Geometry.from_spacing(labels.shape, spacing))


def by_transform(first: np.ndarray, second: np.ndarray, spacing) -> tuple[float, float]:
    """The same two figures from erosions and distance transforms over the whole array."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    to = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    a, b = to[1][edges[0]], to[0][edges[1]]
    return float(np.concatenate([a, b]).mean()), float(max(np.percentile(a, 95), np.percentile(b, 95)))


@pytest.mark.parametrize("seed", range(5))
def test_distances_agree_with_distance_transforms(seed):
    rng = np.random.default_rng(seed)
    masks = [ndimage.gaussian_filter(rng.normal(size=(14, 20, 17)), 2) > 0.02 for _ in range(2)]
    np.testing.assert_allclose(surface_distances(*masks, SPACING), by_transform(*masks, SPACING), rtol=1e-9)


def test_a_shifted_box_is_as_far_off_as_it_was_shifted():
    labels = np.zeros((12, 30, 30))
    labels[3:9, 5:15, 5:15] = 1
    truth = label_map(labels)
    found = label_map(np.roll(labels, 4, axis=2))
    score = score_case(found, truth, (1,))["1"]
    assert score["dice"] == pytest.approx(0.6)
    assert score["hausdorff95_mm"] == pytest.approx(4 * SPACING[2])
    assert 0 < score["surface_mm"] < 4 * SPACING[2]
    assert score["ml"] == score["ml_truth"] == pytest.approx(600 * np.prod(SPACING) / 1000)


def test_a_perfect_segmentation_is_perfect_at_the_border_too():
    labels = np.zeros((4, 6, 6))
    labels[:, :3] = 1
    labels[0, 3:] = 2
    scores = score_case(label_map(labels), label_map(labels), (1, 2))
    for score in scores.values():
        assert (score["dice"], score["surface_mm"], score["hausdorff95_mm"]) == (1.0, 0.0, 0.0)


def test_what_is_absent_has_no_figure_and_what_is_missed_has_no_distance():
    truth, found = np.zeros((3, 5, 5)), np.zeros((3, 5, 5))
    truth[1, 1:3, 1:3] = 1
    found[1, 3:, 3:] = 2
    scores = score_case(label_map(found), label_map(truth), (1, 2, 3))
    assert scores["1"]["dice"] == 0 and scores["1"]["surface_mm"] is None and scores["1"]["ml"] == 0
    assert scores["2"]["dice"] is None and scores["2"]["ml"] > 0 and scores["2"]["ml_truth"] == 0
    assert scores["3"] == {
        "dice": None, "surface_dice": None, "surface_mm": None, "hausdorff95_mm": None, "ml": 0.0, "ml_truth": 0.0
    }  # fmt: skip


def test_labels_beyond_the_classes_do_not_count():
    labels = np.zeros((3, 5, 5))
    labels[1, 1:4, 1:4] = 9
    assert score_case(label_map(labels), label_map(labels), (1,))["1"]["dice"] is None


def test_two_grids_are_refused():
    labels = np.ones((3, 5, 5))
    with pytest.raises(UserError, match="different grids"):
        score_case(label_map(labels), label_map(labels, (2.0, 1.0, 1.0)), (1,))


def test_a_surface_is_where_a_face_meets_the_outside():
    mask = np.ones((3, 3, 3), bool)
    assert surface(mask).sum() == 26 and not surface(mask)[1, 1, 1]
    mask[0, 0, 0] = False  # a corner that is gone touches its neighbours' faces, not the middle
    assert surface(mask).sum() == 25


def test_surface_dice_is_the_share_of_both_surfaces_within_two_millimetres():
    truth, found = np.zeros((1, 12, 12)), np.zeros((1, 12, 12))
    truth[0, 2:10, 2:10] = 1
    found[0, 2:10, 2:7] = 1  # the right edge lies 3.3 mm inside
    score = score_case(label_map(found), label_map(truth), (1,))["1"]
    # one slice: every voxel is surface; the truth has columns 1.1, 2.2 and 3.3 mm off, of 8 voxels each
    assert score["surface_dice"] == pytest.approx((104 - 16) / 104)
    missed = score_case(label_map(np.zeros_like(truth)), label_map(truth), (1,))["1"]
    assert missed["surface_dice"] == 0.0
    assert score_case(label_map(truth), label_map(truth), (1,))["1"]["surface_dice"] == 1.0
