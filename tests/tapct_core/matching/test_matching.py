"""Matching on real CTs whose truth is known: itself, synthetic follow-ups, and inputs that must be refused."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from tapct_core import InputSpec, UserError, load_ct
from tapct_core.embedding import embed
from tapct_core.encoders import untrained_encoder
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.matching import STEPS, match_points, prepare_pair, similarity_map
from tapct_core.matching.prior import body_points
from tapct_core.synthetic import HARD, make_follow_up
from tapct_core.vit import ViTConfig
from tapct_core.volume import CTVolume

TOKENS_ALONE = ("tokens", "trilinear", "subtoken")


@pytest.fixture(scope="module")
def ct(data_dir) -> CTVolume:
    return load_ct(data_dir / "ct" / "crlm_ct_1006_ct.nii.gz")


@pytest.fixture(scope="module")
def hard(ct):
    return make_follow_up(ct, HARD, seed=21)


@pytest.fixture(scope="module")
def maps(hard) -> tuple[FeatureMap, FeatureMap]:
    return embed(hard.baseline, None), embed(hard.follow_up, None)


def untrained(patch, window, spacing, seed=0, dim=96):
    config = ViTConfig(patch_size=patch, img_size=window, embed_dim=dim, depth=2, num_heads=3)
    spec = InputSpec(patch_size=patch, img_size=window, plan="spacing", spacing_mm=spacing)
    return untrained_encoder(config, spec, seed)


def errors(found, truth) -> np.ndarray:
    return np.array(
        [np.linalg.norm(np.array(one.best.point_lps_mm) - place) for one, place in zip(found, truth, strict=True)]
    )


@pytest.mark.parametrize(
    ("patch", "window", "spacing"),
    [((4, 8, 8), (24, 96, 96), (2.5, 2.0, 2.0)), ((8, 8, 8), (32, 64, 64), (2.5, 2.0, 2.0))],
)
def test_a_scan_finds_itself_by_tokens_alone(ct, patch, window, spacing):
    """Within a quarter of the pitch in the median and one token always, though untrained and all is searched."""
    features = embed(ct, untrained(patch, window, spacing))
    pair = prepare_pair(features, features, TOKENS_ALONE)
    points = body_points(pair.a, 60, np.random.default_rng(1))
    points = points + np.random.default_rng(2).uniform(-1, 1, points.shape)
    points = points[pair.a.in_body(points) & features.covers(points)]
    found = match_points(features, features, points, top_k=1, steps=TOKENS_ALONE)
    off = errors(found, points)
    assert len(points) > 40
    assert np.median(off) <= min(features.pitch_mm) / 4
    assert off.max() <= max(features.pitch_mm)


def test_a_scan_finds_itself_by_hu_within_a_millimetre(maps):
    points = body_points(prepare_pair(maps[0], maps[0]).a, 25, np.random.default_rng(3))
    found = match_points(maps[0], maps[0], points)
    assert np.median(errors(found, points)) < 0.5
    assert np.mean(errors(found, points) < 1) >= 0.9
    assert np.median([one.best.cycle_error_mm for one in found]) < 0.5


def test_lesions_of_a_hard_follow_up_are_found_by_hu_alone(hard, maps):
    lesions = [one for one in hard.lesions if one.baseline_radius_mm and one.follow_up_radius_mm and one.in_view]
    points = np.array([one.baseline_lps_mm for one in lesions])
    found = match_points(*maps, points)
    off = errors(found, [one.follow_up_lps_mm for one in lesions])
    assert len(lesions) >= 5
    assert (off <= 10).all() and off.mean() <= 2.8
    assert all(one.in_view for one in found)
    for one in found:
        assert [match.rank for match in one.matches] == list(range(1, len(one.matches) + 1))
        places = np.array([match.point_lps_mm for match in one.matches])
        gaps = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(len(places), 1)]
        assert (gaps >= 15).all()


def test_out_of_the_field_of_view_is_said(hard, maps):
    """A point whose place the follow-up's crop cut off is not taken for found."""
    points = body_points(prepare_pair(*maps).a, 400, np.random.default_rng(4))
    there = hard.motion.to_follow_up(points)
    beyond = hard.follow_up.geometry.to_index(there)[:, 0]
    gone = points[(beyond < -3) | (beyond > hard.follow_up.hu.shape[0] + 2)][:10]
    seen = points[(beyond > 3) & (beyond < hard.follow_up.hu.shape[0] - 4)][:20]
    assert len(gone) >= 3
    assert np.mean([not one.in_view for one in match_points(*maps, gone)]) >= 0.8
    assert np.mean([one.in_view for one in match_points(*maps, seen)]) == 1


def test_sides_are_not_swapped(hard, maps):
    """A point well to the left must not be matched to its mirror image."""
    pair = prepare_pair(*maps)
    points = body_points(pair.a, 300, np.random.default_rng(5))
    middle = np.median(points[:, 0])
    there = hard.motion.to_follow_up(points)
    keep = (np.abs(points[:, 0] - middle) > 60) & hard.follow_up.geometry.contains(there)
    found = match_points(*maps, points[keep][:12])
    best = np.array([one.best.point_lps_mm for one in found])
    assert (np.abs(best[:, 0] - there[keep][:12, 0]) < 30).all()


def test_every_step_can_be_left_out(maps, hard):
    point = np.array([hard.lesions[0].baseline_lps_mm])
    for step in STEPS:
        if step != "hu":
            (found,) = match_points(*maps, point, steps=[s for s in STEPS if s != step])
            assert np.isfinite(found.best.point_lps_mm).all()
    with pytest.raises(UserError, match="no evidence"):
        match_points(*maps, point, steps=[s for s in STEPS if s != "hu"])
    with pytest.raises(UserError, match="guess"):
        match_points(*maps, point, steps=("guess",))


def test_results_do_not_depend_on_what_else_is_asked(maps, hard):
    points = np.array([one.baseline_lps_mm for one in hard.lesions if one.baseline_radius_mm])[:4]
    together = match_points(*maps, points)
    assert [match_points(*maps, point[None])[0] for point in points] == together
    assert match_points(*maps, np.zeros((0, 3))) == []


def test_points_outside_in_air_or_not_finite_are_refused(maps):
    corner = maps[0].hu_geometry.to_world((2, 2, 2))
    for point, said in ((np.array([1e4, 0, 0]), "outside"), (corner, "air"), (np.array([np.nan, 0, 0]), "finite")):
        with pytest.raises(UserError, match=said):
            match_points(*maps, point[None])


def test_tokens_that_are_not_finite_and_empty_scans_are_refused(maps):
    geometry = Geometry.from_spacing((3, 8, 8), (8, 8, 8))
    hu = np.full((12, 32, 32), 40, np.int16)
    tokens = np.full((3, 8, 8, 4), np.nan, np.float16)
    bad = FeatureMap(
        tokens, np.ones((3, 8, 8), bool), geometry, hu, geometry.resized(hu.shape), np.zeros((0, 4), np.float16)
    )
    with pytest.raises(UserError, match="not finite"):
        match_points(bad, bad, np.array([geometry.to_world((1, 4, 4))]))
    air = replace(maps[1], hu=np.full_like(maps[1].hu, -1000))
    with pytest.raises(UserError, match="air"):
        prepare_pair(maps[0], air)


def test_another_body_part_has_low_similarity(maps, data_dir, hard):
    leg = embed(load_ct(data_dir / "ct_limbs" / "sts_024_ct.nii.gz"), None)
    points = np.array([one.baseline_lps_mm for one in hard.lesions if one.baseline_radius_mm])[:5]
    wrong = [one.signs[0]["ncc"] for one in match_points(maps[0], leg, points)]
    right = [one.signs[0]["ncc"] for one in match_points(*maps, points)]
    assert np.median(wrong) < np.median(right) - 0.2


def test_a_scan_of_one_slice_is_matched(ct):
    middle = CTVolume(ct.hu[25:26], ct.geometry.cropped((25, 0, 0), (1, *ct.hu.shape[1:])))
    features = embed(middle, None)
    points = body_points(prepare_pair(features, features).a, 8, np.random.default_rng(6))
    found = np.array([one.best.point_lps_mm for one in match_points(features, features, points)])
    assert np.median(np.linalg.norm((found - points)[:, :2], axis=1)) < 1  # along z one slice says nothing
    assert features.hu_geometry.contains(found).all()


def test_similarity_map_peaks_at_the_query_and_is_empty_in_air(ct):
    features = embed(ct, untrained((8, 8, 8), (32, 64, 64), (2.5, 2.0, 2.0)))
    token = tuple(np.argwhere(features.valid)[len(np.argwhere(features.valid)) // 2])
    query = features.sample(features.geometry.to_world(token)[None])[0]
    found = similarity_map(features, query)
    assert found.shape == features.geometry.shape and found.dtype == np.float32
    assert np.isnan(found[~features.valid]).all()
    assert np.nanmax(np.abs(found)) <= 1 + 1e-5
    assert np.nanmean(found) < 0.5 < found[token]
    with pytest.raises(UserError, match="encoder"):
        similarity_map(embed(ct, None), np.zeros(0))


def test_what_was_prepared_goes_with_the_maps(ct):
    features = embed(CTVolume(ct.hu[:20], ct.geometry.cropped((0, 0, 0), (20, *ct.hu.shape[1:]))), None)
    prepared = weakref.ref(prepare_pair(features, features, ("hu",)).a)
    assert prepare_pair(features, features, ("hu",)).a is prepared()
    del features
    gc.collect()
    assert prepared() is None
