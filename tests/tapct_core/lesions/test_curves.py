"""Curves over time: places on the axis, gaps, ticks, and labels that do not overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapct_core.lesions import Finding, Study, Timepoint
from tapct_core.lesions.assessment import assess, diameter_mm
from tapct_core.lesions.curves import NARROWEST, course_of, spread, ticks
from tests.tapct_core.studies import WEEKS, study_and_volumes


def test_the_course_is_the_studys():
    study, _ = study_and_volumes()
    course = course_of(study)
    assert (course.names, course.dated) == (WEEKS, True)
    days = np.array([0, 56, 115, 168])
    assert course.places == pytest.approx(days / days[-1])
    assert course.sums_mm[1:] == tuple(one.response.sum_mm for one in assess(study))
    assert course.sums_mm[0] == pytest.approx(
        sum(diameter_mm(lesion, "baseline") for lesion in study.lesions if lesion.role == "target")
    )
    by_name = {curve.lesion.name: curve for curve in course.curves}
    assert [mark.mm for mark in by_name["lung 2"].marks][2:] == [0, 0]
    assert [mark.order for mark in by_name["lung 3"].marks] == [2, 3]
    node = by_name["node 1"].marks[0]
    assert node.mm == node.finding.measurement.short_axis_mm
    assert course.largest_mm == max(mark.mm for curve in course.curves for mark in curve.marks)


def test_a_time_point_without_a_measure_is_a_gap():
    study, _ = study_and_volumes()
    lesion = study.lesions[0]
    lesion.findings["week 8"] = Finding("proposed", (0.0, 0.0, 0.0))
    course = course_of(study)
    assert [[mark.order for mark in run] for run in course.curves[0].runs] == [[0], [2, 3]]
    assert course.sums_mm[1] is None and course.sums_mm[2] is not None


def test_without_dates_time_points_stand_at_equal_distances():
    study = Study("p", [Timepoint(name, name) for name in "abc"])
    assert course_of(study).places == (0, 0.5, 1) and not course_of(study).dated
    assert course_of(Study("p", [Timepoint("a", "a")])).places == (0.5,)
    assert course_of(Study("p")).places == () and course_of(Study("p")).largest_sum_mm == 0


def test_scans_of_one_week_stay_two_columns():
    dates = ("2025-01-01", "2025-01-02", "2025-07-01")
    places = course_of(Study("p", [Timepoint(d, d, d) for d in dates])).places
    assert places[1] > 0.5 * NARROWEST / (1 + NARROWEST) and places[2] == 1


@given(st.floats(0.01, 5000), st.integers(2, 8))
def test_ticks_are_round_and_reach_the_largest(largest, most):
    steps = ticks(largest, most)
    assert steps[0] == 0 and steps[-1] >= largest * (1 - 1e-9)
    assert 1 <= len(steps) - 1 <= most
    step = steps[1]
    assert step / 10 ** np.floor(np.log10(step * 1.0000001)) == pytest.approx(
        min((1, 2, 5), key=lambda n: abs(n - step / 10 ** np.floor(np.log10(step * 1.0000001))))
    )
    assert np.allclose(np.diff(steps), step)


def test_ticks_of_nothing_are_an_axis_all_the_same():
    assert ticks(0) == [0, 10]


@given(st.lists(st.floats(0, 100), max_size=12), st.floats(1, 30))
def test_labels_stay_apart_inside_and_in_order(wanted, gap):
    places = spread(wanted, gap, 0.0, 100.0)
    fits = min(gap, 100.0 / max(1, len(wanted) - 1))
    order = np.argsort(wanted, kind="stable")
    apart = np.diff(np.array(places)[order])
    assert (apart >= fits - 1e-6).all()
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in places)


@given(st.lists(st.floats(10, 90), min_size=1, max_size=4))
def test_labels_that_do_not_overlap_stay_where_they_are(wanted):
    wanted = [place + 20 * i for i, place in enumerate(sorted(wanted))]
    assert spread(wanted, 10.0, 0.0, 500.0) == pytest.approx(wanted)


def test_labels_share_the_shift():
    assert spread([50.0, 50.0], 10.0, 0.0, 100.0) == [45.0, 55.0]
