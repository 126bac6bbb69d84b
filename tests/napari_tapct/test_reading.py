"""The wheel, the right button and the window keys with real events, in both views."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_tapct import reading
from napari_tapct.reading import reading_of
from napari_tapct.scans.window import HU_PER_PIXEL

from .follow_up.two_views import BALL_LPS, canvases, open_two


@pytest.fixture
def views(make_napari_viewer):
    """The viewer and two linked views at the ball; no widget of the plugin is open."""
    viewer = make_napari_viewer(show=True)
    linked = open_two(viewer)
    reading_of(linked.session).attach(linked.viewer_model)
    reading_of(linked.session).attach(linked.viewer_model)  # again changes nothing
    for canvas in (*canvases(viewer, linked), *canvases(viewer, linked)):  # docks settle with the first events
        QTest.mouseMove(canvas, canvas.rect().center())
        QApplication.processEvents()
    return viewer, linked


def wheel(canvas, turn: int, modifier=Qt.NoModifier, at=None) -> None:
    """A turn by so many eighths of a degree; 120 is a notch away from the hand."""
    at = at or canvas.rect().center()
    event = QWheelEvent(
        QPointF(at), QPointF(canvas.mapToGlobal(at)), QPoint(), QPoint(0, turn), Qt.NoButton, modifier,
        Qt.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(canvas, event)
    QApplication.processEvents()


def index(view) -> np.ndarray:
    """The slice that a view shows, (z, y, x)."""
    return np.rint(view.layer.world_to_data(view.viewer.dims.point)).astype(int)


@pytest.mark.parametrize("number", [0, 1])
def test_the_wheel_scrolls_by_one_slice_and_the_picture_stays(views, number):
    viewer, linked = views
    linked.linked = False
    view, canvas = (linked.first, linked.second)[number], canvases(viewer, linked)[number]
    before, zoom, centre = index(view), view.zoom, np.array(view.viewer.scene.camera.center)
    wheel(canvas, -120)
    assert index(view)[0] == before[0] - 1, "towards the hand is towards the feet"
    wheel(canvas, 120)
    wheel(canvas, 120)
    assert index(view)[0] == before[0] + 1
    for _ in range(4):
        wheel(canvas, -30)  # a touchpad
    assert index(view)[0] == before[0]
    assert view.zoom == zoom and np.array(view.viewer.scene.camera.center)[-2:] == pytest.approx(centre[-2:])


def test_both_ends_of_the_scan_are_ends(views):
    viewer, linked = views
    canvas = canvases(viewer, linked)[0]
    for _ in range(30):
        wheel(canvas, 120)
    assert index(linked.first)[0] == linked.first.geometry.shape[0] - 1
    wheel(canvas, -120)
    assert index(linked.first)[0] == linked.first.geometry.shape[0] - 2


@pytest.mark.parametrize("number", [0, 1])
def test_ctrl_and_the_wheel_zoom_at_the_mouse(views, number):
    viewer, linked = views
    linked.linked = False
    view, canvas = (linked.first, linked.second)[number], canvases(viewer, linked)[number]
    at = canvas.rect().center() + QPoint(60, -40)
    QTest.mouseMove(canvas, at)
    QApplication.processEvents()
    before, zoom, slice_ = np.array(view.viewer.cursor.position), view.zoom, index(view)
    wheel(canvas, 120, Qt.ControlModifier, at)
    assert view.zoom == pytest.approx(zoom * reading.ZOOM_A_NOTCH) and (index(view) == slice_)[0]
    QTest.mouseMove(canvas, at + QPoint(1, 0))
    QTest.mouseMove(canvas, at)
    QApplication.processEvents()
    assert np.array(view.viewer.cursor.position) == pytest.approx(before, abs=2 / zoom)


def test_naparis_own_wheel_is_the_other_choice(views, monkeypatch, qtbot):
    viewer, linked = views
    monkeypatch.setattr(reading, "preference", lambda name: "zooms")
    canvas, slice_, zoom = canvases(viewer, linked)[0], index(linked.first)[0], linked.first.zoom
    wheel(canvas, 120)
    qtbot.waitUntil(lambda: linked.first.zoom != zoom)  # its camera says so when it draws
    assert index(linked.first)[0] == slice_
    zoom = linked.first.zoom
    wheel(canvas, -120, Qt.ControlModifier)
    assert linked.first.zoom == zoom and index(linked.first)[0] != slice_


@pytest.mark.parametrize("number", [0, 1])
def test_the_right_button_windows_both_views_and_moves_nothing(views, number):
    viewer, linked = views
    canvas, layer = canvases(viewer, linked)[number], linked.session.active.layer
    low, high = layer.contrast_limits
    centre, zoom = tuple(viewer.scene.camera.center), linked.first.zoom
    start = canvas.rect().center()
    QTest.mousePress(canvas, Qt.RightButton, Qt.NoModifier, start)
    for share in (0.5, 1.0):
        QTest.mouseMove(canvas, start + QPoint(40, -25) * share)
        QApplication.processEvents()
    QTest.mouseRelease(canvas, Qt.RightButton, Qt.NoModifier, start + QPoint(40, -25))
    QApplication.processEvents()
    now = layer.contrast_limits
    assert now[1] - now[0] == pytest.approx(high - low + 40 * HU_PER_PIXEL, abs=4)
    assert sum(now) / 2 == pytest.approx((low + high) / 2 - 25 * HU_PER_PIXEL, abs=4)
    assert tuple(linked.second.layer.contrast_limits) == tuple(now)
    assert tuple(viewer.scene.camera.center) == centre and linked.first.zoom == zoom


@pytest.mark.parametrize("number", [0, 1])
def test_window_keys_work_in_either_view_without_a_widget(views, number):
    viewer, linked = views
    canvas = canvases(viewer, linked)[number]
    linked.first.look(BALL_LPS)
    QTest.keyClick(canvas, Qt.Key_G, Qt.ShiftModifier)
    QApplication.processEvents()
    for layer in (linked.session.active.layer, linked.second.layer):
        assert tuple(layer.contrast_limits) == (-1350, 150)
