"""Which slices are one stack: headers that jitter, copies, mixtures, phases; never a part of a series in silence."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from tapct_core.io import list_series, load_ct

COUNT = 6


def placed(dataset, z, x=0.0, y=0.0):
    dataset.ImagePositionPatient = [x, y, z]


def other_pixels(dataset, by=7):
    dataset.PixelData = (np.frombuffer(dataset.PixelData, np.uint16) + by).astype(np.uint16).tobytes()


def new_instance(dataset):
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()


@pytest.mark.parametrize("cosine", [1.0, 0.995, 0.9950004, 0.70710678, 0.005])
@pytest.mark.parametrize("jitter", [1e-7, 4e-7, 1e-5, 5e-4])
def test_orientations_that_jitter_are_one(write, cosine, jitter):
    sine = np.sqrt(1 - cosine**2)
    normal = np.array([0, -sine, cosine])

    def jittering(dataset, number):
        off = jitter * (-1) ** number
        dataset.ImageOrientationPatient = [1, 0, 0, 0, round(cosine + off, 7), round(sine + off, 7)]
        dataset.ImagePositionPatient = (np.array([10.0, -20, 30]) + 2.5 * number * normal).round(6).tolist()

    folder = write(jittering)
    for path in (folder, folder / "slice03.dcm"):
        assert sorted(load_ct(path).geometry.shape) == [COUNT, 64, 64]


def test_an_orientation_that_drifts_is_refused_from_a_file_too(write, refused):
    def drifting(dataset, number):
        angle = 0.004 * number
        dataset.ImageOrientationPatient = [np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0]

    folder = write(drifting)
    refused(load_ct, folder, "drifts")
    refused(load_ct, folder / "slice00.dcm", "drifts")


@pytest.mark.parametrize("spacing", [0.7421875, 0.742188, 0.74219])
def test_pixel_spacings_that_are_written_differently_are_one(write, spacing):
    def rounded(dataset, number):
        dataset.PixelSpacing = [0.7421875, 0.7421875] if number % 2 else [spacing, spacing]

    folder = write(rounded)
    assert load_ct(folder).geometry.shape[0] == load_ct(folder / "slice00.dcm").geometry.shape[0] == COUNT


def test_stacks_that_alternate_are_refused_from_a_file_too(write, refused):
    def zoomed(dataset, number):
        dataset.PixelSpacing = [0.8, 0.8] if number % 2 else [0.9, 0.9]

    folder = write(zoomed)
    refused(load_ct, folder, "mixes 2 slice sizes or pixel spacings")
    refused(load_ct, folder / "slice00.dcm", "lie between each other")


def test_mixed_orientations_are_refused_and_one_file_picks_its_stack_and_says_so(write, refused, caplog):
    def coronal(dataset, number):
        new_instance(dataset)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [0, 3.0 * number, 0]

    folder = write()
    write(coronal, names="coronal{0}.dcm")
    refused(load_ct, folder, r"\(mixed\) orientations \(6 \+ 6 slices\)")
    assert np.allclose(load_ct(folder / "coronal0.dcm").geometry.spacing_mm[1], 3.0)
    assert "the 6 that go with the given file" in caplog.text


@pytest.mark.parametrize("change", ["bytes", "compressed", "new uid"])
def test_copies_count_once(write, change):
    folder = write()
    expected = load_ct(folder).content_hash

    def copy(dataset, number):
        if change == "compressed":
            dataset.compress(RLELossless, generate_instance_uid=False)
        if change == "new uid":
            new_instance(dataset)

    write(copy, folder="series/backup")
    assert load_ct(folder).content_hash == expected
    assert list_series(folder)[0].slices == (COUNT if change != "new uid" else 2 * COUNT)


def test_one_file_with_copies_beside_it_is_read(write):
    folder = write()
    shutil.copy(folder / "slice01.dcm", folder / "copy of slice01.dcm")
    for path in (folder, folder / "slice01.dcm", folder / "copy of slice01.dcm"):
        assert load_ct(path).geometry.shape[0] == COUNT


@pytest.mark.parametrize("new_uid", [True, False])
def test_a_duplicate_with_other_pixels_is_named(write, refused, new_uid):
    def changed(dataset, number):
        other_pixels(dataset)
        if new_uid:
            new_instance(dataset)
        return number == 1

    folder = write()
    write(changed, names="again{0}.dcm")
    message = refused(load_ct, folder, "duplicate slice at z = ")
    assert "again0.dcm" in message and "slice00.dcm" in message


@pytest.mark.parametrize(
    "key",
    [
        "AcquisitionNumber",
        "TemporalPositionIdentifier",
        "TriggerTime",
        "AcquisitionTime",
        "NominalPercentageOfCardiacPhase",
        "InstanceNumber",
    ],
)
def test_phases_are_listed_and_one_is_chosen(write, refused, key):
    def phase(k):
        def change(dataset, number):
            new_instance(dataset)
            other_pixels(dataset, 3 * k)
            value = 10 * k + (number if key == "InstanceNumber" else 0)
            setattr(dataset, key, f"10{k}000" if key == "AcquisitionTime" else value)

        return change

    for k in (2, 1, 3):
        folder = write(phase(k), names=f"phase{k}_{{0}}.dcm")
    message = refused(load_ct, folder, "3 (phases|acquisitions).*--phase N: 1: ")
    assert "3: " in message and "(6)" in message
    first, third = load_ct(folder, phase=1), load_ct(folder, phase=3)
    assert np.array_equal(first.hu + 6, third.hu) and first.geometry.matches(third.geometry)
    assert all(path.name.startswith("phase1") for path in first.source.dicom.files)
    refused(lambda path: load_ct(path, phase=4), folder, "phases 1 to 3, not 4")
    assert load_ct(folder / "phase2_1.dcm").hu.shape[0] == COUNT


def test_a_phase_of_what_has_none_is_refused(write, refused, tmp_path):
    folder = write()
    assert load_ct(folder, phase=1).hu.shape[0] == COUNT
    refused(lambda path: load_ct(path, phase=2), folder, "one phase only")


def test_slices_that_lost_their_place_are_not_left_out(write, refused):
    def lost(dataset, number):
        if number in (0, 5):
            dataset.ImagePositionPatient = None

    folder = write(lost)
    refused(load_ct, folder, "2 of 6 images of this DICOM series have no place")
    refused(load_ct, folder / "slice00.dcm", "2 of 6 images")


def test_a_colour_picture_in_the_series_is_not_left_out_in_silence(write, refused):
    def colour(dataset, number):
        if number == 5:
            dataset.SamplesPerPixel = 3

    refused(load_ct, write(colour), "1 of 6 images")


def test_a_screen_of_another_kind_may_share_the_series(write):
    def screen(dataset, number):
        if number == 5:
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
            dataset.ImagePositionPatient = None

    assert load_ct(write(screen)).hu.shape[0] == COUNT - 1


def test_a_part_of_an_acquisition_is_said(write, caplog):
    def later(dataset, number):
        new_instance(dataset)
        other_pixels(dataset)
        dataset.AcquisitionNumber = 15

    folder = write()
    write(later, names="later{0}.dcm")
    assert load_ct(folder / "later1.dcm").geometry.shape[0] == COUNT
    assert "holds 2 acquisitions" in caplog.text


def test_nothing_depends_on_the_order_of_files(write, tmp_path):
    def jittering(dataset, number):
        dataset.ImageOrientationPatient = [1, 1e-6 * number, 0, 0, 1, 0]

    expected = load_ct(write(jittering, folder="a"))
    again = load_ct(write(jittering, folder="b", order=(5, 4, 3, 2, 1, 0)))
    assert np.array_equal(expected.hu, again.hu) and expected.geometry.matches(again.geometry, 1e-3)
    assert pydicom.dcmread(again.source.dicom.files[0]).SOPInstanceUID == expected.source.dicom.sop_instance_uids[0]
