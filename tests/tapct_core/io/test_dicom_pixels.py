"""What stored values of DICOM slices mean: rescale slice by slice, units, padding."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tapct_core.io import load_ct
from tapct_core.volume import AIR_HU

COUNT = 6


@pytest.fixture(scope="session")
def body(real_series):
    """Stored values (HU + 1024) of six slices, 64 x 64 through the middle of the body."""
    paths = sorted(real_series.iterdir())[:COUNT]
    return [np.ascontiguousarray(pydicom.dcmread(path).pixel_array[230:294, 190:254]) for path in paths]


def test_rescale_is_taken_slice_by_slice(write, real_slices):
    expected = load_ct(write(folder="plain")).hu

    def rescale(dataset, number):
        stored = (real_slices[number].pixel_array.astype(int) - 1024 + 1000 + 10 * number) * 2
        dataset.PixelData = stored.astype(np.int16).tobytes()
        dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 1, "0.5", str(-1000 - 10 * number)
        dataset.BitsStored, dataset.HighBit = 16, 15

    assert np.array_equal(load_ct(write(rescale, folder="scaled")).hu, expected)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(("high", "filled"), [(15, 0), (13, 0), (13, 0xC000), (11, 0xB000)])
def test_values_lie_where_the_high_bit_says(write, real_slices, signed, high, filled):
    """Twelve bits below ``high``; bits above may hold an overlay."""
    expected = load_ct(write(folder="plain")).hu

    def lift(dataset, number):
        stored = real_slices[number].pixel_array.astype(int) - (1024 if signed else 0)
        cells = (((stored & 0xFFF) << (high - 11)) | filled) & 0xFFFF
        dataset.PixelData = cells.astype(np.uint16).tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, high, signed
        dataset.RescaleIntercept = 0 if signed else -1024

    assert np.array_equal(load_ct(write(lift, folder="lifted")).hu, expected)


def test_a_high_bit_that_is_wrong_does_not_move_the_values(write):
    expected = load_ct(write(folder="plain")).hu
    wrong = write(lambda dataset, number: setattr(dataset, "HighBit", 15) or setattr(dataset, "BitsStored", 12))
    assert np.array_equal(load_ct(wrong).hu, expected)


@pytest.mark.parametrize("words", ["hu", "HU ", "Hounsfield", "HOUNSFIELD UNITS"])
def test_hu_may_be_spelled_out(write, words):
    expected = load_ct(write(folder="plain")).hu
    changed = write(lambda dataset, number: setattr(dataset, "RescaleType", words), folder="spelled")
    assert np.array_equal(load_ct(changed).hu, expected)


@pytest.mark.parametrize("which", [{0}, {5}, {2, 3}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_an_intercept_lost_in_some_slices_is_refused(write, refused, which, how):
    def lose(dataset, number):
        if number in which and how == "deleted":
            del dataset.RescaleIntercept
        elif number in which:
            dataset.RescaleIntercept = None

    refused(load_ct, write(lose), f"{len(which)} of 6 slices have no RescaleIntercept")


@pytest.mark.parametrize("which", [{0}, {5}, {2, 3}])
def test_an_intercept_that_is_wrong_in_some_slices_is_refused(write, refused, which):
    def wrong(dataset, number):
        if number in which:
            dataset.RescaleIntercept = 0

    refused(load_ct, write(wrong), "values jump by -?10")


def test_an_intercept_lost_in_all_slices_is_told_and_may_be_given(write, refused, body):
    def fill(dataset, number):
        dataset.PixelData = body[number].tobytes()

    def lose(dataset, number):
        fill(dataset, number)
        del dataset.RescaleIntercept, dataset.RescaleSlope

    def zero(dataset, number):
        fill(dataset, number)
        dataset.RescaleIntercept = 0

    expected = load_ct(write(fill, folder="plain")).hu

    for change, folder in ((lose, "lost"), (zero, "zero")):
        refused(load_ct, write(change, folder=folder), "--hu-offset -1024")
        assert np.array_equal(load_ct(write(change, folder=folder), hu_offset=-1024).hu, expected)


@pytest.mark.parametrize("padding", [-2000, -3024, 63536])
def test_a_lost_intercept_is_told_behind_any_padding(write, body, refused, padding):
    def lose(dataset, number):
        del dataset.RescaleIntercept, dataset.RescaleSlope
        stored = body[number].astype(np.int32)
        stored[:12] = padding
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, int(padding < 0)
        dataset.PixelData = stored.astype(np.int16 if padding < 0 else np.uint16).tobytes()
        dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)

    refused(load_ct, write(lose), "--hu-offset -1024")


@pytest.mark.parametrize("unit", ["MGML", "PCT", "Z_EFF", "ED", "OD", "iodine"])
def test_other_units_are_refused(write, refused, unit):
    def change(dataset, number):
        if number == 3:
            dataset.RescaleType = unit

    refused(load_ct, write(change), f"not in HU: its RescaleType is {unit.upper()}")


def test_units_that_are_hu_or_unspoken_are_read(write, caplog):
    for unit in ("HU", "", "US", "HU_MOD"):

        def change(dataset, number, unit=unit):
            dataset.RescaleType = unit

        assert load_ct(write(change, folder=unit or "none")).hu.shape[0] == COUNT
    assert "modified Hounsfield" in caplog.text


@pytest.mark.parametrize("words", ["abc", "-1024\\0"])
def test_a_rescale_that_is_no_number_is_refused(write, refused, words):
    def change(dataset, number):
        dataset.add_new("RescaleIntercept", "LO", words.split("\\"))

    refused(load_ct, write(change), "RescaleIntercept|pixels cannot be read")


def test_a_modality_table_is_used(write, real_slices):
    expected = load_ct(write(folder="plain")).hu
    table = (np.arange(4096) - 1024).astype(np.int16)

    def lut(dataset, number):
        del dataset.RescaleIntercept, dataset.RescaleSlope
        item = Dataset()
        item.add_new("LUTDescriptor", "SS", [4096, 0, 16])
        item.ModalityLUTType = "HU"
        item.add_new("LUTData", "OW", (table - AIR_HU).astype(np.uint16).tobytes())
        dataset.ModalityLUTSequence = [item]

    shifted = load_ct(write(lut, folder="lut"), hu_offset=AIR_HU).hu  # LUT data are unsigned by the standard
    assert np.array_equal(shifted, expected)


@pytest.mark.parametrize(("first", "last"), [(65000, 65535), (65535, 65000), (63536, None), (63536, 63536)])
def test_padding_and_its_range_become_air(write, real_slices, first, last):
    def padded(dataset, number):
        stored = real_slices[number].pixel_array.copy()
        low, high = sorted((first, last or first))
        stored[:10] = np.random.default_rng(number).integers(low, high + 1, stored[:10].shape)
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.add_new("PixelPaddingValue", "US", first)
        if last is not None:
            dataset.add_new("PixelPaddingRangeLimit", "US", last)
        dataset.PixelData = stored.tobytes()

    expected = load_ct(write(folder="plain")).hu
    hu = load_ct(write(padded)).hu
    assert (hu[:, :10] == AIR_HU).all() and np.array_equal(hu[:, 10:], expected[:, 10:])


def test_a_padding_range_that_reaches_into_tissue_leaves_tissue_alone(write, real_slices):
    def padded(dataset, number):
        dataset.add_new("PixelPaddingValue", "US", 0)
        dataset.add_new("PixelPaddingRangeLimit", "US", 2000)

    assert np.array_equal(load_ct(write(padded)).hu, load_ct(write(folder="plain")).hu)


@pytest.mark.parametrize("encoding", ["implicit", "explicit", "big"])
@pytest.mark.parametrize("first", ["SpecificCharacterSet", "ImageType", "SOPClassUID"])
def test_files_without_preamble_and_meta_header_are_read(write, tmp_path, encoding, first):
    expected = load_ct(write(folder="plain"))
    folder = tmp_path / "bare"
    folder.mkdir()
    for path in sorted((tmp_path / "plain").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 100"
        if first != "SpecificCharacterSet":
            del dataset.SpecificCharacterSet
        if first == "SOPClassUID":
            del dataset.ImageType
            for key in ("InstanceCreationDate", "InstanceCreationTime"):
                dataset.pop(key, None)
        del dataset.file_meta
        if encoding == "big":
            dataset.PixelData = np.frombuffer(dataset.PixelData, np.uint16).byteswap().tobytes()
        how = {"implicit_vr": encoding == "implicit", "little_endian": encoding != "big"}
        pydicom.dcmwrite(folder / path.stem, dataset, force_encoding=True, **how)
    assert load_ct(folder).content_hash == expected.content_hash
    assert load_ct(next(folder.iterdir())).content_hash == expected.content_hash
