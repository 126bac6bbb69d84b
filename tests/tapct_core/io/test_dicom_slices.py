"""Single headers: dates that no calendar has, and what is DICOM at all."""

from __future__ import annotations

import pytest

from tapct_core.io import list_series, load_ct
from tapct_core.io.dicom_slices import day, is_dicom


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("20240105", "20240105"),
        ("2024.01.05", "20240105"),
        ("20240229", "20240229"),
        ("20230229", ""),
        ("20240230", ""),
        ("20241301", ""),
        ("20240100", ""),
        ("00000000", ""),
        ("99999999", ""),
        ("00010101", "00010101"),
        ("2024", ""),
        ("", ""),
        ("²0240105", ""),
        ("anonymous", ""),
    ],
)
def test_days(written, read):
    assert day(written) == read


def test_the_next_date_that_is_one_is_taken(write):
    def dates(dataset, number):
        dataset.SeriesDate, dataset.StudyDate, dataset.AcquisitionDate = "00000000", "20240230", "20240302"

    folder = write(dates)
    assert load_ct(folder).source.dicom.date == list_series(folder)[0].date == "20240302"


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (bytes(128) + b"DICM", True),
        (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100", True),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", True),
        (b"\x00\x08\x00\x05CS\x00\x0aISO_IR 100", True),
        (b"\x08\x00\x16\x00UI\x1a\x00", True),
        (b"\x02\x00\x00\x00UL\x04\x00", True),
        (b"\x08\x00\x05\x00\xff\xff\xff\xff", False),
        (b"\x08\x00\x07\x00", False),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"", False),
    ],
)
def test_what_is_dicom(head, known):
    assert is_dicom(head) is known
