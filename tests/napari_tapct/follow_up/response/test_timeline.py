"""The timeline: marks where the numbers are, clicks and words on them, in both themes."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_tapct.follow_up.response.timeline import Timeline
from tapct_core.lesions.assessment import diameter_mm

from ..studies import editor_with_study


@pytest.fixture
def timeline(qtbot):
    viewer, editor, _ = editor_with_study()
    editor.set_timepoint("week 8")
    widget = Timeline(editor)
    qtbot.addWidget(widget)
    widget.resize(640, 400)
    widget.show()
    qtbot.waitExposed(widget)
    widget.kept = viewer
    return widget


def mark_of(widget, name, order):
    """Where a lesion's mark of a time point is drawn."""
    curve = next(one for one in widget.course.curves if one.lesion.name == name)
    return widget.plot.place(next(one for one in curve.marks if one.order == order))


def test_heights_are_diameters_and_widths_are_days(timeline):
    plot, study = timeline.plot, timeline._editor.study
    zero, one = plot.lesions.y(0), plot.lesions.y(1)
    for lesion in study.lesions:
        for order, timepoint in enumerate(study.timepoints):
            mm = diameter_mm(lesion, timepoint.name)
            if mm is not None:
                place = mark_of(timeline, lesion.name, order)
                assert (zero - place.y()) / (zero - one) == pytest.approx(mm)
                assert plot.lesions.rect.contains(place)
    assert (plot.x(1) - plot.x(0)) / (plot.x(3) - plot.x(0)) == pytest.approx(56 / 168)
    assert plot.sums.rect.bottom() < plot.lesions.rect.top()


def test_a_click_on_a_mark_selects_and_compares(timeline):
    editor = timeline._editor
    QTest.mouseClick(timeline, Qt.LeftButton, pos=mark_of(timeline, "node 1", 3).toPoint())
    assert (editor.lesion.name, editor.timepoint) == ("node 1", "week 24")
    QTest.mouseClick(timeline, Qt.LeftButton, pos=mark_of(timeline, "lung 1", 0).toPoint())
    assert (editor.lesion.name, editor.timepoint) == ("lung 1", "week 24")  # the baseline is not compared with itself
    beside = QPointF(timeline.plot.x(2), timeline.plot.sums.rect.top() + 2).toPoint()
    QTest.mouseClick(timeline, Qt.LeftButton, pos=beside)
    assert (editor.lesion.name, editor.timepoint) == ("lung 1", "week 16")
    QTest.mouseClick(timeline, Qt.LeftButton, pos=QPointF(timeline.width() - 3, 5).toPoint())
    assert editor.timepoint == "week 16"


def test_the_selected_curve_is_drawn_in_its_colour_and_others_faint(timeline):
    editor = timeline._editor
    editor.select(editor.study.lesions[0].uid)
    QApplication.processEvents()
    image = timeline.grab().toImage()
    strong = image.pixelColor(mark_of(timeline, "lung 1", 0).toPoint())
    wanted = timeline.palette_.lesion(0)
    assert max(abs(strong.red() - wanted.red()), abs(strong.blue() - wanted.blue())) < 25
    faint, own = image.pixelColor(mark_of(timeline, "pleura", 2).toPoint()), timeline.palette_.lesion(3)
    assert abs(faint.red() - own.red()) > 40
    hollow = image.pixelColor(mark_of(timeline, "lung 1", 3).toPoint())
    assert abs(hollow.lightness() - timeline.palette_.ground.lightness()) < 30


def test_words_on_marks_and_columns(timeline):
    said = timeline.words_at(mark_of(timeline, "lung 1", 2))
    study = timeline._editor.study
    measured = study.lesions[0].findings["week 16"].measurement
    assert said.startswith("lung 1\nweek 16 · 2025-05-01")
    assert f"{measured.long_axis_mm:.1f} × {measured.short_axis_mm:.1f} mm" in said
    assert "accepted, by CD" in said and "since the first" in said
    assert "gone" in timeline.words_at(mark_of(timeline, "lung 2", 3))
    column = timeline.words_at(QPointF(timeline.plot.x(3), timeline.plot.sums.rect.top()))
    assert column.startswith("week 24 · 2025-06-23") and "PD, provisional: sum +" in column
    assert timeline.words_at(QPointF(timeline.width() - 2, 4)) == ""


def test_both_themes_and_all_sizes_are_drawn(timeline):
    for size in ((260, 140), (900, 600)):
        timeline.resize(*size)
        pictures = []
        for theme in ("dark", "light"):
            timeline.kept.theme = theme
            QApplication.processEvents()
            pictures.append(timeline.grab().toImage())
        grounds = [picture.pixelColor(1, 1).lightness() for picture in pictures]
        assert grounds[0] < 80 < 180 < grounds[1]


def test_a_low_plot_keeps_the_curves_and_says_the_sums_in_words(timeline):
    timeline.resize(500, 160)
    assert timeline.plot.sums is None and timeline.plot.lesions.rect.height() > 60
    timeline.resize(500, 400)
    assert timeline.plot.sums is not None


def test_studies_with_little_in_them(timeline):
    editor = timeline._editor
    editor.do("no targets", lambda study: [setattr(lesion, "role", "") for lesion in study.lesions])
    assert timeline.plot.sums is None
    timeline.grab()
    editor.do("none", lambda study: study.lesions.clear())
    timeline.grab()
    editor.do("nothing", lambda study: study.timepoints.clear())
    timeline.grab()
    QTest.mouseClick(timeline, Qt.LeftButton, pos=timeline.rect().center())
    assert timeline.words_at(QPointF(5, 5)) == ""
