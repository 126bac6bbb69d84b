"""A later mask starts from the earlier one: which one that is, and that the more plausible of both ways is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions import Study, Timepoint
from tapct_core.lesions.carried import Carried
from tapct_core.lesions.finding import Mask, Plausibility
from tapct_core.lesions.grow import grow_mask
from tapct_core.lesions.growing_on import earlier_mask, grow_on
from tapct_core.lesions.shapes import Ellipsoid
from tapct_core.volume import CTVolume

GRID = Geometry.from_spacing((30, 60, 60), (2.5, 1.2, 1.2))
MIDDLE = GRID.to_world(np.array([14, 28, 29]))
LATER = tuple(MIDDLE + [4.0, -3.0, 5.0])
FAINT = {"contrast": -25.0, "noise": 45.0}


def scan(middle=MIDDLE, contrast: float = -60.0, noise: float = 30.0, seed: int = 0) -> tuple[CTVolume, np.ndarray]:
    """An elongated lesion in soft tissue that differs little from what is round it, with its true voxels."""
    inside = Ellipsoid(np.asarray(middle), np.eye(3), np.array([12.0, 6.0, 8.0])).rho(GRID) <= 1
    return CTVolume(np.random.default_rng(seed).normal(60, noise, GRID.shape) + contrast * inside, GRID), inside


@pytest.fixture
def study() -> Study:
    """One lesion that was drawn in the first two of three scans."""
    made = Study("p", [Timepoint(name, f"{name}.nii") for name in ("t0", "t1", "t2")])
    lesion = made.add_lesion("L1", "t0", tuple(MIDDLE), "AB")
    volume, drawn = scan()
    for name in ("t0", "t1"):
        made.move(lesion.uid, name, tuple(MIDDLE), "AB")
        made.set_mask(lesion.uid, name, Mask.from_array(drawn), volume, "AB")
    return made


def test_a_faint_lesion_keeps_the_shape_that_was_drawn_before():
    """Half the noise darker than its surroundings: a click alone finds a third of it, or nothing at all."""
    first, drawn = scan(**FAINT)
    before = Carried.to(Mask.from_array(drawn), first, tuple(MIDDLE), LATER)
    volume, truth = scan(LATER, **FAINT, seed=1)
    found, alone = grow_on(volume, LATER, None, before), grow_mask(volume, LATER)
    dice = [2 * (one.to_array() & truth).sum() / (one.voxels.sum() + truth.sum()) for one in (found, alone)]
    assert dice[0] > 0.6 > 0.4 > dice[1]
    volume, truth = scan(LATER, **FAINT, seed=2)
    with pytest.raises(UserError, match="nothing stands out"):
        grow_on(volume, LATER, None, None)
    mask = grow_on(volume, LATER, None, before)
    assert 2 * (mask.to_array() & truth).sum() / (mask.voxels.sum() + truth.sum()) > 0.8


def test_without_an_earlier_mask_the_place_decides(study):
    volume, _ = scan(LATER, contrast=-200, noise=10)
    np.testing.assert_array_equal(grow_on(volume, LATER, None, None).to_array(), grow_mask(volume, LATER).to_array())
    away = Carried(
        study.lesions[0].findings["t0"].mask,
        scan()[0],
        np.array([[1, 0, 0, 900.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    )  # carried out of the scan: nothing is lost
    np.testing.assert_array_equal(grow_on(volume, LATER, None, away).to_array(), grow_mask(volume, LATER).to_array())
    with pytest.raises(UserError, match="outside the scan"):
        grow_on(volume, (900.0, 0.0, 0.0), None, None)


def test_it_is_the_latest_that_counts_and_is_at_hand(study):
    lesion, volumes = study.lesions[0], {name: scan()[0] for name in ("t0", "t1")}
    carried = lambda: earlier_mask(study, lesion, "t2", LATER, volumes.get)  # noqa: E731
    assert carried().mask is lesion.findings["t1"].mask
    np.testing.assert_allclose(carried().motion[:3, 3], np.subtract(LATER, MIDDLE))
    assert earlier_mask(study, lesion, "t0", LATER, volumes.get) is None, "what comes later is no start"
    lesion.findings["t1"] = replace(lesion.findings["t1"], measured_by="", plausibility=Plausibility(0.1, ("ragged",)))
    assert carried().mask is lesion.findings["t0"].mask, "a doubtful one starts none"
    del volumes["t0"]
    assert carried() is None
    volumes["t0"] = CTVolume(np.zeros((4, 4, 4), np.int16), Geometry.from_spacing((4, 4, 4), (1, 1, 1)))
    assert carried() is None, "drawn on another grid"
