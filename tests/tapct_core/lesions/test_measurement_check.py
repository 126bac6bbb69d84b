"""Measurements that cannot be right are told from those that can, and a wrong one waits for a person."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.lesions import Mask, Plausibility, Study, Timepoint
from tapct_core.lesions.finding import PLAUSIBLE
from tapct_core.lesions.measurement_check import check_measurement, earlier_measurement, judged, set_judged_mask
from tapct_core.volume import CTVolume

from .findings import doubtful, measured, seen

GRID = Geometry.from_spacing((24, 60, 60), (2.5, 2.0, 2.0))
VOLUME = CTVolume(np.zeros(GRID.shape, np.int16), GRID)


class Grown(Mask):
    """A mask that knows what the image has against it."""

    plausibility, reason = 0.3, "no contrast at its border"


def ellipsoid(z_mm: float, y_mm: float, x_mm: float) -> Mask:
    """Half axes, about the middle."""
    index = np.moveaxis(np.indices(GRID.shape), 0, -1) - np.array(GRID.shape) // 2
    return Mask.from_array((((index * GRID.spacing_mm) / (z_mm, y_mm, x_mm)) ** 2).sum(axis=-1) <= 1)


def judge(mask: Mask, before=None) -> Plausibility:
    return check_measurement(mask, mask.measure(VOLUME), VOLUME, before)


@pytest.mark.parametrize(
    ("mask", "before"),
    [
        (ellipsoid(8, 8, 8), None),
        (ellipsoid(8, 8, 8), measured(17, 16)),
        (ellipsoid(15, 12, 16), measured(18, 15)),  # it has grown
        (ellipsoid(5, 5, 5), measured(40, 36)),  # it has shrunk: that is what treatment is for
        (ellipsoid(6, 6, 14), measured(26, 11)),  # it was long before
    ],
)
def test_lesions_are_believed(mask, before):
    assert judge(mask, before).value >= PLAUSIBLE


def thread() -> Mask:
    """A ball with a vessel of two voxels' width that runs on from it."""
    array = ellipsoid(6, 6, 6).to_array()
    array[12, 30:32, 30:56] = True
    return Mask.from_array(array)


@pytest.mark.parametrize(
    ("mask", "before", "words"),
    [
        (ellipsoid(0.1, 0.1, 0.1), None, "pixels across"),  # one voxel
        (ellipsoid(0.1, 0.1, 2.1), None, "pixels across"),
        (ellipsoid(20, 20, 25), measured(12, 10), "where it was 12 mm"),
        (thread(), measured(13, 12), "where it was 13 mm"),
        (ellipsoid(3.5, 3.5, 18), measured(36, 30), "times as long for its width"),
    ],
)
def test_what_cannot_be_right_is_doubted_and_why_is_said(mask, before, words):
    found = judge(mask, before)
    assert found.value < PLAUSIBLE and any(words in doubt for doubt in found.doubts)


def test_what_the_image_says_is_added_and_the_worst_decides():
    mask = ellipsoid(8, 8, 8)
    grown = Grown(mask.start, mask.voxels, mask.grid)
    assert judge(grown) == Plausibility(0.3, ("no contrast at its border",))


def test_a_measurement_is_held_against_the_latest_one_that_counts():
    study = Study("p", [Timepoint(name, name) for name in "abc"])
    lesion = study.lesion(study.add_lesion("l", "a", (60.0, 60.0, 30.0), "AB").uid)
    lesion.findings |= {"a": seen(16, 15), "b": doubtful(51)}
    assert earlier_measurement(study, lesion, "a") is None
    assert earlier_measurement(study, lesion, "c") == lesion.findings["a"].measurement
    study.move(lesion.uid, "c", (60.0, 60.0, 30.0), "AB")
    study.set_mask(lesion.uid, "c", ellipsoid(20, 22, 28), VOLUME)
    assert not study.finding(lesion.uid, "c").doubtful  # nobody has judged it yet
    assert judged(study, lesion, "c", VOLUME).doubtful


def test_what_a_person_draws_is_judged_as_well_and_counts_once_it_is_confirmed():
    study = Study("p", [Timepoint(name, name) for name in "ab"])
    lesion = study.lesion(study.add_lesion("l", "a", (60.0, 60.0, 30.0), "AB").uid)
    lesion.findings["a"] = seen(16, 15)
    study.move(lesion.uid, "b", (60.0, 60.0, 30.0), "AB")
    assert judged(study, lesion, "b", VOLUME) is None  # nothing is measured
    for mask, wrong in ((ellipsoid(8, 8, 9), False), (ellipsoid(0.1, 0.1, 0.1), True), (ellipsoid(20, 22, 28), True)):
        finding = set_judged_mask(study, lesion.uid, "b", mask, VOLUME, "AB")
        assert finding.mask_by == "person" and finding.doubtful is wrong and (finding.counted is None) is wrong
    confirmed = study.confirm_measurement(lesion.uid, "b", "CD")
    assert confirmed.counted is not None and confirmed.measured_by == "CD"
    assert set_judged_mask(study, lesion.uid, "b", ellipsoid(20, 22, 28), VOLUME, "AB").doubtful  # drawn anew
