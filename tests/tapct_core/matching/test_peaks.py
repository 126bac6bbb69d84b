"""Peaks between samples."""

from __future__ import annotations

import numpy as np

from tapct_core.matching.peaks import parabolic_peaks


def test_a_paraboloid_s_top_is_found_exactly():
    truth = np.array([[3.3, 4.8, 2.1], [1.0, 2.5, 5.9]])
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), axis=-1)
    maps = np.array([-(((grid - top) / (1, 2, 3)) ** 2).sum(axis=-1) for top in truth])
    places, heights = parabolic_peaks(maps)
    assert np.allclose(places, truth)
    assert np.allclose(heights, maps.max(axis=(1, 2, 3)))


def test_at_a_border_and_on_a_plateau_the_sample_itself():
    ramp = np.broadcast_to(np.arange(5.0), (1, 5, 5, 5))
    assert parabolic_peaks(ramp)[0][0, 2] == 4
    flat = np.zeros((1, 4, 1, 4))
    assert np.array_equal(parabolic_peaks(flat)[0], [[0, 0, 0]])
