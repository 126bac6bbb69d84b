"""Synthetic follow-ups: the truth is exact, the same seed gives the same bytes, and the parameters do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tapct_core import UserError, load_ct
from tapct_core.geometry import Geometry
from tapct_core.synthetic import HARD, STANDARD, make_follow_up
from tapct_core.synthetic_lesions import FATES
from tapct_core.volume import CTVolume

QUIET = replace(STANDARD, noise_hu=(0.0, 0.0), kernel_mm=(0.01, 0.02), keep_z=(1.0, 1.0))


@pytest.fixture(scope="module")
def ct(data_dir) -> CTVolume:
    return load_ct(data_dir / "ct" / "crlm_ct_1006_ct.nii.gz")


def random_points(geometry: Geometry, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return geometry.to_world(rng.uniform(0, 1, (count, 3)) * (np.array(geometry.shape) - 1))


@pytest.mark.parametrize("spec", [STANDARD, HARD])
def test_motion_and_its_inverse_cancel(ct, spec):
    motion = make_follow_up(ct, spec, seed=8, lesions=0).motion
    points = random_points(ct.geometry, 500)
    there = motion.to_follow_up(points)
    assert np.abs(motion.to_baseline(there) - points).max() < 0.01
    assert np.abs(motion.to_follow_up(motion.to_baseline(there)) - there).max() < 0.05


@pytest.mark.parametrize("spec", [STANDARD, HARD])
def test_motion_is_as_large_as_asked(ct, spec):
    motion = make_follow_up(ct, spec, seed=8, lesions=0).motion
    largest = np.linalg.norm(motion.displacement(random_points(ct.geometry, 4000) + motion.shift_mm), axis=1).max()
    assert 0.8 * spec.deformation_mm[0] < largest < 1.2 * spec.deformation_mm[1]
    assert np.abs(motion.shift_mm).max() <= spec.shift_mm
    assert np.linalg.det(motion.rotation) == pytest.approx(1)
    degrees = np.rad2deg(np.arccos((np.trace(motion.rotation) - 1) / 2))
    assert 0 < degrees <= spec.rotation_deg * np.sqrt(1.5)


def test_the_image_went_where_the_motion_says(ct):
    """A voxel of the follow-up has the HU of the place in the baseline that it came from."""
    pair = make_follow_up(ct, replace(QUIET, slice_mm=(2.0, 2.0)), seed=3, lesions=0)
    index = np.random.default_rng(0).integers(0, pair.follow_up.hu.shape, (3000, 3))
    points = pair.follow_up.geometry.to_world(index)
    origin = pair.motion.to_baseline(points)
    inside = pair.baseline.geometry.contains(origin)
    after = pair.follow_up.hu[tuple(index[inside].T)].astype(float)

    def before(places: np.ndarray) -> np.ndarray:
        hu = pair.baseline.hu.astype(float)
        return ndimage.map_coordinates(hu, ct.geometry.to_index(places).T, order=1, cval=-1024)

    assert np.abs(after - before(origin[inside])).mean() < 3
    assert np.corrcoef(after, before(points[inside]))[0, 1] < 0.8


def test_lesions_are_where_they_should_be(ct):
    pair = make_follow_up(ct, QUIET, seed=5, lesions=16)
    assert {lesion.fate for lesion in pair.lesions} <= set(FATES)
    for lesion in pair.lesions:
        expected = pair.motion.to_follow_up(np.array([lesion.baseline_lps_mm]))[0]
        assert np.abs(expected - lesion.follow_up_lps_mm).max() < 0.01
        assert lesion.in_view == bool(pair.follow_up.geometry.contains(expected))
        index = np.rint(ct.geometry.to_index(np.array(lesion.baseline_lps_mm))).astype(int)
        changed = pair.baseline.hu[tuple(index)] != ct.hu[tuple(index)]
        assert changed == (lesion.fate != "new")
        assert (lesion.baseline_radius_mm == 0) == (lesion.fate == "new")
        assert (lesion.follow_up_radius_mm == 0) == (lesion.fate == "vanished")
        if lesion.fate in ("grown", "shrunk"):
            assert (lesion.follow_up_radius_mm > lesion.baseline_radius_mm) == (lesion.fate == "grown")
        if lesion.tissue == "lung" and lesion.follow_up_radius_mm > 5 and lesion.in_view:
            there = np.rint(pair.follow_up.geometry.to_index(np.array(lesion.follow_up_lps_mm))).astype(int)
            assert abs(int(pair.follow_up.hu[tuple(there)]) - lesion.hu) < 60


def test_same_seed_same_bytes_other_seed_other_scan(ct):
    first, again, other = (make_follow_up(ct, HARD, seed) for seed in (1, 1, 2))
    assert first.follow_up.content_hash == again.follow_up.content_hash
    assert first.baseline.content_hash == again.baseline.content_hash
    assert first.lesions == again.lesions
    assert first.follow_up.content_hash != other.follow_up.content_hash


def test_slices_noise_and_crop(ct):
    spec = replace(STANDARD, noise_hu=(35.0, 35.0), keep_z=(0.5, 0.5), contrast=0.0)
    noisy = make_follow_up(ct, replace(spec, slice_mm=(5.0, 5.0)), seed=4, lesions=0)
    quiet = make_follow_up(ct, replace(spec, slice_mm=(5.0, 5.0), noise_hu=(0.0, 0.0)), seed=4, lesions=0)
    assert noisy.follow_up.geometry.spacing_mm[0] == pytest.approx(5)
    length = ct.geometry.shape[0] * ct.geometry.spacing_mm[0]
    assert noisy.follow_up.geometry.shape[0] * 5 == pytest.approx(length / 2, abs=5)
    difference = noisy.follow_up.hu.astype(float) - quiet.follow_up.hu
    inside = quiet.follow_up.hu > -900  # air is cut at -1024
    assert difference[inside].std() == pytest.approx(35, rel=0.05)


def test_a_field_of_view_is_cut_through_the_body_from_one_side(ct):
    """As where a scan was planned on one lung: half as wide, and one side of what was there is still its side."""
    spec = replace(QUIET, rotation_deg=0.0, shift_mm=0.0, in_plane_scale=(1.0, 1.0), contrast=0.0)
    whole, cut = (make_follow_up(ct, replace(spec, keep_x=share), seed=4, lesions=0) for share in ((1, 1), (0.5, 0.5)))
    wide, narrow = (made.follow_up.geometry for made in (whole, cut))
    assert narrow.shape[:2] == wide.shape[:2] and narrow.shape[2] == pytest.approx(wide.shape[2] / 2, abs=1)
    ends = [[grid.to_world(np.array((0, 0, x)))[0] for x in (0, grid.shape[2] - 1)] for grid in (wide, narrow)]
    kept = [abs(a - b) < 1.5 * wide.spacing_mm[2] for a, b in zip(*ends, strict=True)]
    assert sorted(kept) == [False, True]


def test_no_lesion_hangs_in_the_air_between_two_legs():
    rng = np.random.default_rng(0)
    hu = np.full((40, 60, 120), -1000, np.int16)
    z, y, x = np.indices(hu.shape)
    for middle in (30, 90):
        hu[(y - 30) ** 2 + (x - middle) ** 2 < 29.5**2] = 50
    hu[:, :2] = hu[:, -2:] = 50  # bandages: the air between the legs is a hole of the body's outline
    hu += rng.normal(0, 10, hu.shape).astype(np.int16)
    legs = CTVolume(hu, Geometry.from_spacing(hu.shape, (3.0, 3.0, 3.0), (0.0, 0.0, 0.0)))
    to_tissue = ndimage.distance_transform_edt(hu < -500, sampling=3.0)
    for seed in range(4):
        points = [one.baseline_lps_mm for one in make_follow_up(legs, seed=seed, lesions=8).lesions]
        where = np.rint(legs.geometry.to_index(np.array(points))).astype(int)
        assert len(points) == 8 and to_tissue[tuple(where.T)].max() < 10


def test_no_lesion_lies_in_the_foam_of_a_couch(data_dir):
    """A couch for radiotherapy, whose foam has the HU of lung: a fifth of what looks like lung in this scan."""
    couch = load_ct(data_dir / "ct" / "plastimatch_t0_ct.nii.gz")
    below_back_mm = 60.0  # LPS y of the couch's top in this scan
    for seed in range(40, 44):
        lesions = make_follow_up(couch, seed=seed).lesions
        assert len(lesions) == 12
        assert all(one.baseline_lps_mm[1] < below_back_mm for one in lesions if one.tissue == "lung")


def test_a_scan_of_air_is_refused_in_words():
    air = CTVolume(np.full((20, 30, 30), -1000, np.int16), Geometry.from_spacing((20, 30, 30), (5, 4, 4)))
    with pytest.raises(UserError, match="too little"):
        make_follow_up(air)


def test_a_scan_of_foam_alone_is_refused_in_words():
    hu = np.full((20, 40, 40), -1000, np.int16)
    hu[:, 4:36, 4:36] = 400  # a shell of one voxel
    hu[:, 5:35, 5:35] = -900
    couch = CTVolume(hu, Geometry.from_spacing(hu.shape, (3, 3, 3)))
    with pytest.raises(UserError, match="too little"):
        make_follow_up(couch)


@pytest.mark.parametrize("spec", [STANDARD, HARD])
def test_a_lesions_mask_is_where_it_can_be_seen(ct, spec):
    """Its voxels have its HU in the baseline, where its rim does not blur them, and its size and place in both."""
    pair = make_follow_up(ct, spec, seed=2)
    for lesion in pair.lesions:
        before, after = pair.baseline_mask(lesion), pair.follow_up_mask(lesion)
        assert before.any() == (lesion.fate != "new")
        assert not (lesion.fate == "vanished" and after.any())
        for mask, grid, middle, radius in (
            (before, pair.baseline.geometry, lesion.baseline_lps_mm, lesion.baseline_radius_mm),
            (after, pair.follow_up.geometry, lesion.follow_up_lps_mm, lesion.follow_up_radius_mm),
        ):
            places = grid.to_world(np.argwhere(mask))
            if mask.sum() * np.prod(grid.spacing_mm) > 4 * radius**3 * 0.5:
                assert np.linalg.norm(places.mean(axis=0) - middle) < 0.3 * radius + 2
                assert np.linalg.norm(places - middle, axis=1).max() < 1.6 * radius + 3
        if before.any() and lesion.tissue == "lung":
            core = pair.baseline.hu[ndimage.distance_transform_edt(before, pair.baseline.geometry.spacing_mm) > 2]
            assert len(core) == 0 or abs(np.median(core) - lesion.hu) < 30
