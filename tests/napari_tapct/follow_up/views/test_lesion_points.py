"""Marks of lesions with real clicks and drags in both views."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_tapct.follow_up.views.lesion_points import LesionPoints
from napari_tapct.follow_up.views.marks import METRE

from ...conftest import drag
from ..two_views import BALL_LPS, SPACING, canvases, moved, open_two, pixel


@pytest.fixture
def marked(make_napari_viewer):
    """Two views with one lesion that is accepted before and proposed after, and one that is known before only."""
    viewer = make_napari_viewer(show=True)
    linked = open_two(viewer)
    editor = linked.editor
    editor.reader = "AB"

    def change(study):
        first = study.add_lesion("ball", "before", tuple(BALL_LPS), "AB")
        study.move(first.uid, "after", tuple(moved(BALL_LPS)), "AB")
        study.lesion(first.uid).findings["after"].decided_by = ""
        study.lesion(first.uid).findings["after"].state = "proposed"
        return first, study.add_lesion("other", "before", tuple(BALL_LPS + (-9, 8, 0)), "AB")

    uids = [lesion.uid for lesion in editor.do("mark", change)]
    return viewer, linked, LesionPoints(linked.session, editor, linked), uids


def row(layer, name: str) -> int:
    return list(layer.features["name"]).index(name)


@pytest.mark.slow
def test_each_view_marks_what_lies_at_its_own_time_point(marked):
    viewer, linked, points, _ = marked
    first, second = points.layer(viewer), points.layer(linked.viewer_model)
    assert list(first.features["name"]) == ["ball", "other"] and list(second.features["name"]) == ["ball"]
    drawn = second.data_to_world(second.data[0])
    np.testing.assert_allclose(linked.second.lps_mm(np.array(drawn)), moved(BALL_LPS), atol=1e-3)
    assert first.symbol[0] == "disc" and second.symbol[0] == "diamond"  # hollow diamond: nobody has decided
    assert second.features["state"][0] == "proposed, open"
    assert not np.allclose(first.border_color[0], second.border_color[0])
    steps = [viewer.dims.range[axis].step for axis in range(3)]
    np.testing.assert_allclose(steps, SPACING, rtol=1e-4)  # marks make no slider finer


@pytest.mark.slow
def test_a_mark_fades_with_its_slice_and_is_gone_far_from_it(marked):
    viewer, linked, points, _ = marked
    layer, sizes = points.layer(viewer), []
    at = int(viewer.dims.current_step[0])
    for away in range(6):
        viewer.dims.set_current_step(0, at + away)
        seen = layer.shown[0]
        sizes.append(float(layer.size[0] * METRE) if seen else 0.0)
        assert len(layer._view_data) == int(layer.shown.sum())
    assert sizes[0] > 11 and sizes[-1] == 0.0
    assert all(a > b or b == 0.0 for a, b in zip(sizes, sizes[1:], strict=False))


@pytest.mark.slow
def test_a_click_on_a_mark_selects_and_selecting_highlights_in_both_views(marked):
    viewer, linked, points, uids = marked
    canvas, other = canvases(viewer, linked)
    QTest.mouseClick(canvas, Qt.LeftButton, pos=pixel(viewer, canvas, linked.first.drawn(BALL_LPS + (-9, 8, 0))))
    assert linked.editor.selected == uids[1]
    assert points.layer(viewer).selected_data == {row(points.layer(viewer), "other")}
    model = linked.viewer_model
    QTest.mouseClick(other, Qt.LeftButton, pos=pixel(model, other, linked.second.drawn(moved(BALL_LPS))))
    assert linked.editor.selected == uids[0]
    for view in (viewer, model):
        layer = points.layer(view)
        assert layer.selected_data == {row(layer, "ball")}
        assert layer.border_width[row(layer, "ball")] > 0.1
    points.layer(viewer).selected_data = {row(points.layer(viewer), "other")}  # as napari's table of features does
    assert linked.editor.selected == uids[1]
    assert linked.editor.undo_words == "mark"  # looking decides nothing


@pytest.mark.parametrize("second", [pytest.param(False, marks=pytest.mark.slow), True])
def test_dragging_a_mark_moves_the_finding_to_where_it_is_let_go(marked, second):
    viewer, linked, points, uids = marked
    model, canvas = (viewer, linked.viewer_model)[second], canvases(viewer, linked)[second]
    view, timepoint = (linked.second, "after") if second else (linked.first, "before")
    place = moved(BALL_LPS) if second else BALL_LPS
    model.dims.set_current_step(0, model.dims.current_step[0] + 1)  # the mark comes to the slice that is shown
    centre, wanted = view.focus, view.drawn(place) + (0, 5, -8)
    wanted[0] = model.dims.point[0]
    drag(canvas, pixel(model, canvas, view.drawn(place)), pixel(model, canvas, wanted))
    found = linked.editor.study.lesion(uids[0]).findings[timepoint]
    assert found.state == "moved" and found.decided_by == "AB" and found.decided
    apart = view.geometry.to_index(found.point_lps_mm) - view.geometry.to_index(view.lps_mm(wanted))
    assert np.abs(apart).max() < 1.0
    np.testing.assert_allclose(view.focus, centre, atol=1e-6)  # the view was not panned
    assert model.scene.camera.mouse_pan and linked.editor.selected == uids[0]
    layer = points.layer(model)
    np.testing.assert_allclose(layer.data_to_world(layer.data[0]), view.drawn(found.point_lps_mm), atol=1e-3)
    assert layer.symbol[0] == "disc"
    linked.editor.undo()
    back = linked.editor.study.lesion(uids[0]).findings[timepoint]
    np.testing.assert_allclose(back.point_lps_mm, place)
    np.testing.assert_allclose(layer.data_to_world(layer.data[0]), view.drawn(place), atol=1e-3)


@pytest.mark.slow
def test_a_drag_that_begins_beside_all_marks_pans(marked):
    viewer, linked, points, _ = marked
    canvas = canvases(viewer, linked)[0]
    before, words = linked.first.focus, linked.editor.undo_words
    start = pixel(viewer, canvas, linked.first.drawn(BALL_LPS + (15, -15, 0)))
    drag(canvas, start, start + QPoint(30, 20))
    assert np.linalg.norm(linked.first.focus - before) > 1.0 and linked.editor.undo_words == words


@pytest.mark.slow
def test_a_mark_dropped_off_the_scan_stays_where_it_was_and_says_so(marked):
    viewer, linked, points, uids = marked
    canvas = canvases(viewer, linked)[0]
    viewer.scene.camera.zoom = 3.0
    QApplication.processEvents()
    start = pixel(viewer, canvas, linked.first.drawn(BALL_LPS))
    drag(canvas, start, QPoint(4, 4))
    assert "off the scan" in notification_manager.records[-1].message
    assert linked.editor.undo_words == "mark"
    layer = points.layer(viewer)
    np.testing.assert_allclose(layer.data_to_world(layer.data[0]), linked.first.drawn(BALL_LPS), atol=1e-3)


@pytest.mark.slow
def test_a_lesion_deleted_while_its_mark_is_dragged(marked):
    viewer, linked, points, uids = marked
    canvas = canvases(viewer, linked)[0]
    start = pixel(viewer, canvas, linked.first.drawn(BALL_LPS))
    QTest.mousePress(canvas, Qt.LeftButton, pos=start)
    QTest.mouseMove(canvas, start + QPoint(20, 20))
    linked.editor.undo()
    QTest.mouseRelease(canvas, Qt.LeftButton, pos=start + QPoint(20, 20))
    QApplication.processEvents()
    assert linked.editor.study.lesions == [] and viewer.scene.camera.mouse_pan
    assert len(points.layer(viewer).data) == 0


@pytest.mark.slow
def test_marks_follow_the_time_point_and_leave_with_the_scan(marked):
    viewer, linked, points, uids = marked
    layer = points.layer(linked.viewer_model)
    linked.editor.set_timepoint("before")
    assert list(layer.features["name"]) == ["ball", "other"]
    linked.editor.set_timepoint("after")
    assert list(layer.features["name"]) == ["ball"] and points.layer(linked.viewer_model) is layer
    viewer.layers.remove(linked.session.scans[-1].layer)
    assert len(layer.data) == 0
    viewer.layers.remove(points.layer(viewer))  # somebody deletes the marks: they come back with the next change
    linked.editor.select(uids[1])
    assert points.layer(viewer) in viewer.layers and len(points.layer(viewer).data) == 2
