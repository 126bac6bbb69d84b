"""Expected shapes: relative radii of ellipsoids and of masks, carried between scans."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.lesions.finding import Mask
from tapct_core.lesions.shapes import Ellipsoid, Template, ball

TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


def oblique() -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = TURN @ Geometry.from_spacing((20, 30, 30), (2.0, 1.0, 1.0)).affine[:3, :3]
    affine[:3, 3] = (5, -7, 11)
    return Geometry((20, 30, 30), affine)


def test_an_ellipsoid_has_radius_one_at_the_ends_of_its_axes():
    grid = oblique()
    middle = grid.to_world(np.array([10, 15, 15]))
    rho = Ellipsoid(middle, TURN.T, np.array([6.0, 3.0, 8.0])).rho(grid)
    assert rho[10, 15, 15] == pytest.approx(0, abs=1e-5)
    assert rho[10, 15, 21] == pytest.approx(1, abs=1e-4)  # 6 mm along the first axis
    assert rho[10, 18, 15] == pytest.approx(1, abs=1e-4)
    assert rho[14, 15, 15] == pytest.approx(1, abs=1e-4)


def test_a_mask_ends_at_radius_one_and_travels_with_the_motion():
    grid = oblique()
    middle = grid.to_world(np.array([10, 15, 15]))
    voxels = ball(middle, 7.0).rho(grid) <= 1
    mask = Mask.from_array(voxels)
    here = Template.of(mask, grid).rho(grid)
    assert ((here < 1) == voxels).mean() > 0.999
    motion = np.eye(4)
    motion[:3, 3] = grid.affine[:3, 2] * 3  # three columns on
    there = Template.of(mask, grid, motion).rho(grid)
    assert np.abs(there[:, :, 6:] - here[:, :, 3:-3]).max() < 1e-3


def test_beyond_what_is_kept_of_a_mask_all_is_outside():
    grid = Geometry.from_spacing((40, 60, 60), (2.0, 1.0, 1.0))
    mask = Mask((20, 30, 30), np.ones((1, 1, 1), bool), grid.shape)
    rho = Template.of(mask, grid).rho(grid)
    assert rho[20, 30, 30] < 1 and rho[0, 0, 0] > 5 and rho[-1, -1, -1] > 5
