"""Which time points a study has, and in which order; dates as they are read."""

from __future__ import annotations

import pytest

from tapct_core.errors import UserError
from tapct_core.lesions import Study, Timepoint
from tapct_core.lesions.study_file import load_study, save_study
from tapct_core.lesions.timepoints import (
    calendar_date,
    fill_in_date,
    in_order,
    insert_timepoint,
    move_timepoint,
    set_date,
)


def study(*dates: str) -> Study:
    return Study("p", [Timepoint(f"t{i}", f"{i}.nii", date) for i, date in enumerate(dates)])


@pytest.mark.parametrize(
    ("words", "date"),
    [
        ("20240229", "2024-02-29"), ("2024-02-29", "2024-02-29"), ("2024.02.29", "2024-02-29"),
        (" 20240105 ", "2024-01-05"),
        ("20230229", ""), ("00000000", ""), ("0000-00-00", ""), ("20241301", ""), ("2024-W01-1", ""), ("5.1.2024", ""),
        ("\u0662\u0660\u0662\u0664\u0660\u0661\u0660\u0661", ""), ("", ""),
    ],
)  # fmt: skip
def test_dates_that_a_calendar_has(words, date):
    assert calendar_date(words) == date


@pytest.mark.parametrize(
    ("known", "header", "dates", "said"),
    [
        (("", ""), "20240501", ["", "2024-05-01"], ""),
        (("2024-01-01", ""), "20240501", ["2024-01-01", "2024-05-01"], ""),
        (("2024-06-20", ""), "20240501", ["2024-06-20", ""], "contradicts the order"),
        (("", ""), "00000000", ["", ""], ""),
        (("", ""), "20240231", ["", ""], "in no calendar"),
        (("", "2024-02-02"), "20240501", ["", "2024-02-02"], ""),
    ],
)
def test_a_headers_date_is_taken_where_it_can_be(known, header, dates, said, tmp_path):
    made = study(*known)
    note = fill_in_date(made, "t1", header)
    assert [t.date for t in made.timepoints] == dates and (said in note if said else note == "")
    save_study(made, tmp_path / "s.json")
    assert [t.date for t in load_study(tmp_path / "s.json").timepoints] == dates


def test_scans_come_where_their_dates_belong_and_wrong_dates_are_none():
    made = study("2024-01-01", "2024-06-01")
    insert_timepoint(made, Timepoint("between", "b.nii", "2024-03-01"))
    insert_timepoint(made, Timepoint("unknown", "u.nii", "0000-00-00"))
    assert [t.name for t in made.timepoints] == ["t0", "between", "t1", "unknown"]
    assert made.timepoints[-1].date == "" and in_order(made)
    set_date(made, "unknown", "2023-12-01")
    assert [t.name for t in made.timepoints][0] == "unknown"
    with pytest.raises(UserError, match="is no date"):
        set_date(made, "t0", "2024-02-30")


def test_the_order_is_a_persons_where_dates_do_not_say():
    made = study("", "", "")
    move_timepoint(made, "t2", 0)
    assert [t.name for t in made.timepoints] == ["t2", "t0", "t1"]
    dated = study("2024-01-01", "2024-06-01")
    with pytest.raises(UserError, match="dates of the scans say otherwise"):
        move_timepoint(dated, "t1", 0)
    assert [t.name for t in dated.timepoints] == ["t0", "t1"]
