"""The calibrated probabilities and the signs they read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tapct_core
from tapct_core.geometry import Geometry
from tapct_core.matching.confidence import (
    PLACE_SIGNS,
    Calibration,
    Logistic,
    band,
    load_calibration,
    presence_signs,
    products_of,
    transformed,
)
from tapct_core.matching.correlation import Image

GRID = Geometry.from_spacing((40, 40, 40), (2, 2, 2))
MIDDLE = GRID.to_world((20, 20, 20))


def scan(radius: float, level: float = 2.0) -> Image:
    """Texture with a ball of a given radius in the middle."""
    index = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), axis=-1)
    away = np.linalg.norm(GRID.to_world(index) - MIDDLE, axis=-1)
    values = np.random.default_rng(0).normal(1, 0.05, (40, 40, 40))
    return Image(np.where(away < radius, level, values).astype(np.float32), GRID)


def signs_of(before: Image, after: Image, point: np.ndarray, place: np.ndarray, linear: np.ndarray) -> dict[str, float]:
    (signs,) = presence_signs(before, after, point[None], place[None], linear[None])
    return signs


def test_many_are_told_what_each_is_told_alone():
    before, after = scan(8), scan(5)
    points = MIDDLE + np.random.default_rng(0).uniform(-12, 12, (9, 3))
    turns = np.tile(np.eye(3), (9, 1, 1))
    together = presence_signs(before, after, points, points + 1.0, turns)
    for one, point in zip(together, points, strict=True):
        assert one == pytest.approx(signs_of(before, after, point, point + 1.0, np.eye(3)), abs=1e-3)


@pytest.mark.parametrize("level", [2.0, 0.4])
def test_a_lesion_that_stays_keeps_its_contrast_and_one_that_goes_does_not(level):
    before = scan(8, level)
    signs = {r: signs_of(before, scan(r, level), MIDDLE, MIDDLE, np.eye(3)) for r in (10.0, 8.0, 5.0, 0.0)}
    for there in (10.0, 8.0, 5.0):  # grown, stable, shrunk
        assert signs[there]["kept"] > 0.1 > signs[0.0]["kept"]
        assert signs[there]["stands_out"] > 4 > 3 > signs[0.0]["stands_out"]
        assert signs[there]["core_faded"] < 0.3 < 0.7 < signs[0.0]["core_faded"]
        assert signs[there]["core_excess"] < signs[0.0]["core_excess"]
    assert signs[8.0]["core_ncc"] > 0.95 > 0.5 > signs[0.0]["core_ncc"]
    assert signs[8.0]["contrast"] == pytest.approx(abs(level - 1), abs=0.1)


def test_a_place_that_is_a_little_off_still_shows_the_lesion():
    before = scan(6)
    astray = signs_of(before, before, MIDDLE, MIDDLE + (2.0, -2.0, 2.0), np.eye(3))
    assert astray["kept"] > 0.3 and astray["stands_out"] > 4 and astray["core_faded"] < 0.2


def test_where_there_never_was_a_contrast_nothing_is_known():
    signs = signs_of(scan(0), scan(0), MIDDLE, MIDDLE, np.eye(3))
    assert signs["contrast"] < 0.1 and abs(signs["kept"]) < 0.6


def test_logistic_is_monotonic_and_a_missing_sign_counts_as_the_mean():
    model = Logistic(("ncc", "cycle_mm"), (0.5, 1.0), (0.2, 0.5), (2.0, -1.0), 0.3)
    assert model({"ncc": 0.9, "cycle_mm": 1}) > model({"ncc": 0.4, "cycle_mm": 1}) > model({"ncc": 0.4, "cycle_mm": 20})
    assert model({}) == pytest.approx(1 / (1 + np.exp(-0.3)))
    assert model({"ncc": np.nan, "cycle_mm": np.inf}) < model({"cycle_mm": 5.0})


def test_products_weigh_one_sign_by_another():
    plain = Logistic(("ncc", "contrast"), (0.5, 1.0), (0.2, 0.5), (1.0, 0.0), 0.0)
    weighed = replace(plain, products=(0.0, 3.0, 0.0))  # ncc squared, ncc times contrast, contrast squared
    strong, weak, unknown = ({"ncc": 0.3, "contrast": c} for c in (1.5, 0.5, np.nan))
    assert weighed(strong) < plain(strong) == plain(weak) < weighed(weak)
    assert weighed(unknown) == plain(unknown)
    np.testing.assert_array_equal(products_of(np.array([2.0, 3.0, 5.0])), [4, 6, 10, 9, 15, 25])


def test_the_packaged_calibration_calls_clear_cases_by_name():
    """A lesion that stands out as before is there; one whose place is like its surroundings is not."""
    packaged = json.loads((Path(tapct_core.__file__).parent / "weights" / "tap-ct-xs-3d" / "config.json").read_text())
    for evidence in ("hu", packaged["weights_sha256"]):
        calibration = load_calibration(evidence)
        before = scan(8.0)
        kept, gone = (signs_of(before, after, MIDDLE, MIDDLE, np.eye(3)) for after in (before, scan(0)))
        there, away = (calibration.presence(s | {"ncc": n}) for s, n in ((kept, 0.9), (gone, 0.2)))
        assert there > 0.9 > calibration.absent_below > away


def test_what_is_said_follows_from_the_one_probability_that_is_given():
    calibration, before = load_calibration("hu"), scan(8.0)
    for radius, ncc, low, high in ((8, 0.9, 0.8, 1.0), (0, 0.2, 0.0, 0.2)):
        signs = signs_of(before, scan(radius), MIDDLE, MIDDLE, np.eye(3)) | {"ncc": ncc}
        there = calibration.still_there(signs)
        assert low <= there <= high
        assert (there < 0.5) == (calibration.presence(signs) < calibration.absent_below)
    exact = Calibration(None, Logistic(("ncc",), (0.0,), (1.0,), (1.0,), 0.0), 0.8)
    at = float(np.log(0.8 / 0.2))
    assert exact.still_there({"ncc": at}) == pytest.approx(0.5)
    assert [exact.still_there({"ncc": x}) for x in (-30, 30)] == pytest.approx([0, 1], abs=1e-6)


def test_signs_are_bounded():
    values = transformed(
        {name: 1e9 for name in PLACE_SIGNS if name not in ("similarity", "ncc", "agreement", "leads")}, PLACE_SIGNS
    )
    assert np.nanmax(values) <= 10


def test_bands():
    assert band(0.95, 0.9, True, 0.5) == "high"
    assert band(0.7, 0.9, True, 0.5) == "moderate"
    assert band(0.1, 0.9, True, 0.5) == "low"
    assert band(0.95, 0.2, True, 0.5) == "not found"
    assert band(0.95, 0.2, True, 0.1) == "high"
    assert band(0.95, 0.9, False, 0.5) == "out of view"
