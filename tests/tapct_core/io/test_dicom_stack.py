"""Slices to a regular grid: rounded positions, gaps, strays, tilts, and the place that each refusal names."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import generate_uid

from tapct_core.io import load_ct


def at(places):
    """A change that puts slice n at z = places[n] (LPS mm, or its words as the header writes them)."""

    def change(dataset, number):
        dataset.ImagePositionPatient = ["0", "0", str(places[number])]

    return change


@pytest.fixture
def write_many(tmp_path, real_slices):
    """Write slices at the given z, pixels repeated from the six real ones -> the folder."""

    def written(places, folder="many"):
        from copy import deepcopy

        (tmp_path / folder).mkdir()
        for number, z in enumerate(places):
            dataset = deepcopy(real_slices[number % 6])
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.InstanceNumber = number + 1
            dataset.ImagePositionPatient = ["0", "0", str(z)]
            dataset.save_as(tmp_path / folder / f"{number:03}.dcm", enforce_file_format=True)
        return tmp_path / folder

    return written


@pytest.mark.parametrize("start", [-100.0, 37.45, -0.333])
@pytest.mark.parametrize(
    ("step", "decimals"), [(0.625, 1), (0.33, 2), (1.25, 1), (0.7, 1), (1.5, 0), (2.5, 0), (0.6, 1), (0.9375, 2)]
)
def test_positions_that_the_header_rounds_are_even(write_many, step, decimals, start):
    places = [f"{start + step * k:.{decimals}f}" for k in range(30)]
    volume = load_ct(write_many(places))
    assert volume.geometry.shape[0] == 30
    assert volume.geometry.spacing_mm[0] == pytest.approx(step, rel=0.01)
    known = start + step * np.arange(30)
    found = volume.geometry.to_world(np.column_stack([np.arange(30), np.zeros((30, 2))]))[:, 2]
    assert np.abs(found - known).max() < 0.6 * 10.0**-decimals


def test_exact_positions_stay_exact(write):
    volume = load_ct(write(at([-3.0, -0.5, 2.0, 4.5, 7.0, 9.5])))
    assert volume.geometry.origin_mm[2] == -3.0 and volume.geometry.spacing_mm[0] == 2.5


@pytest.mark.parametrize("gone", [[1], [3], [14], [3, 4], [2, 9]])
@pytest.mark.parametrize(("step", "decimals"), [(2.0, 6), (0.625, 1), (2.5, 0)])
def test_missing_slices_are_named(write_many, refused, gone, step, decimals):
    places = [f"{step * k:.{decimals}f}" for k in range(16) if k not in gone]
    message = refused(load_ct, write_many(places), "missing at z = ")
    assert ("a slice is" if len(gone) == 1 else f"{len(gone)} slices are") in message
    assert float(message.split("z = ")[1].split()[0]) == pytest.approx(step * gone[0], abs=0.6 * 10.0**-decimals)


def test_a_stray_far_away_is_named(write_many, refused):
    places = [2.5 * k for k in range(12)]
    for k, strays in enumerate([[1000.0], [-700.0], [1000.0, 1002.5]]):
        message = refused(load_ct, write_many(places + strays, f"far{k}"), "off the even grid of all others")
        assert "012.dcm" in message


def test_a_stray_in_between_is_named(write_many, refused):
    message = refused(load_ct, write_many([2.5 * k for k in range(12)] + [13.6]), "a slice stands off the even grid")
    assert "012.dcm at z = 13.60 mm" in message


def test_a_stray_sideways_is_named(write, refused):
    def aside(dataset, number):
        dataset.ImagePositionPatient = [12.0 if number == 4 else 0, 0, 2.0 * number]

    assert "slice04.dcm: 12.0 mm sideways" in refused(load_ct, write(aside, order=range(6)))


def test_a_tilted_gantry_is_refused(write, refused):
    def tilt(dataset, number):
        lean = np.radians(12)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, np.cos(lean), np.sin(lean)]

    refused(load_ct, write(tilt), "gantry tilt of 12.0 degrees")


def test_uneven_spacing_is_refused(write, refused):
    refused(load_ct, write(at([0, 2, 4, 6.7, 8.7, 10.7])), "unevenly spaced")


def test_slices_that_are_meant_to_be_uneven_are_not_called_missing(write_many, refused):
    places = np.cumsum([1.0] * 8 + [3.0] * 8 + [7.0] * 8)
    refused(load_ct, write_many(places), "unevenly spaced")
