"""Drawn axes: exact lengths on oblique and anisotropic scans, what stays when masks come and go, the study's file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions import Finding, Lesion, Mask, Study, Timepoint
from tapct_core.lesions.assessment import diameter_mm
from tapct_core.lesions.calipers import axes_of_mask, drawn_axes, length_mm, perpendicular, set_axes
from tapct_core.lesions.study_json import study_json, study_of
from tapct_core.volume import CTVolume, Source


def scan(spacing=(5.0, 0.7, 0.9), angles=(11, -7, 23)) -> CTVolume:
    """An oblique, anisotropic scan of noise."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(spacing)[::-1]
    affine[:3, 3] = (-20, 31, -400)
    hu = np.random.default_rng(0).normal(0, 20, (16, 60, 64)).astype(np.int16)
    return CTVolume(hu, Geometry(hu.shape, affine), Source("array"))


def study_at(volume: CTVolume, **facts) -> tuple[Study, str]:
    """A study of one scan with a lesion in its middle."""
    lesion = Lesion("L1", findings={"a": Finding(point_lps_mm=tuple(volume.geometry.to_world((8, 30, 32))), **facts)})
    return Study("p", [Timepoint("a", "a.nii")], [lesion]), lesion.uid


@pytest.mark.parametrize(
    "ends", [((8, 20, 20), (8, 35, 41)), ((2, 20, 20), (13, 21, 19)), ((5, 10.25, 9), (5, 10, 50.75))]
)
def test_a_length_is_the_distance_in_mm(ends):
    volume = scan()
    places = volume.geometry.to_world(np.array(ends, float))
    short = volume.geometry.to_world(np.array([(8, 30, 30), (8, 31, 32)], float))
    expected = np.linalg.norm((np.array(ends[1]) - ends[0]) * volume.geometry.spacing_mm)
    found = drawn_axes(volume, short, places)  # in whatever order they were drawn
    assert found.long_axis_mm == pytest.approx(expected, abs=1e-9)
    assert np.array(found.long_axis_ends) == pytest.approx(places) and found.drawn
    assert found.short_axis_mm == pytest.approx(length_mm(short)) and found.volume_ml is found.mean_hu is None


def test_right_angles_in_the_plane_of_both_lines():
    first, second = np.array([(0, 0, 0), (10, 0, 0)], float), np.array([(4, -3, 0), (6, 4, 0)], float)
    turned = perpendicular(first, second)
    assert (turned[1] - turned[0]) @ (first[1] - first[0]) == pytest.approx(0)
    assert turned[0] == pytest.approx(second[0]) and length_mm(turned) == pytest.approx(7)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ([(0, 0, 0), (0, 0, 0)], "one place"),
        ([(0, 0, 0), (0, 0, 900)], "outside"),
        ([(0, 0, 0), (0, 0, np.nan)], "two points"),
        ([(0, 0, 0)], "two points"),
    ],
)
def test_lines_that_are_no_axes(first, words):
    volume = scan(angles=(0, 0, 0))
    index = np.array(first, float)
    with pytest.raises(UserError, match=words):
        drawn_axes(volume, volume.geometry.to_world(index + 3), volume.geometry.to_world([[3, 3, 3], [3, 9, 9]]))


def test_drawn_axes_count_whatever_mask_comes_and_are_given_back():
    volume = scan()
    study, uid = study_at(volume)
    to_world = volume.geometry.to_world
    measured = drawn_axes(volume, to_world([[8, 20, 32], [8, 45, 32]]), to_world([[8, 30, 25], [8, 30, 38]]))
    finding = set_axes(study, uid, "a", measured, "AB")
    assert finding.decided_by == finding.measured_by == "AB" and finding.counted == measured
    voxels = np.zeros(volume.geometry.shape, bool)
    voxels[7:10, 25:36, 28:37] = True
    mask = Mask.from_array(voxels)
    grown = study.set_mask(uid, "a", mask, volume)
    assert grown.measurement.long_axis_ends == measured.long_axis_ends and grown.measured_by == "AB"
    assert grown.measurement.volume_ml == pytest.approx(mask.measure(volume).volume_ml)
    assert diameter_mm(study.lesions[0], "a") == measured.long_axis_mm
    own = axes_of_mask(study, uid, "a", volume)
    assert own.measurement == mask.measure(volume) and not own.measurement.drawn
    set_axes(study, uid, "a", drawn_axes(volume, *(measured.long_axis_ends, measured.short_axis_ends), mask), "AB")
    assert study.set_mask(uid, "a", mask, volume, "CD").measurement.drawn is False  # a person paints: the mask is meant


def test_axes_need_a_place():
    volume = scan()
    study, uid = study_at(volume)
    study.not_present(uid, "a", "AB")
    measured = drawn_axes(volume, *(volume.geometry.to_world([[8, 20, 32], [8, 45, k]]) for k in (32, 34)))
    with pytest.raises(UserError, match="place"):
        set_axes(study, uid, "a", measured, "AB")


def test_the_file_keeps_them_and_those_without_a_mask_only_where_they_were_drawn():
    volume = scan()
    study, uid = study_at(volume)
    to_world = volume.geometry.to_world
    measured = drawn_axes(volume, to_world([[8, 20, 32], [8, 45, 32]]), to_world([[8, 30, 25], [8, 30, 38]]))
    set_axes(study, uid, "a", measured, "AB")
    data = json.loads(study_json(study))
    again = study_of(data).lesions[0].findings["a"].measurement
    assert again.drawn and again.volume_ml is None
    assert again.long_axis_mm == pytest.approx(measured.long_axis_mm, abs=1e-6)
    del data["lesions"][0]["findings"]["a"]["measurement"]["drawn"]
    with pytest.raises(UserError, match="measurement is damaged"):
        study_of(data)
