"""What a mask says of itself: its band, how plausible it is, and why not."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.lesions.field import Field
from tapct_core.lesions.finding import Mask
from tapct_core.lesions.plausibility import GrownMask, Walked, judged, looks_of
from tapct_core.lesions.prompts import Prompt
from tapct_core.lesions.shapes import ball
from tapct_core.volume import CTVolume

GRID = Geometry.from_spacing((30, 60, 60), (2.0, 1.0, 1.0))
MIDDLE = GRID.to_world(np.array([15, 30, 30]))


def judge(radius=8.0, soft=0.3, contrast=80.0, noise=10.0, drawn_mm=None) -> GrownMask:
    """A ball whose probability falls over ``soft`` mm, in a scan where it is seen or not."""
    rho = ball(MIDDLE, radius).rho(GRID)
    hu = np.random.default_rng(0).normal(40, noise, GRID.shape) + contrast * (rho <= 1)
    chance = 1 / (1 + np.exp(np.clip((rho - 1) * radius / soft, -30, 30)))
    inside = rho <= rho.min()
    prompt = Prompt(ball(MIDDLE, radius), MIDDLE, 2 * radius, expected_mm=drawn_mm)
    field = Field.around(CTVolume(hu, GRID), MIDDLE, 2 * radius + 6, 1.0)
    part = field.box
    walked = Walked(prompt, field, chance[part], chance[part], inside[part], np.zeros_like(inside[part]))
    drawn = walked.at(0.5)
    return judged(walked, looks_of(walked, drawn), drawn)


def test_a_sharp_and_distinct_mask_is_believed():
    mask = judge()
    assert isinstance(mask, Mask) and mask.voxels.sum() * 2 == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.1)
    assert mask.plausibility > 0.85 and mask.reason == ""
    low, high = mask.band_mm
    assert low <= 16.5 and high >= 15.5 and high - low < 2


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"soft": 6.0}, "border is unclear"),
        ({"contrast": 0.0}, "hardly differs"),
        ({"radius": 0.9, "contrast": 300.0}, "only 1 voxel"),
        ({"drawn_mm": 51.0}, "its long axis is 16 mm, 51 mm were drawn"),
        ({"drawn_mm": 5.0}, "5 mm were drawn"),
    ],
)
def test_what_speaks_against_it_is_said(facts, words):
    mask = judge(**facts)
    assert words in mask.reason
    assert mask.plausibility < judge().plausibility - 0.05


def test_a_mask_of_another_size_than_drawn_is_not_plausible():
    assert judge(drawn_mm=51.0).plausibility < 0.35
    assert judge(radius=0.9, contrast=300.0).plausibility < 0.5
