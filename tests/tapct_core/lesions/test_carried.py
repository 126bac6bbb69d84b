"""The baseline's mask as the expectation in the follow-up: moved, grown or shrunk, in noise."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions.carried import Carried
from tapct_core.lesions.finding import Mask
from tapct_core.lesions.grow import grow_mask
from tapct_core.lesions.shapes import Ellipsoid
from tapct_core.volume import CTVolume

GRID = Geometry.from_spacing((30, 60, 60), (2.5, 1.2, 1.2))
BEFORE = GRID.to_world(np.array([14, 28, 29]))


def scan(middle, factor: float, contrast: float = -60.0, noise: float = 30.0) -> tuple[CTVolume, np.ndarray]:
    """An elongated lesion, darker than what is round it, with its true voxels."""
    inside = Ellipsoid(middle, np.eye(3), factor * np.array([12.0, 6.0, 8.0])).rho(GRID) <= 1
    hu = np.random.default_rng(int(10 * factor)).normal(60, noise, GRID.shape)
    return CTVolume(hu + contrast * inside, GRID), inside


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_shape_and_size_follow_the_lesion(factor):
    first, drawn = scan(BEFORE, 1.0)
    moved = BEFORE + [5.0, -4.0, 5.0]
    second, truth = scan(moved, factor)
    prior = Carried.to(Mask.from_array(drawn), first, tuple(BEFORE), tuple(moved + [1.0, 0.5, -1.0]))
    mask = grow_mask(second, prior=prior)
    dice = 2 * (mask.to_array() & truth).sum() / (mask.voxels.sum() + truth.sum())
    assert dice > 0.8
    assert mask.measure(second).long_axis_mm == pytest.approx(24 * factor, rel=0.2)


def test_a_dark_lesion_is_not_a_bright_one():
    """Where the carried mask lands between its lesion and a vessel of its size, the sign of its contrast decides."""
    first, drawn = scan(BEFORE, 1.0)
    prior = Carried.to(Mask.from_array(drawn), first, tuple(BEFORE), tuple(BEFORE))
    assert prior.contrast < -0.5
    second, truth = scan(BEFORE + [0.0, 4.0, 0.0], 0.6)
    _, vessel = scan(BEFORE - [0.0, 7.0, 0.0], 0.6)
    both = CTVolume(second.hu + 90 * vessel, GRID)
    mask = grow_mask(both, prior=prior).to_array()
    assert (mask & truth).sum() > 0.6 * truth.sum()
    assert (mask & vessel).sum() < 0.2 * vessel.sum()


def test_what_cannot_be_carried_is_one_line():
    first, drawn = scan(BEFORE, 1.0)
    mask = Mask.from_array(drawn)
    with pytest.raises(UserError, match="out of this scan"):
        grow_mask(first, prior=Carried.to(mask, first, tuple(BEFORE), (500.0, 0.0, 0.0)))
    other = CTVolume(first.hu[:-1], GRID.cropped((0, 0, 0), (29, 60, 60)))
    with pytest.raises(UserError, match="another grid"):
        grow_mask(first, prior=Carried.to(mask, other, tuple(BEFORE), tuple(BEFORE)))
