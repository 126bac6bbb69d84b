"""Prompts as expectations: where they end, what is certain, in LPS mm on any grid."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.lesions.finding import Mask
from tapct_core.lesions.prompts import Marks, from_axis, from_ball, from_box, from_mask, from_outline
from tapct_core.lesions.shapes import ball
from tapct_core.volume import LabelMap

GRID = Geometry.from_spacing((30, 60, 60), (2.0, 1.0, 1.0), (-10.0, 20.0, 5.0))
MIDDLE = GRID.to_world(np.array([15, 30, 30]))


def at(place) -> tuple[int, int, int]:
    return tuple(np.rint(GRID.to_index(np.asarray(place, float))).astype(int))


def test_an_axis_is_certain_in_its_middle_and_beyond_its_ends():
    prompt = from_axis([MIDDLE - [10, 0, 0], MIDDLE + [10, 0, 0]], GRID)
    rho, outside = prompt.shape.rho(GRID), prompt.outside(GRID)
    assert rho[at(MIDDLE + [10, 0, 0])] == pytest.approx(1, abs=1e-3)
    assert np.ptp(prompt.points[:, 0]) == pytest.approx(16, abs=1e-6) and prompt.drawn_mm == pytest.approx(20)
    assert not outside[at(MIDDLE + [10, 0, 0])]
    assert outside[at(MIDDLE + [13, 0, 0])] and outside[at(MIDDLE - [13, 0, 0])]
    assert not outside[at(MIDDLE + [0, 13, 0])]


def test_the_shorter_of_two_axes_is_the_short_one_whatever_the_order():
    lines = [[MIDDLE + [1, -4, 0], MIDDLE + [1, 4, 0]], [MIDDLE - [10, 0, 0], MIDDLE + [10, 0, 0]]]
    for given in (lines, lines[::-1]):
        prompt = from_axis(given, GRID)
        assert prompt.size_mm == pytest.approx(20)
        assert prompt.shape.semi_mm[:2] == pytest.approx([10, 4])
        assert prompt.outside(GRID)[at(MIDDLE + [0, 7, 0])]


def test_an_axis_across_the_slices_is_held_against_no_axial_diameter():
    prompt = from_axis([MIDDLE - [0, 0, 10], MIDDLE + [0, 0, 10]], GRID)
    assert prompt.drawn_mm is None and prompt.expected_mm is None
    assert prompt.shape.rho(GRID)[at(MIDDLE + [0, 0, 10])] == pytest.approx(1, abs=1e-3)


def test_a_box_ends_at_its_faces_and_a_flat_one_leaves_its_thickness_open():
    full, flat = (from_box([MIDDLE - half, MIDDLE + half], GRID) for half in ([8, 6, 10], [8, 6, 0]))
    assert full.shape.semi_mm == pytest.approx([8, 6, 10])
    assert full.outside(GRID)[at(MIDDLE + [0, 0, 14])] and not flat.outside(GRID)[at(MIDDLE + [0, 0, 14])]
    assert flat.shape.semi_mm[2] == pytest.approx(7.7)
    assert flat.outside(GRID)[at(MIDDLE + [11, 0, 0])]


def test_an_outline_ends_as_an_ellipsoid_would_and_slices_between_are_filled():
    inside = ball(MIDDLE, 9.0).rho(GRID) <= 1
    one, two = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    one[15] = inside[15]
    two[[13, 17]] = inside[[13, 17]]
    for labels, slices in ((one, range(12, 19)), (two, range(13, 18))):
        rho = from_outline(LabelMap(labels, GRID), GRID).shape.rho(GRID)
        for z in slices:
            assert rho[z, 30, 30] < 1, z
        assert rho[22, 30, 30] > 1 and rho[8, 30, 30] > 1
        assert ((rho[15] < 1) == inside[15]).mean() > 0.98


def test_a_ball_reaches_no_further_than_the_clicks_reach():
    prompt = from_ball(MIDDLE, 6.0, MIDDLE + [2, 0, 0], 9.0)
    outside = prompt.outside(GRID)
    assert outside[at(MIDDLE - [8, 0, 0])] and not outside[at(MIDDLE + [10, 0, 0])]


def test_a_mask_is_certain_deep_inside_even_if_it_is_one_voxel():
    voxels = ball(MIDDLE, 7.0).rho(GRID) <= 1
    deep = from_mask(Mask.from_array(voxels), GRID)
    assert len(deep.points) and np.linalg.norm((deep.points - MIDDLE)[:, :2], axis=1).max() < 6
    assert len(from_mask(Mask((3, 4, 5), np.ones((1, 1, 1), bool), GRID.shape), GRID).points) == 1


def test_strokes_named_background_lie_outside():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3, 4, 5], labels[6, 7, 8], labels[9, 10, 11] = 1, 2, 3
    marks = Marks.of(LabelMap(labels, GRID, names={2: " Background", 3: "rim"}), GRID)
    assert np.argwhere(marks.outside).tolist() == [[6, 7, 8]]
    assert np.argwhere(marks.inside).tolist() == [[3, 4, 5], [9, 10, 11]]
    assert Marks.of(None, GRID) is None
