"""The strongest rival answers in the same terms as all: a pair whose motion is known, from a start that is off."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lesions.matching import rivals
from tests.tapct_core.pairs import moved_pair


@pytest.mark.slow
def test_convexadam_mends_a_start_that_is_off():
    pair = moved_pair()
    off = np.array([2.0, -3.0, 2.0])
    locate = rivals.convex_adam(pair.before, pair.after, lambda points: points + pair.shift_mm + off)
    found = locate(pair.places[:2])  # the third lesion has gone
    assert np.linalg.norm(found - pair.places[:2] - pair.shift_mm, axis=1).max() < 1.0 < np.linalg.norm(off)


def test_an_affine_start_is_known_from_four_points():
    pair = moved_pair()
    linear = np.array([[0.9, 0.1, 0], [-0.1, 1.05, 0], [0, 0.02, 1]])
    exact = rivals._affine_of(lambda points: points @ linear.T + 5, pair.before.geometry)
    np.testing.assert_allclose(exact(pair.places), pair.places @ linear.T + 5, atol=1e-9)
