"""The region that stands out at a point: filled, cut from its neighbours, or none."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.lesions.region import distinct_region
from tapct_core.lesions.shapes import ball
from tapct_core.volume import CTVolume

GRID = Geometry.from_spacing((30, 60, 60), (2.0, 1.0, 1.0))
MIDDLE = GRID.to_world(np.array([14, 29, 30]))


@pytest.mark.parametrize("background", [-800, 110])
def test_it_is_the_ball_at_the_point(background):
    inside = ball(MIDDLE, 8.0).rho(GRID) <= 1
    hu = np.where(inside, 20, background) + np.random.default_rng(0).normal(0, 12, GRID.shape)
    found = distinct_region(CTVolume(hu, GRID), MIDDLE + [2, -2, 0]).to_array()
    assert 2 * (found & inside).sum() / (found.sum() + inside.sum()) > 0.9


def test_noise_and_what_is_larger_than_the_reach_are_none():
    noise = np.random.default_rng(0).normal(40, 15, GRID.shape)
    assert distinct_region(CTVolume(noise, GRID), MIDDLE) is None
    large = noise + 300 * (ball(MIDDLE, 14.0).rho(GRID) <= 1)
    assert distinct_region(CTVolume(large, GRID), MIDDLE, reach_mm=9.0) is None
    assert distinct_region(CTVolume(large, GRID), MIDDLE, reach_mm=25.0) is not None
