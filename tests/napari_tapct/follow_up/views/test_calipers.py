"""Axes drawn with the real mouse in both views, of which one is oblique; ends dragged; right angles; undone."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton, QWidget

from napari_tapct.follow_up.masks.growing import grown_at
from napari_tapct.follow_up.study import axes_edits, decisions
from napari_tapct.follow_up.views.axes import MeasuredAxes
from napari_tapct.follow_up.views.calipers import Calipers
from tapct_core.errors import UserError

from ..two_views import BALL_LPS, canvases, moved, open_two, pixel


@pytest.fixture
def calipers(make_napari_viewer):
    """Two linked views with the switch on."""
    viewer = make_napari_viewer(show=True)
    linked = open_two(viewer)
    linked.editor.reader = "AB"
    axes = MeasuredAxes(linked.session, linked.editor, linked)
    parent, button, said = QWidget(), QPushButton(), []
    made = Calipers(linked.editor, linked, axes, button, said.append, parent)
    made.viewer, made.said, made.kept, made.linked, made.axes = viewer, said, (parent, button), linked, axes
    QTest.mouseClick(button, Qt.LeftButton)
    for canvas in (*canvases(viewer, linked), *canvases(viewer, linked)):  # docks settle with the first events
        QTest.mouseMove(canvas, canvas.rect().center())
        QApplication.processEvents()
    yield made
    parent.deleteLater()


def hand(calipers: Calipers) -> float:
    """How exactly a hand (here Qt's own rounding of pixels) hits a place, mm; lengths are held against their ends."""
    return 2 / calipers.linked.first.zoom


def draw(calipers: Calipers, number: int, start, stop, modifier=Qt.NoModifier) -> np.ndarray:
    """A real drag from one place to another (mm right and down of the ball's middle); their LPS mm as pixels say."""
    view = (calipers.linked.first, calipers.linked.second)[number]
    canvas = canvases(calipers.viewer, calipers.linked)[number]
    middle = view.drawn((BALL_LPS, moved(BALL_LPS))[number])
    pixels = [pixel(view.viewer, canvas, middle + (0.0, *place[::-1])) for place in (start, stop)]
    QTest.mousePress(canvas, Qt.LeftButton, modifier, pixels[0])
    for share in (0.3, 0.7, 1.0):
        QTest.mouseMove(canvas, pixels[0] + (pixels[1] - pixels[0]) * share)
        QApplication.processEvents()
    QTest.mouseRelease(canvas, Qt.LeftButton, modifier, pixels[1])
    QApplication.processEvents()
    return np.array([(at.x(), at.y()) for at in pixels]) / view.zoom


def finding(calipers: Calipers, timepoint: str):
    return calipers.editor.lesion.findings[timepoint]


@pytest.mark.parametrize("number", [0, 1])
def test_two_drags_measure_a_lesion_that_nobody_has_marked(calipers, number):
    long = draw(calipers, number, (-7, 0), (7, 2))
    assert calipers.pending is not None and "short axis" in calipers.said[-1] and not calipers.editor.study.lesions
    draw(calipers, number, (-1, -5), (1, 5))
    name = ("before", "after")[number]
    found = finding(calipers, name)
    measured = found.measurement
    assert measured.drawn and found.mask is None and found.counted is measured and found.measured_by == "AB"
    assert measured.long_axis_mm == pytest.approx(np.linalg.norm(long[1] - long[0]), abs=hand(calipers))
    ends = np.array(measured.long_axis_ends), np.array(measured.short_axis_ends)
    assert measured.long_axis_mm == pytest.approx(np.linalg.norm(ends[0][1] - ends[0][0]), abs=1e-9)
    assert (ends[0][1] - ends[0][0]) @ (ends[1][1] - ends[1][0]) == pytest.approx(0, abs=1e-6)
    view = (calipers.linked.first, calipers.linked.second)[number]
    index = view.geometry.to_index(np.concatenate(ends))
    assert index[:, 0] == pytest.approx(np.rint(index[:, 0]), abs=1e-6)  # on a slice of the scan's own
    assert calipers.editor.undo_words.startswith("draw the axes of L1")
    calipers.editor.undo()
    assert not calipers.editor.study.lesions


def test_ctrl_lets_the_short_axis_stand_as_it_is_drawn(calipers):
    draw(calipers, 0, (-7, 0), (7, 0))
    short = draw(calipers, 0, (-2, -4), (3, 4), Qt.ControlModifier)
    measured = finding(calipers, "before").measurement
    assert measured.short_axis_mm == pytest.approx(np.linalg.norm(short[1] - short[0]), abs=hand(calipers))


def test_an_end_is_dragged_and_what_was_pending_is_dropped_by_the_switch(calipers):
    decisions.mark(calipers.editor, "before", tuple(BALL_LPS))
    draw(calipers, 0, (-7, 0), (7, 0))
    draw(calipers, 0, (0, -4), (0, 4))
    before = finding(calipers, "before").measurement
    draw(calipers, 0, (7, 0), (10, 1))
    after = finding(calipers, "before").measurement
    assert after.long_axis_mm > before.long_axis_mm + 2.5
    assert np.array(after.short_axis_ends) == pytest.approx(np.array(before.short_axis_ends))
    assert len(calipers.editor.study.lesions) == 1
    QTest.mouseClick(calipers.kept[1], Qt.LeftButton)
    centre = tuple(calipers.viewer.scene.camera.center)
    draw(calipers, 0, (-3, -9), (6, -9))
    assert finding(calipers, "before").measurement == after, "the switch is off"
    assert tuple(calipers.viewer.scene.camera.center) != centre, "a drag moves the picture again"


def test_a_click_draws_nothing_and_a_line_outside_the_scan_is_refused(calipers, monkeypatch):
    refused = []
    monkeypatch.setattr("napari_tapct.follow_up.form.show_error", refused.append)
    draw(calipers, 0, (2, 2), (2, 2))
    assert calipers.pending is None and not calipers.editor.study.lesions
    draw(calipers, 0, (0, 0), (-70, 0))
    draw(calipers, 0, (0, -4), (0, 4))
    assert "outside" in refused[0] and not calipers.editor.study.lesions and calipers.pending is None


def test_a_masks_axes_are_corrected_and_given_back(calipers):
    editor = calipers.editor
    lesion = decisions.mark(editor, "before", tuple(BALL_LPS))
    volume = editor.volume_of("before")
    from tapct_core.lesions.grow import grow_mask

    mask = grow_mask(volume, tuple(BALL_LPS))
    editor.do("grow", lambda study: study.set_mask(lesion.uid, "before", mask, volume))
    own = finding(calipers, "before").measurement
    view = calipers.linked.first
    calipers.linked.first.look(np.mean(own.long_axis_ends, axis=0))
    canvas = canvases(calipers.viewer, calipers.linked)[0]
    at = pixel(view.viewer, canvas, view.drawn(np.array(own.long_axis_ends[0])))
    QTest.mousePress(canvas, Qt.LeftButton, Qt.NoModifier, at)
    for step in (4, 10):
        QTest.mouseMove(canvas, at + type(at)(step, step))
        QApplication.processEvents()
    QTest.mouseRelease(canvas, Qt.LeftButton, Qt.NoModifier, at + type(at)(10, 10))
    QApplication.processEvents()
    drawn = finding(calipers, "before")
    assert drawn.measurement.drawn and drawn.mask is not None
    assert drawn.measurement.volume_ml == own.volume_ml and drawn.measurement.short_axis_mm != own.short_axis_mm
    editor.compare("before")
    axes_edits.back_to_mask(editor)
    assert finding(calipers, "before").measurement == own
    with pytest.raises(UserError, match="no drawn axes"):
        axes_edits.back_to_mask(editor)


def test_a_mask_is_grown_to_the_drawn_axes_and_keeps_them(calipers):
    draw(calipers, 0, (-7, 0), (7, 1))
    draw(calipers, 0, (0, -6), (0, 6))
    drawn = finding(calipers, "before").measurement
    editor = calipers.editor
    volume = editor.volume_of("before")
    grown = grown_at(
        editor.study, editor.selected, "before", calipers.linked.session.active,
        finding(calipers, "before").point_lps_mm, lambda name: volume if name == "before" else None,
    )  # fmt: skip
    assert grown.mask is not None and grown.why_not == ""
    editor.note(lambda study: grown.put_into(study, editor.selected))
    kept = finding(calipers, "before")
    assert kept.mask is grown.mask and kept.measurement.long_axis_ends == drawn.long_axis_ends
    ball_ml = 4 / 3 * np.pi * 7**3 / 1000
    assert kept.measurement.volume_ml == pytest.approx(ball_ml, rel=0.3) and kept.measurement.drawn
