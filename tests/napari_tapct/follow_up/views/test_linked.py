"""Linked views with the mouse, keys and camera: one place on both sides, also on oblique scans, and safe to close."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from napari.layers import Labels, Points
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QEnterEvent, QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QDockWidget, QPushButton, QWidget
from scipy.spatial.transform import Rotation

from napari_tapct.follow_up.masks.editor import MaskEditor
from napari_tapct.follow_up.views.lesion_points import LesionPoints
from napari_tapct.follow_up.views.linked import LinkedView
from napari_tapct.follow_up.views.position import Motion, as_scanned
from napari_tapct.layers import ct_image, placement
from napari_tapct.scans.window import WindowBox
from tapct_core.geometry import Geometry
from tapct_core.lesions import Mask
from tapct_core.volume import CTVolume, Source

from ...conftest import canvas_of, drag
from ..two_views import linked_view

TILT = Rotation.from_euler("xyz", (7, -11, 13), degrees=True).as_matrix()


def turned(ras: np.ndarray) -> np.ndarray:
    """A rotation of RAS mm as a (4, 4) of LPS mm."""
    flip = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = flip @ ras @ flip
    return affine


@pytest.fixture
def two(make_napari_viewer, ct_files):
    """A shown viewer with a straight scan (baseline) and the same anatomy scanned obliquely, side by side."""
    viewer = make_napari_viewer(show=True)
    linked = opened(viewer, ct_files, "straight.nii.gz", "oblique.nii.gz")
    linked.set_transform(turned(TILT))
    return viewer, linked


def opened(viewer, ct_files, *names: str) -> LinkedView:
    """Files side by side, the first on the left and the second compared with it."""
    viewer.window.resize(900, 520)  # a software renderer's time goes with the pixels
    for name in names:
        viewer.open(ct_files[name], plugin="napari-tapct")
    return linked_view(viewer)


def child(linked: LinkedView, kind: type, text: str = "") -> QWidget:
    """A widget of the second view's bar."""
    found = linked.qt_viewer.parentWidget().findChildren(kind)
    return next(one for one in found if not text or one.text().startswith(text))


def voxels_apart(linked: LinkedView) -> float:
    """How far the middle of the second view is from the first one's place, in voxels of the follow-up, any axis.

    The true motion of the anatomy is taken from the test's own matrix, not from the view.
    """
    here = linked.first.focus
    wanted = turned(TILT)[:3, :3] @ here
    grid = linked.scan.volume.geometry
    return float(np.abs(grid.to_index(wanted) - grid.to_index(linked.second.focus)).max())


def test_both_views_show_one_place_of_an_oblique_follow_up_whichever_is_moved(two):
    viewer, linked = two
    rng = np.random.default_rng(0)
    assert viewer.dims.ndim == 3
    for order in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        viewer.dims.order = order
        assert linked.viewer_model.dims.order == order
        for _ in range(8):
            place = linked.first.drawn(linked.first.middle) + rng.uniform(-12, 12, 3)
            viewer.dims.set_point(order[0], place[order[0]])
            viewer.scene.camera.center = (0, *place[list(order[1:])])
            assert voxels_apart(linked) < 1.0
    viewer.dims.order = (0, 1, 2)
    model, grid = linked.viewer_model, linked.session.active.volume.geometry
    for _ in range(12):
        before = linked.first.focus
        model.dims.set_current_step(0, int(rng.integers(7, 13)))
        middle = linked.second.drawn(linked.second.middle)[1:]
        model.scene.camera.center = (0, *(middle + rng.uniform(-9, 9, 2)))
        wanted = np.linalg.inv(turned(TILT)[:3, :3]) @ linked.second.focus
        assert np.abs(grid.to_index(wanted) - grid.to_index(linked.first.focus)).max() < 1.0
        assert np.linalg.norm(linked.first.focus - before) > 0.5  # it did move


def test_the_mouse_pans_zooms_and_scrolls_both_views(two):
    viewer, linked = two
    first, second = canvas_of(viewer), linked.qt_viewer.canvas.native
    for canvas, other in ((first, linked.second), (second, linked.first)):
        place, zoom = other.focus, other.zoom
        middle = QPoint(canvas.width() // 2, canvas.height() // 2)
        drag(canvas, middle, middle + QPoint(40, 25))
        assert np.linalg.norm(other.focus - place) > 1.0
        assert voxels_apart(linked) < 1.0
        wheel(canvas, middle)
        assert other.zoom != pytest.approx(zoom, rel=0.01)
        assert linked.first.zoom == pytest.approx(linked.second.zoom, rel=1e-3)
        assert voxels_apart(linked) < 1.0
        place = other.focus
        wheel(canvas, middle, Qt.ControlModifier)  # napari's way to scroll through slices
        assert np.linalg.norm(other.focus - place) > 1.0
        assert voxels_apart(linked) < 1.0


def wheel(canvas: QWidget, place: QPoint, modifier=Qt.NoModifier) -> None:
    """One notch of the mouse wheel, as Qt delivers it."""
    where = QPointF(place)
    event = QWheelEvent(
        where, QPointF(canvas.mapToGlobal(place)), QPoint(0, 0), QPoint(0, 120),
        Qt.NoButton, modifier, Qt.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(canvas, event)
    for _ in range(3):
        QApplication.processEvents()


@pytest.mark.slow
def test_nothing_echoes_between_the_views(two, qtbot):
    viewer, linked = two
    moves = []
    for one in (viewer, linked.viewer_model):
        one.scene.camera.events.center.connect(lambda event: moves.append("camera"))
        one.dims.events.point.connect(lambda event: moves.append("slice"))
    viewer.scene.camera.center = np.array(viewer.scene.camera.center) + (0, 3.3, 4.7)
    viewer.dims.set_current_step(0, 7)
    qtbot.wait(200)  # draws, which write cameras back
    assert len(moves) <= 12
    still = linked.first.focus, linked.second.focus
    moves.clear()
    qtbot.wait(300)
    assert not moves
    np.testing.assert_array_equal(still, (linked.first.focus, linked.second.focus))


def test_the_cross_is_where_the_other_mouse_points(two):
    viewer, linked = two
    for canvas, source, cross_viewer, grid, way in (
        (canvas_of(viewer), viewer, linked.viewer_model, linked.scan.volume.geometry, turned(TILT)),
        (
            linked.qt_viewer.canvas.native, linked.viewer_model, viewer,
            linked.session.active.volume.geometry, np.linalg.inv(turned(TILT)),
        ),
    ):  # fmt: skip
        enter(canvas)
        for step in (QPoint(-35, 10), QPoint(30, -28), QPoint(5, 41)):
            place = QPoint(canvas.width() // 2, canvas.height() // 2) + step
            before = source.cursor.position
            for _ in range(200):  # napari throttles moves, and a busy machine drops some
                move(canvas, place)
                QTest.qWait(20)
                if source.cursor.position != before and "linked cursor" in cross_viewer.layers:
                    break
            QTest.qWait(60)
            view = linked.first if source is viewer else linked.second
            other = linked.second if source is viewer else linked.first
            wanted = grid.to_index(way[:3, :3] @ view.lps_mm(source.cursor.position))
            cross = cross_viewer.layers["linked cursor"]
            drawn = cross.data_to_world(cross.data[0])
            assert np.abs(np.array(other.layer.world_to_data(drawn)) - wanted).max() < 0.05
            assert cross.visible and len(cross._view_data) == 1  # on the slice that is shown
    assert not linked.viewer_model.layers["linked cursor"].visible  # one cross at a time
    QApplication.sendEvent(canvas, QEvent(QEvent.Leave))
    assert not viewer.layers["linked cursor"].visible
    linked.viewer_model.dims.set_current_step(0, 9)  # as the table does while the mouse is over it
    assert not viewer.layers["linked cursor"].visible


def move(canvas: QWidget, place: QPoint) -> None:
    """The mouse moves over a canvas, as Qt says it: the real pointer would go to whichever window lies on top."""
    there = QPointF(canvas.mapToGlobal(place))
    event = QMouseEvent(QEvent.MouseMove, QPointF(place), there, Qt.NoButton, Qt.NoButton, Qt.NoModifier)
    QApplication.sendEvent(canvas, event)


def enter(canvas: QWidget) -> None:
    """The mouse comes onto a canvas, as Qt says it."""
    place = QPointF(canvas.width() / 2, canvas.height() / 2)
    QApplication.sendEvent(canvas, QEnterEvent(place, place, QPointF(canvas.mapToGlobal(place.toPoint()))))


@pytest.mark.slow
def test_unlinked_views_go_their_own_ways_until_the_key_is_pressed(two):
    viewer, linked = two
    QTest.keyClick(canvas_of(viewer), Qt.Key_I, Qt.ShiftModifier)
    assert not linked.linked and not child(linked, QPushButton, "Link  ").isChecked()
    place = linked.second.focus
    viewer.scene.camera.center = np.array(viewer.scene.camera.center) + (0, 5, 5)
    np.testing.assert_array_equal(linked.second.focus, place)
    QTest.keyClick(linked.qt_viewer.canvas.native, Qt.Key_I, Qt.ShiftModifier)  # the second canvas knows the key, too
    assert linked.linked and voxels_apart(linked) < 1.0
    QTest.mouseClick(child(linked, QPushButton, "Link  "), Qt.LeftButton)
    assert not linked.linked


@pytest.mark.slow
def test_link_from_here_keeps_the_offset_that_is_seen(two):
    viewer, linked = two
    linked.set_transform(None)
    linked.linked = False
    linked.viewer_model.dims.set_current_step(0, 12)
    linked.viewer_model.scene.camera.center = np.array(linked.viewer_model.scene.camera.center) + (0, 9, -6)
    here, there = linked.first.focus, linked.second.focus
    QTest.mouseClick(child(linked, QPushButton, "Link from here"), Qt.LeftButton)
    assert linked.linked and "from here" in linked.motion.words
    np.testing.assert_allclose(linked.to_follow_up(here), there, atol=1e-9)
    np.testing.assert_allclose(linked.to_baseline(there), here, atol=1e-9)
    viewer.scene.camera.center = np.array(viewer.scene.camera.center) + (0, 4, 4)
    moved = linked.first.focus - here
    assert np.linalg.norm(moved) > 5
    np.testing.assert_allclose(linked.second.focus - there, moved, atol=3.1)  # a slice of 3 mm is as near as it gets
    QTest.mouseClick(child(linked, QPushButton, "As scanned"), Qt.LeftButton)
    assert linked.motion.words == "as scanned"


@pytest.mark.slow
def test_jumping_to_a_place_leaves_the_baseline_and_the_link_goes_on_from_there(two):
    viewer, linked = two
    stay = linked.first.focus
    grid = linked.scan.volume.geometry
    goal = grid.to_world((8, 12, 25))
    linked.jump_to(goal)
    np.testing.assert_allclose(linked.first.focus, stay, atol=1e-9)
    assert np.abs(grid.to_index(linked.second.focus) - (8, 12, 25)).max() < 0.6
    viewer.scene.camera.center = np.array(viewer.scene.camera.center) + (0, 0, 3)
    step = linked.first.focus - stay
    np.testing.assert_allclose(linked.second.focus, goal + turned(TILT)[:3, :3] @ step, atol=2.0)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(linked.second.focus, goal, atol=1e-3)


def test_scans_far_apart_in_the_scanner_begin_middle_to_middle():
    a = Geometry.from_spacing((20, 30, 30), (3, 1, 1), (0, 0, 0))
    b = Geometry.from_spacing((40, 30, 30), (3, 1, 1), (0, 0, 900))
    np.testing.assert_allclose(as_scanned(a, b)(a.to_world((9.5, 14.5, 14.5))), b.to_world((19.5, 14.5, 14.5)))
    near = Geometry.from_spacing((20, 30, 30), (3, 1, 1), (4, 0, 9))
    np.testing.assert_array_equal(as_scanned(a, near).affine, np.eye(4))


def test_a_motion_and_its_way_back_are_inverse():
    rng = np.random.default_rng(3)
    affine = np.eye(4)
    affine[:3] += 0.2 * rng.normal(size=(3, 4))
    motion = Motion(affine, "")
    point, there = rng.normal(size=3) * 50, rng.normal(size=3) * 50
    np.testing.assert_allclose(motion.back(motion(point)), point)
    np.testing.assert_allclose(motion.through(point, there)(point), there)


@pytest.mark.slow
def test_window_is_shared_while_linked_and_a_scan_has_one_window_always(two):
    viewer, linked = two
    first, second = linked.session.active.layer, linked.part(linked.scan, "ct")
    own = linked.scan.layer  # the follow-up as the first viewer holds it
    box = WindowBox(linked.session)
    QTest.mouseClick(box.buttons["Lung"], Qt.LeftButton)
    for layer in (first, second, own):
        assert tuple(layer.contrast_limits) == (-1350.0, 150.0)
    second.contrast_limits = (-100.0, 700.0)
    assert tuple(first.contrast_limits) == tuple(own.contrast_limits) == (-100.0, 700.0)
    linked.linked = False
    first.contrast_limits = (0.0, 80.0)
    assert tuple(second.contrast_limits) == (-100.0, 700.0)
    own.contrast_limits = (-20.0, 90.0)
    assert tuple(second.contrast_limits) == (-20.0, 90.0)


@pytest.mark.slow
def test_the_selector_switches_and_layers_are_made_once(make_napari_viewer, ct_files):
    viewer = make_napari_viewer(show=True)
    linked = opened(viewer, ct_files, "straight.nii.gz", "oblique.nii.gz", "permuted.nii")
    editor, combo = linked.editor, child(linked, QComboBox)
    names = [timepoint.name for timepoint in editor.study.timepoints]
    assert [combo.itemData(i) for i in range(combo.count())] == names
    seen = set()
    for name in (names[2], names[1], names[2], names[1]):
        combo.setCurrentIndex(names.index(name))
        combo.activated.emit(names.index(name))
        scan = editor.scan_of(name)
        layer = linked.part(scan, "ct")
        assert editor.timepoint == name and linked.scan is scan
        assert np.shares_memory(layer.data, scan.layer.data)
        assert [one for one in linked.viewer_model.layers if one.visible] == [layer]
        seen.add(id(layer))
    assert len(seen) == 2
    QTest.mouseClick(child(linked, QPushButton, "▶"), Qt.LeftButton)
    assert editor.timepoint == names[2]
    gone = linked.part(linked.scan, "ct")
    viewer.layers.remove(editor.scan_of(names[2]).layer)
    assert linked.scan is None and gone not in linked.viewer_model.layers
    assert "not open" in combo.itemText(2) and not combo.model().item(2).isEnabled()


@pytest.mark.slow
def test_a_hidden_part_stays_hidden_when_its_time_point_comes_back(two):
    viewer, linked = two
    names = [timepoint.name for timepoint in linked.editor.study.timepoints]
    scan = linked.scan
    for role, visible in (("heat", False), ("marks", True)):
        grid = placement(scan.volume.geometry)
        linked.add_part(scan, role, Labels(np.zeros(scan.volume.hu.shape, np.uint8), visible=visible, **grid))
    linked.editor.set_timepoint(names[0])
    assert not any(linked.part(scan, role).visible for role in ("ct", "heat", "marks"))
    linked.editor.set_timepoint(names[1])
    assert [linked.part(scan, role).visible for role in ("ct", "heat", "marks")] == [True, False, True]


@pytest.mark.slow
def test_closing_the_dock_in_the_middle_and_opening_it_again(two, qtbot):
    viewer, linked = two
    place = linked.second.focus
    docks = viewer.window._qt_window.findChildren(QDockWidget)
    dock = next(one for one in docks if one.objectName() == "Follow-up scan")
    canvas = canvas_of(viewer)
    QTest.mousePress(canvas, Qt.LeftButton, pos=QPoint(100, 100))
    dock.destroyOnClose()
    QTest.mouseMove(canvas, QPoint(130, 120))
    QTest.mouseRelease(canvas, Qt.LeftButton, pos=QPoint(130, 120))
    qtbot.wait(50)
    assert linked.qt_viewer is None and not linked.shown
    QTest.keyClick(canvas, Qt.Key_I, Qt.ShiftModifier)  # its button is gone
    assert linked.linked
    viewer.scene.camera.center = np.array(viewer.scene.camera.center) + (0, 2, 2)
    np.testing.assert_array_equal(linked.second.focus, place)
    linked.show()
    qtbot.wait(50)
    assert linked.shown and voxels_apart(linked) < 1.0
    linked.hide()
    assert not linked.shown
    linked.show()
    assert linked.shown


@pytest.mark.slow
def test_closing_the_viewer_while_the_second_view_plays(make_napari_viewer, ct_files, qtbot):
    viewer = make_napari_viewer(show=True)
    linked = opened(viewer, ct_files, "straight.nii.gz", "oblique.nii.gz")
    linked.qt_viewer.dims.play(0)
    qtbot.wait(100)
    viewer.close()
    qtbot.wait(100)
    assert not linked.shown and linked.qt_viewer is None and linked.scan is None
    linked.viewer_model.dims.set_current_step(0, 1)  # nobody follows, and nothing breaks


@pytest.mark.slow
def test_two_viewers_do_not_follow_each_other(make_napari_viewer, ct_files):
    views = []
    for _ in range(2):
        viewer = make_napari_viewer(show=True)
        views.append((viewer, opened(viewer, ct_files, "straight.nii.gz", "oblique.nii.gz")))
    (viewer, linked), (_, other) = views
    before = other.first.focus, other.second.focus
    viewer.dims.set_current_step(0, 4)
    linked.linked = False
    np.testing.assert_array_equal(before, (other.first.focus, other.second.focus))
    assert other.linked


def test_switching_makes_nothing_anew_and_cuts_each_layer_twice_at_most(make_napari_viewer, qtbot):
    """What a switch may cost is one slice of each layer that appears, wherever the scan's size leads."""
    viewer = make_napari_viewer(show=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        hu = np.repeat(rng.integers(-1000, 1000, (1, 64, 64), dtype=np.int16), 40, axis=0)
        volume = CTVolume(hu, Geometry.from_spacing(hu.shape, (10.0, 6.4, 6.4), (0, 0, 5 * i)), Source("array"))
        viewer.add_layer(ct_image(volume, f"time {i}", hu_range=(-1000, 1000)))
    linked = linked_view(viewer)
    editor = linked.editor
    names = [timepoint.name for timepoint in editor.study.timepoints]

    def change(study):
        for number in range(20):
            lesion = study.add_lesion(f"L{number}", names[0], (150 + 4 * number, 200, 220), "AB")
            for i, name in enumerate(names):
                study.move(lesion.uid, name, (150 + 4 * number, 200, 220 + i), "AB")
                mask = Mask((20, 30, 22 + number), np.ones((2, 5, 1), bool), (40, 64, 64))
                study.set_mask(lesion.uid, name, mask, editor.scan_of(name).volume)

    editor.do("mark", change)
    parts = LesionPoints(linked.session, editor, linked), MaskEditor(linked.session, editor, linked)
    wanted = [(editor.scan_of(name), role) for name in names[1:] for role in ("ct", "masks")]
    # A few seconds after it was opened all layers are there.
    qtbot.waitUntil(lambda: all(linked.part(*one) is not None for one in wanted), timeout=60_000)
    made, filled, cut = [], [], Counter()
    layers = linked.viewer_model.layers
    for event in (layers.events.inserted, layers.events.removed):
        event.connect(made.append)
    for layer in layers:
        layer.events.data.connect(lambda event: filled.append(type(event.source)))
        layer.events.set_data.connect(lambda event: cut.update([event.source.name]))
    for name in names[1:] * 4:
        cut.clear()
        editor.set_timepoint(name)
        for _ in range(3):
            QApplication.processEvents()
        assert set(cut.values()) <= {1, 2}, cut  # twice where the first look at a scan finds another place
    marks = parts[0].layer(linked.viewer_model)
    # No layer is made, no scan's voxels, no masks' are put anew: points alone.
    assert made == [] and set(filled) == {Points}
    assert linked.part(linked.scan, "masks").data.any() and len(marks.data) == 20
