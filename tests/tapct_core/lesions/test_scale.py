"""Balls of the right size at a click, in noise, and little that stands out where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.lesions.scale import ROOM, balls_at
from tapct_core.lesions.shapes import ball
from tapct_core.volume import CTVolume

GRID = Geometry.from_spacing((30, 60, 60), (2.5, 1.2, 1.2))
MIDDLE = GRID.to_world(np.array([15, 30, 30]))


def scan(radius: float, contrast: float, noise: float = 20.0) -> CTVolume:
    hu = np.random.default_rng(0).normal(40, noise, GRID.shape)
    return CTVolume(hu + contrast * (ball(MIDDLE, radius).rho(GRID) <= 1), GRID)


@pytest.mark.parametrize("radius", [5.0, 9.0, 15.0])
@pytest.mark.parametrize("contrast", [70, -70])
def test_the_likeliest_ball_is_the_lesion(radius, contrast):
    best = balls_at(scan(radius, contrast), MIDDLE + [1.5, -1, 1], 40.0)[0]
    assert best.radius_mm == pytest.approx(radius, rel=0.25)
    assert np.linalg.norm(best.middle_lps_mm - MIDDLE) < 0.35 * radius


def test_a_reach_bounds_them_and_noise_stands_out_little():
    found = balls_at(scan(1, 0), MIDDLE, 12.0)
    assert found and max(one.radius_mm for one in found) * ROOM <= 12
    assert max(one.effect for one in found) < 0.5
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
