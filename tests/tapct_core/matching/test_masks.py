"""Whole lesions as queries: the mean of their features, found again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import tapct_core as tc
from tapct_core import UserError, load_ct
from tapct_core.embedding import embed
from tapct_core.geometry import Geometry
from tapct_core.matching import match_masks, match_points
from tapct_core.matching.masks import _centre
from tapct_core.synthetic import STANDARD, make_follow_up
from tapct_core.volume import LabelMap


@pytest.fixture(scope="module")
def pair(data_dir):
    return make_follow_up(load_ct(data_dir / "ct" / "pyradiomics_lung2_ct.nii.gz"), STANDARD, seed=31)


@pytest.fixture(scope="module")
def maps(pair):
    return embed(pair.baseline, None), embed(pair.follow_up, None)


@pytest.fixture(scope="module")
def lesions(pair):
    return [one for one in pair.lesions if one.in_view and one.baseline_radius_mm and one.follow_up_radius_mm][:4]


def balls(grid: Geometry, lesions, values) -> LabelMap:
    """A ball of each lesion's radius at its place, labelled by ``values``."""
    labels = np.zeros(grid.shape, np.uint8)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    world = grid.to_world(index)
    for lesion, value in zip(lesions, values, strict=True):
        labels[np.linalg.norm(world - lesion.baseline_lps_mm, axis=-1) <= lesion.baseline_radius_mm] = value
    return LabelMap(labels, grid, names={value: f"lesion {value}" for value in values})


def test_lesions_are_found_by_their_masks_whatever_their_labels_and_grid(pair, maps, lesions):
    coarse = pair.baseline.geometry.respaced((3.0, 3.0, 3.0))
    for grid in (pair.baseline.geometry, coarse):
        masks = balls(grid, lesions, (7, 2, 5, 3))
        found = match_masks(*maps, masks)
        assert list(found) == [2, 3, 5, 7]
        for lesion, value in zip(lesions, (7, 2, 5, 3), strict=True):
            one = found[value]
            away = np.linalg.norm(np.array(one.best.point_lps_mm) - lesion.follow_up_lps_mm)
            assert away <= 8 and away <= max(5.0, lesion.follow_up_radius_mm)
            assert np.linalg.norm(np.array(one.query_lps_mm) - lesion.baseline_lps_mm) < 3
            assert one.best.confidence is None and one.presence is None and one.verdict == ""


def test_a_mask_of_one_voxel_is_a_click_there(pair, maps, lesions):
    grid = pair.baseline.geometry
    labels = np.zeros(grid.shape, np.uint8)
    index = np.rint(grid.to_index(np.array(lesions[0].baseline_lps_mm))).astype(int)
    labels[tuple(index)] = 1
    (by_mask,) = match_masks(*maps, LabelMap(labels, grid)).values()
    (by_click,) = match_points(*maps, grid.to_world(index)[None])
    assert [m.point_lps_mm for m in by_mask.matches] == [m.point_lps_mm for m in by_click.matches]
    assert [m.similarity for m in by_mask.matches] == [m.similarity for m in by_click.matches]


def test_the_query_is_the_mean_over_the_mask(pair, maps, lesions):
    """A mask of two far places looks like neither alone: its similarity to where one went is lower."""
    grid = pair.baseline.geometry
    (alone,) = match_masks(*maps, balls(grid, lesions[:1], (1,))).values()
    both = balls(grid, lesions[:2], (1, 1))
    (mixed,) = match_masks(*maps, both).values()
    assert mixed.best.similarity < alone.best.similarity


def test_the_centre_lies_in_the_mask_though_it_be_bent():
    shell = np.stack(np.meshgrid(*[np.arange(-5.0, 6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    shell = shell[np.abs(np.linalg.norm(shell, axis=1) - 4) < 0.6]
    assert (np.linalg.norm(shell - _centre(shell), axis=1) == 0).sum() == 1


def test_top_k_bounds_the_candidates_which_lie_apart(pair, maps, lesions):
    masks = balls(pair.baseline.geometry, lesions[:1], (1,))
    for k in (1, 3):
        (found,) = match_masks(*maps, masks, top_k=k).values()
        assert 1 <= len(found.matches) <= k
        places = np.array([m.point_lps_mm for m in found.matches])
        gaps = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(len(places), 1)]
        assert (gaps >= 15).all()


def test_what_cannot_be_matched_is_refused(pair, maps):
    grid = pair.baseline.geometry
    empty = LabelMap(np.zeros(grid.shape, np.uint8), grid)
    with pytest.raises(UserError, match="empty"):
        match_masks(*maps, empty)
    affine = grid.affine.copy()
    affine[:3, 3] += 5000
    ball = ndimage.binary_dilation(np.pad(np.ones((1, 1, 1), bool), 3), iterations=2).astype(np.uint8)
    with pytest.raises(UserError, match="outside"):
        match_masks(*maps, LabelMap(ball, Geometry(ball.shape, affine)))
    with pytest.raises(UserError, match="guess"):
        match_masks(*maps, LabelMap(ball, Geometry(ball.shape, grid.affine)), steps=("guess",))


def test_it_is_a_public_name():
    assert tc.match_masks is match_masks
