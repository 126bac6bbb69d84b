"""Masks grown and painted with the mouse in both views; what is measured is compared with the ball that was put in."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_tapct.follow_up.masks.editor import MaskEditor
from napari_tapct.follow_up.study import decisions
from napari_tapct.follow_up.views.lesion_points import LesionPoints

from ...conftest import drag
from ..two_views import BALL_LPS, RADIUS_MM, canvases, linked_view, moved, open_two, pixel

LONG = 60_000


@pytest.fixture
def editor(make_napari_viewer, qtbot):
    """Two views with one lesion, the ball, selected, and the mask editor docked."""
    viewer = make_napari_viewer(show=True)
    linked = open_two(viewer)
    linked.editor.reader = "AB"

    def change(study):
        lesion = study.add_lesion("ball", "before", tuple(BALL_LPS), "AB")
        study.move(lesion.uid, "after", tuple(moved(BALL_LPS)), "AB")
        return lesion

    lesion = linked.editor.do("mark", change)
    linked.editor.select(lesion.uid)
    widget = MaskEditor(linked.session, linked.editor, linked)
    viewer.window.add_dock_widget(widget, name="masks", area="left")
    return viewer, linked, widget


def grow(widget: MaskEditor, qtbot) -> None:
    QTest.mouseClick(widget.grow_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: all(finding(widget, name).mask is not None for name in ("before", "after")), timeout=LONG)


def finding(widget: MaskEditor, timepoint: str):
    return widget.editor.lesion.findings[timepoint]


def layer_of(linked, second: bool):
    return linked.part(linked.scan, "masks") if second else linked.session.active.parts["masks"]


def stroke(viewer, linked, second: bool, start, stop) -> None:
    """A stroke from one (y, x) to another, in mm from the ball's middle, on the slice that is shown."""
    model = linked.viewer_model if second else viewer
    canvas = canvases(viewer, linked)[second]
    view = linked.second if second else linked.first
    middle = view.drawn(moved(BALL_LPS) if second else BALL_LPS)
    drag(canvas, *(pixel(model, canvas, middle + (0, *offset)) for offset in (start, stop)))


def test_growing_measures_the_ball_in_both_scans_and_outlines_it(editor, qtbot):
    viewer, linked, widget = editor
    QTest.keyClick(canvases(viewer, linked)[0], Qt.Key_M, Qt.ShiftModifier)
    qtbot.waitUntil(lambda: all(finding(widget, n).mask is not None for n in ("before", "after")), timeout=LONG)
    true_ml = 4 / 3 * np.pi * RADIUS_MM**3 / 1000
    for name, second in (("before", False), ("after", True)):
        found = finding(widget, name)
        assert found.mask_by == "grown"
        assert found.measurement.volume_ml == pytest.approx(true_ml, rel=0.2)
        assert found.measurement.long_axis_mm == pytest.approx(2 * RADIUS_MM, abs=2.5)
        layer = layer_of(linked, second)
        np.testing.assert_array_equal(layer.data > 0, found.mask.to_array())
        assert layer.visible and layer.contour == 1
        assert f"{name}: {found.measurement.long_axis_mm:.1f} × " in widget.text.text()
    assert widget.editor.undo() == "grow ball"
    assert finding(widget, "after").mask is None and not layer_of(linked, True).data.any()
    widget.editor.redo()
    assert layer_of(linked, True).data.any()


def test_a_lesion_that_is_moved_gets_its_grown_mask_again_and_undo_brings_the_old_one_back(editor, qtbot):
    viewer, linked, widget = editor
    QTest.keyClick(canvases(viewer, linked)[0], Qt.Key_M, Qt.ShiftModifier)
    qtbot.waitUntil(lambda: finding(widget, "after").mask is not None, timeout=LONG)
    old = finding(widget, "after").mask
    place = moved(BALL_LPS) + np.array([2.0, 1.0, 0.0])
    decisions.place(widget.editor, tuple(place.tolist()))
    assert finding(widget, "after").mask is None and finding(widget, "after").state == "moved"
    qtbot.waitUntil(lambda: finding(widget, "after").mask is not None, timeout=LONG)
    assert finding(widget, "after").mask_by == "grown" and finding(widget, "after").measurement is not None
    assert widget.editor.undo() == "move ball at after", "growing again is no step of its own"
    assert finding(widget, "after").mask is old
    widget.editor.redo()
    assert finding(widget, "after").mask is not None and finding(widget, "after").state == "moved"


def test_a_painted_mask_is_not_grown_over_but_said_to_be_gone(editor, qtbot):
    viewer, linked, widget = editor
    QTest.keyClick(canvases(viewer, linked)[1], Qt.Key_V, Qt.ShiftModifier)
    stroke(viewer, linked, True, (0, -4), (0, 4))
    QTest.mouseClick(widget.done_button, Qt.LeftButton)
    assert finding(widget, "after").mask_by == "person"
    decisions.place(widget.editor, tuple((moved(BALL_LPS) + 3.0).tolist()))
    assert finding(widget, "after").mask is None and "paint it anew, or undo" in widget.text.text()
    widget.editor.undo()
    assert finding(widget, "after").mask_by == "person"


@pytest.mark.parametrize("second", [pytest.param(False, marks=pytest.mark.slow), True])
def test_painting_changes_the_mask_and_the_measurement_as_one_step(editor, qtbot, second):
    viewer, linked, widget = editor
    grow(widget, qtbot)
    name, other = ("after", "before") if second else ("before", "after")
    before, untouched = finding(widget, name), finding(widget, other)
    QTest.keyClick(canvases(viewer, linked)[second], Qt.Key_V, Qt.ShiftModifier)
    assert widget.painting and widget.done_button.isEnabled()
    stroke(viewer, linked, second, (0, 4), (0, 14))
    layer = layer_of(linked, second)
    assert finding(widget, name) is before or finding(widget, name) == before  # nothing is kept before Done
    qtbot.waitUntil(lambda: f"{name}: " in widget.text.text() and "Painting" in widget.text.text())
    QTest.mouseClick(widget.done_button, Qt.LeftButton)
    found = finding(widget, name)
    assert found.mask_by == "person" and found.mask.voxels.sum() > before.mask.voxels.sum()
    np.testing.assert_array_equal(found.mask.to_array(), layer.data > 0)
    np.testing.assert_array_equal(found.mask.to_array() | before.mask.to_array(), found.mask.to_array())
    assert found.measurement.long_axis_mm > before.measurement.long_axis_mm + 3
    assert found.measurement == found.mask.measure(linked.editor.scan_of(name).volume)
    assert finding(widget, other) == untouched
    assert not widget.painting and layer.mode == "pan_zoom"
    assert widget.editor.undo() == "paint ball"
    np.testing.assert_array_equal(layer.data > 0, before.mask.to_array())


@pytest.mark.slow
def test_strokes_go_back_one_by_one_and_discard_forgets_all(editor, qtbot):
    viewer, linked, widget = editor
    grow(widget, qtbot)
    canvas, layer = canvases(viewer, linked)[0], layer_of(linked, False)
    words, states = widget.editor.undo_words, [layer.data.copy()]
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    for step in (1, 2):
        viewer.dims.set_current_step(0, viewer.dims.current_step[0] + 1)
        stroke(viewer, linked, False, (-12, -6), (-12 + step, 6))
        states.append(layer.data.copy())
        assert (states[-1] != states[-2]).any()
    QTest.mouseClick(widget.erase_button, Qt.LeftButton)
    stroke(viewer, linked, False, (0, -3), (0, 3))
    assert (layer.data > 0).sum() < (states[-1] > 0).sum()
    for state in reversed(states):
        QTest.keyClick(canvas, Qt.Key_Z, Qt.ControlModifier)
        np.testing.assert_array_equal(layer.data, state)
    assert not widget.undo()
    stroke(viewer, linked, False, (0, -3), (0, 3))
    QTest.mouseClick(widget.discard_button, Qt.LeftButton)
    np.testing.assert_array_equal(layer.data, states[0])
    assert widget.editor.undo_words == words and not widget.painting


@pytest.mark.slow
def test_painting_without_a_selection_makes_a_lesion_in_its_place(editor):
    viewer, linked, widget = editor
    widget.editor.select(None)
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    widget.brush.setValue(8)
    stroke(viewer, linked, True, (12, 10), (12, 14))
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    lesion = widget.editor.lesion
    assert lesion.name == "L1" and list(lesion.findings) == ["after"]
    found = lesion.findings["after"]
    assert found.state == "new" and found.decided_by == "AB" and found.mask_by == "person"
    index = np.rint(linked.second.geometry.to_index(found.point_lps_mm)).astype(int)
    assert found.mask.to_array()[tuple(index)]
    assert 12.0 <= found.measurement.long_axis_mm <= 15.0  # stroke of 4 mm, brush of 8 mm, and whole voxels of 1 mm
    widget.editor.undo()
    assert [one.name for one in widget.editor.study.lesions] == ["ball"] and not layer_of(linked, True).data.any()


@pytest.mark.slow
def test_erasing_all_takes_the_mask_away(editor, qtbot):
    viewer, linked, widget = editor
    grow(widget, qtbot)
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    widget.erase_button.click()
    widget.brush.setValue(30)
    z = finding(widget, "before").mask.box[0]
    for step in range(z.start, z.stop):
        viewer.dims.set_point(0, linked.first.layer.data_to_world((step, 0, 0))[0])
        stroke(viewer, linked, False, (0, -2), (0, 2))
    widget.done_button.click()
    found = finding(widget, "before")
    assert found.mask is None and found.measurement is None and found.present
    assert "before: not measured" in widget.text.text()


@pytest.mark.slow
def test_a_lesion_under_another_one_loses_nothing(editor, qtbot):
    viewer, linked, widget = editor
    grow(widget, qtbot)
    ball = finding(widget, "before").mask
    widget.editor.select(None)
    widget.paint()
    stroke(viewer, linked, False, (0, 0), (0, 14))  # half over the ball
    widget.done()
    other = widget.editor.lesion.findings["before"].mask
    assert (other.to_array() & ball.to_array()).any()
    layer = layer_of(linked, False)
    np.testing.assert_array_equal(layer.data == widget.layers.value(widget.editor.selected), other.to_array())
    widget.editor.select(next(lesion.uid for lesion in widget.editor.study.lesions if lesion.name == "ball"))
    np.testing.assert_array_equal(layer.data == widget.layers.value(widget.editor.selected), ball.to_array())
    widget.paint()
    stroke(viewer, linked, False, (-3, 0), (-3, 2))  # inside the ball
    widget.done()
    np.testing.assert_array_equal(finding(widget, "before").mask.to_array(), ball.to_array())


@pytest.mark.slow
def test_what_is_painted_is_kept_when_another_time_point_is_shown(editor):
    viewer, linked, widget = editor
    widget.paint()
    stroke(viewer, linked, True, (0, -4), (0, 4))
    widget.editor.set_timepoint("before")
    assert not widget.painting and finding(widget, "after").mask_by == "person"


@pytest.mark.slow
def test_a_scan_closed_and_a_lesion_deleted_while_painting(editor):
    viewer, linked, widget = editor
    widget.paint()
    stroke(viewer, linked, True, (0, -4), (0, 4))
    viewer.layers.remove(linked.scan.layer)
    assert not widget.painting and linked.scan is None
    assert finding(widget, "after").mask is None  # on a scan that is gone nothing can be measured
    widget.paint()
    stroke(viewer, linked, False, (0, -4), (0, 4))
    while widget.editor.undo():
        pass
    assert not widget.painting and widget.editor.study.lesions == []
    assert not layer_of(linked, False).data.any()


@pytest.mark.slow
def test_nothing_to_grow_and_nothing_that_stands_out_are_said(editor, qtbot):
    viewer, linked, widget = editor
    uid = widget.editor.selected
    away = tuple(BALL_LPS + (-15.0, 12.0, 0.0))
    widget.editor.do("move", lambda study: study.move(uid, "before", away, "AB"))
    widget.grow_button.click()
    qtbot.waitUntil(lambda: finding(widget, "after").mask is not None, timeout=LONG)
    assert "before: nothing stands out" in widget.text.text() and finding(widget, "before").mask is None
    widget.editor.do("move", lambda study: study.move(uid, "before", tuple(BALL_LPS), "AB"))
    grow(widget, qtbot)
    widget.grow_button.click()
    assert "paint to correct it" in widget.text.text()
    widget.remove_button.click()
    assert finding(widget, "after").mask is None and widget.editor.undo_words == "remove the mask of ball at after"


@pytest.mark.slow
def test_the_arrays_of_both_views_are_one(editor, qtbot):
    viewer, linked, widget = editor
    grow(widget, qtbot)
    widget.editor.set_timepoint("before")  # the same scan on both sides
    QApplication.processEvents()
    first, second = layer_of(linked, False), linked.part(linked.scan, "masks")
    assert np.shares_memory(first.data, second.data)
    widget.paint()
    stroke(viewer, linked, False, (10, -4), (10, 4))
    np.testing.assert_array_equal(first.data, second.data)
    widget.discard()


@pytest.mark.slow
def test_closing_takes_all_layers_away_and_a_new_one_begins_afresh(editor, qtbot):
    viewer, linked, widget = editor
    points = LesionPoints(linked.session, linked.editor, linked)
    grow(widget, qtbot)
    widget.paint()
    stroke(viewer, linked, True, (0, 4), (0, 14))
    assert {"lesions", "before: lesion masks"} <= {layer.name for layer in viewer.layers}
    linked.close()
    qtbot.wait(50)
    assert {layer.name for layer in viewer.layers} == {"before", "after"} and linked.qt_viewer is None
    assert finding(widget, "after").mask_by == "person"  # what was being painted is kept
    assert points.layer(viewer) is None and len(linked.viewer_model.layers) == 0
    linked.editor.select(None)
    viewer.dims.set_current_step(0, 3)  # nobody listens any more
    again = linked_view(viewer)
    fresh = MaskEditor(again.session, again.editor, again)
    marks = LesionPoints(again.session, again.editor, again)
    assert list(marks.layer(viewer).features["name"]) == ["ball"]
    mask = again.editor.study.lesions[0].findings["after"].mask
    np.testing.assert_array_equal(again.part(again.scan, "masks").data > 0, mask.to_array())
    again.close()
    fresh.deleteLater()
