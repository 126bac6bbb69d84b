"""The Segment widget with real strokes of the mouse: result on screen and in the layer, undo, probes, export."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_tapct.jobs import Job
from napari_tapct.painting import LabelClass
from napari_tapct.segment.live import delineate
from napari_tapct.segment.strokes import missing_strokes
from napari_tapct.session import session_of
from tapct_core.delineation.multigrid import WalkCancelled
from tapct_core.delineation.segment import segment
from tapct_core.embedding import embed_cached
from tapct_core.encoders import load_encoder
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct, load_labels
from tapct_core.probe import LinearProbe
from tapct_core.volume import LabelMap

from ..conftest import canvas_of, centre_on, drag, place_on_canvas

LONG = 120_000


@pytest.fixture(scope="session")
def features_of(tmp_path_factory):
    """Features of a file by the control encoder, computed once a session."""
    encoder = load_encoder("untrained-xs-3d", device="cpu")
    found = {}

    def get(path):
        if path not in found:
            found[path] = embed_cached(load_ct(path), encoder)
        return found[path]

    return get


@pytest.fixture
def docked(make_napari_viewer_proxy, ct_files, features_of):
    """A shown viewer with the Segment widget and a scan with features."""
    viewer = make_napari_viewer_proxy(show=True)
    viewer.open(ct_files["straight.nii.gz"], plugin="napari-tapct")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Segment")
    widget.session.set_features(widget.session.active, features_of(ct_files["straight.nii.gz"]))
    return viewer, widget


def paint(viewer, widget, value: int, start: tuple, stop: tuple) -> None:
    """A stroke of class ``value`` from voxel to voxel of the slice on screen."""
    widget.classes.select(value)
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    scan = widget.session.active
    canvas = canvas_of(viewer)
    drag(canvas, place_on_canvas(viewer, scan, start), place_on_canvas(viewer, scan, stop))


def two_strokes(viewer, widget, qtbot) -> int:
    """A stroke of each class on one slice; waits for the whole result. Returns the slice."""
    z, y, x = centre_on(viewer, widget.session.active)
    paint(viewer, widget, 1, (z, y - 6, x - 8), (z, y - 6, x + 8))
    paint(viewer, widget, 2, (z, y + 6, x - 8), (z, y + 6, x + 8))
    settle(widget, qtbot)
    return z


def settle(widget, qtbot) -> None:
    """Waits until the whole result follows the last stroke."""
    qtbot.waitUntil(lambda: "Up to date" in widget.state.text(), timeout=LONG)


def labels_of(scan, widget) -> LabelMap:
    """The strokes on a scan as the library takes them."""
    names = {one.value: one.name for one in widget.painting.classes}
    return LabelMap(scan.parts["strokes"].data.copy(), scan.volume.geometry, names=names)


def shown_result(viewer, widget) -> np.ndarray:
    """Pixels of the canvas with only the result drawn."""
    scan = widget.session.active
    for layer in viewer.layers:
        layer.visible = layer is scan.parts["result"] or layer == scan.parts["result"]
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    for layer in viewer.layers:
        layer.visible = True
    return picture


def test_painting_changes_the_segmentation_in_the_layer_and_on_screen(docked, qtbot):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    result, strokes = scan.parts["result"], scan.parts["strokes"]
    assert set(np.unique(strokes.data)) == {0, 1, 2} and set(np.nonzero(strokes.data)[0]) == {z}
    assert set(np.unique(result.data)) == {0, 2}  # background is drawn as nothing
    expected = segment(scan.volume, labels_of(scan, widget), scan.features)  # as the library and the command line do
    np.testing.assert_array_equal(result.data, expected.labels)
    before_layer, before_screen = result.data.copy(), shown_result(viewer, widget)
    where = np.argwhere(result.data[z] == 2)
    y, x = where[len(where) // 2]
    paint(viewer, widget, 1, (z, y, max(2, x - 5)), (z, y, min(37, x + 5)))
    settle(widget, qtbot)
    assert (result.data != before_layer).any()
    assert np.abs(shown_result(viewer, widget) - before_screen).max() > 20


def test_undo_goes_back_over_slices_stroke_by_stroke(docked, qtbot):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    strokes = widget.session.active.parts["strokes"]
    states = [strokes.data.copy()]
    for step in (1, 2, 3):
        viewer.dims.set_current_step(0, viewer.dims.current_step[0] + 1)
        here = int(round(strokes.world_to_data(viewer.dims.point)[0]))
        assert here != z
        paint(viewer, widget, 2, (here, 12, 10 + step), (here, 12, 20))
        states.append(strokes.data.copy())
        assert (states[-1] != states[-2]).any()
    for state in reversed(states[:-1]):
        QTest.keyClick(canvas_of(viewer), Qt.Key_Z, Qt.ShiftModifier)
        np.testing.assert_array_equal(strokes.data, state)
    for state in states[1:]:
        QTest.keyClick(canvas_of(viewer), Qt.Key_Y, Qt.ShiftModifier)
        np.testing.assert_array_equal(strokes.data, state)
    for state in reversed(states[:-1]):  # napari's own key does the same
        QTest.keyClick(canvas_of(viewer), Qt.Key_Z, Qt.ControlModifier)
        np.testing.assert_array_equal(strokes.data, state)


def test_old_result_is_shown_as_stale_until_it_follows(docked, qtbot):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    result = widget.session.active.parts["result"]
    y, x = np.argwhere(widget.session.active.parts["strokes"].data[z] == 1)[0]
    assert result.opacity == pytest.approx(0.6) and "Up to date" in widget.state.text() and "ml" in widget.state.text()
    widget.live.setChecked(False)
    paint(viewer, widget, 2, (z, y, x), (z, y, x + 6))
    assert result.opacity < 0.3 and "OLDER" in widget.state.text()
    with qtbot.waitSignal(widget.whole_done, timeout=LONG):
        QTest.keyClick(canvas_of(viewer), Qt.Key_U, Qt.ShiftModifier)
    assert result.opacity == pytest.approx(0.6)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1)])
def test_strokes_in_other_planes(docked, qtbot, order):
    viewer, widget = docked
    viewer.dims.order = order
    scan = widget.session.active
    layer = widget.painting.strokes(scan)
    middle = [n // 2 for n in scan.volume.hu.shape]
    for value, off in ((1, -5), (2, 5)):
        place = list(middle)
        place[order[1]] += off
        layer.paint(place, value)
    with qtbot.waitSignal(widget.slice_done, timeout=LONG), qtbot.waitSignal(widget.whole_done, timeout=LONG):
        widget.update_result()
    assert set(np.unique(scan.parts["result"].data)) == {0, 2}


def test_probability_and_uncertainty(docked, qtbot):
    viewer, widget = docked
    two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    for button, role in ((widget.probability_button, "probability"), (widget.uncertainty_button, "uncertainty")):
        with qtbot.waitSignal(widget.mapped, timeout=LONG):
            QTest.mouseClick(button, Qt.LeftButton)
        values = scan.parts[role].data
        assert values.shape == scan.volume.hu.shape and values.min() >= 0 and values.max() <= 1 and values.std() > 0


def test_probe_goes_to_disk_and_back_and_to_other_time_points(docked, ct_files, features_of, qtbot, tmp_path):
    viewer, widget = docked
    two_strokes(viewer, widget, qtbot)
    first = widget.session.active
    path = tmp_path / "probe.safetensors"
    with qtbot.waitSignal(widget.keep.saved, timeout=LONG):
        widget.keep.save_probe(path)
    viewer.open(ct_files["straight.nrrd"], plugin="napari-tapct")
    other = next(scan for scan in widget.session.scans if scan is not first)
    widget.session.set_features(other, features_of(ct_files["straight.nrrd"]))
    widget.session.show(first)
    with qtbot.waitSignal(widget.keep.saved, timeout=LONG):
        QTest.mouseClick(widget.keep.apply_button, Qt.LeftButton)
    wanted = segment(other.volume, None, other.features, probe=LinearProbe.load(path)).labels
    np.testing.assert_array_equal(other.parts["result"].data, wanted)
    assert set(np.unique(wanted)) == {0, 2}
    viewer.layers.remove(first.parts["strokes"])
    viewer.layers.remove(first.parts["result"])
    with qtbot.waitSignal(widget.whole_done, timeout=LONG):
        widget.keep.load_probe(path)
    # The same voxels from another file.
    assert (first.parts["result"].data == other.parts["result"].data).mean() > 0.99


def test_a_stroke_corrects_a_loaded_probe_and_loses_neither_it_nor_its_classes(docked, qtbot, tmp_path):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    with qtbot.waitSignal(widget.keep.saved, timeout=LONG):
        widget.keep.save_probe(tmp_path / "probe.safetensors")
    scan = widget.session.active
    viewer.layers.remove(scan.parts["strokes"])
    qtbot.wait(50)
    with qtbot.waitSignal(widget.whole_done, timeout=LONG):
        widget.keep.load_probe(tmp_path / "probe.safetensors")
    probe, before = widget.segmenting.probe, scan.parts["result"].data.copy()
    y, x = np.argwhere(before[z] == 2)[len(np.argwhere(before[z] == 2)) // 2]
    paint(viewer, widget, 1, (z, y, max(2, x - 3)), (z, y, min(37, x + 3)))
    settle(widget, qtbot)
    assert widget.segmenting.probe is probe
    assert [one.name for one in widget.painting.classes] == ["background", "lesion"]
    painted = scan.parts["strokes"].data == 1
    assert painted.any() and (scan.parts["result"].data[painted] == 0).all() and (scan.parts["result"].data == 2).any()
    QTest.mouseClick(widget.keep.load_button, Qt.LeftButton)  # "Let the probe go"
    assert widget.segmenting.probe is None


@pytest.mark.parametrize("name", ["straight.nii.gz", "permuted.nii", "oblique.nii.gz"])
def test_export_lies_on_the_grid_of_the_source(make_napari_viewer_proxy, ct_files, features_of, qtbot, tmp_path, name):
    import nibabel

    viewer = make_napari_viewer_proxy(show=True)
    viewer.open(ct_files[name], plugin="napari-tapct")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Segment")
    widget.session.set_features(widget.session.active, features_of(ct_files[name]))
    two_strokes(viewer, widget, qtbot)
    path = tmp_path / "out.nii.gz"
    with qtbot.waitSignal(widget.keep.saved, timeout=LONG):
        widget.keep.export(path)
    ours, source = nibabel.load(path), nibabel.load(ct_files[name])
    assert ours.shape == source.shape and np.allclose(ours.affine, source.affine)
    assert (int(ours.header["qform_code"]), int(ours.header["sform_code"])) == (
        int(source.header["qform_code"]), int(source.header["sform_code"]),
    )  # fmt: skip
    np.testing.assert_array_equal(load_labels(path).labels, widget.session.active.parts["result"].data)


def test_a_stroke_is_answered_before_napari_has_drawn_it(docked, qtbot):
    viewer, widget = docked
    two_strokes(viewer, widget, qtbot)
    scan, segmenting = widget.session.active, widget.segmenting
    layer, before = scan.parts["strokes"], segmenting.run
    z, y, x = centre_on(viewer, scan)
    layer.paint((z, y, x), 2)  # no event is handled between this line and the next
    assert segmenting.run is not before and segmenting.run.running
    first = segmenting.run
    layer.paint((z, y + 1, x), 2)
    layer.paint((z, y + 2, x), 2)
    assert segmenting.run is first, "strokes in quick succession are answered together"
    settle(widget, qtbot)
    assert segmenting.run is not first
    seen = widget.segmenting.answered.answer.marks.labels
    assert np.count_nonzero(seen) == np.count_nonzero(layer.data)


def test_a_run_that_was_dropped_while_it_waited_fits_nothing(docked, qtbot, monkeypatch):
    viewer, widget = docked
    two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    sent = []
    job = Job("dropped", lambda job: None)
    job.drop()
    monkeypatch.setattr(job, "send", sent.append)
    with pytest.raises(WalkCancelled):
        delineate(job, widget.segmenting.answered, labels_of(scan, widget), widget.painting.classes, 3)
    assert sent == []


def test_hint_says_what_to_paint_next():
    classes = [LabelClass(1, "background", (0, 0, 0)), LabelClass(2, "liver", (1, 1, 1))]
    geometry = Geometry.from_spacing((3, 40, 40), (2.0, 2.0, 2.0))

    def said(*columns):
        labels = np.zeros(geometry.shape, np.uint8)
        for value, x in enumerate(columns, start=1):
            labels[1, 10:20, x] = value
        return missing_strokes([LabelMap(labels, geometry)], classes)

    assert said(5) == "Not painted yet: liver."
    assert "border" in said(5, 35) and "liver" in said(5, 35)
    assert said(5, 9) == ""


def test_classes_are_named_coloured_added_and_removed(docked, qtbot):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    QTest.mouseClick(widget.classes.add, Qt.LeftButton)
    assert widget.classes.value == 3
    widget.classes.table.item(2, 1).setText("vessel")
    assert scan.parts["result"].features["name"].tolist() == ["background", "lesion", "vessel"]
    paint(viewer, widget, 3, (z, 14, 12), (z, 14, 14))
    assert (scan.parts["strokes"].data == 3).any()
    widget.classes.select(3)
    QTest.mouseClick(widget.classes.remove, Qt.LeftButton)
    assert not (scan.parts["strokes"].data == 3).any() and len(widget.painting.classes) == 2


def test_deleting_the_scan_in_the_middle_is_safe(docked, qtbot):
    viewer, widget = docked
    z, y, x = centre_on(viewer, widget.session.active)
    paint(viewer, widget, 1, (z, y - 6, x - 8), (z, y - 6, x + 8))
    with qtbot.waitSignal(widget.slice_done, timeout=LONG):
        paint(viewer, widget, 2, (z, y + 6, x - 8), (z, y + 6, x + 8))
    run = widget.segmenting.run
    viewer.layers.remove(widget.session.active.layer)
    qtbot.waitUntil(lambda: not run.running, timeout=LONG)
    assert widget.session.scans == [] and "Open a scan" in widget.state.text()
    assert session_of(viewer) is widget.session


def test_strokes_whose_layer_was_deleted_come_back_with_undo(docked, qtbot):
    viewer, widget = docked
    two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    painted = scan.parts["strokes"].data.copy()
    viewer.layers.remove(scan.parts["strokes"])
    qtbot.wait(50)
    assert "strokes" not in scan.parts
    QTest.mouseClick(widget.undo_button, Qt.LeftButton)
    np.testing.assert_array_equal(scan.parts["strokes"].data, painted)
    settle(widget, qtbot)
    QTest.mouseClick(widget.redo_button, Qt.LeftButton)
    assert not scan.parts["strokes"].data.any()


def test_what_is_painted_on_the_result_counts_as_strokes(docked, qtbot):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    result, before = scan.parts["result"], scan.parts["strokes"].data.copy()
    free = np.argwhere((before[z] == 0) & (result.data[z] == 2))
    y, x = free[len(free) // 2]
    viewer.layers.selection.active = result
    result.brush_size = 1
    result.mode = "erase"
    drag(canvas_of(viewer), *[place_on_canvas(viewer, scan, (z, y, x + off)) for off in (-1, 1)])
    now = scan.parts["strokes"].data
    assert (now != before).any() and set(np.unique(now[now != before])) == {1}  # erased is background
    assert "counts as strokes" in widget.hint.text()
    settle(widget, qtbot)
    assert (result.data[(now == 1)] == 0).all()
    QTest.mouseClick(widget.undo_button, Qt.LeftButton)
    np.testing.assert_array_equal(scan.parts["strokes"].data, before)


def test_the_brush_stays_as_a_person_set_it(docked):
    viewer, widget = docked
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    layer = widget.session.active.parts["strokes"]
    layer.brush_size = 17
    QTest.keyClick(canvas_of(viewer), Qt.Key_P, Qt.ShiftModifier)
    assert layer.brush_size == 17


def test_nobody_paints_in_3d_without_a_word(docked):
    viewer, widget = docked
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    layer = widget.session.active.parts["strokes"]
    viewer.dims.ndisplay = 3
    assert layer.mode == "pan_zoom" and "2D" in widget.hint.text()
    QTest.mouseClick(widget.paint_button, Qt.LeftButton)
    assert viewer.dims.ndisplay == 2 and layer.mode == "paint" and "2D again" in widget.hint.text()


def test_an_export_in_the_middle_of_an_update_writes_what_the_last_stroke_says(docked, qtbot, tmp_path):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    older = scan.parts["result"].data.copy()
    y, x = np.argwhere(older[z] == 2)[0]
    with qtbot.waitSignal(widget.keep.saved, timeout=LONG):
        scan.parts["strokes"].paint((z, y, x), 1)
        widget.keep.export(tmp_path / "out.nii.gz")
    written = load_labels(tmp_path / "out.nii.gz").labels
    np.testing.assert_array_equal(written, scan.parts["result"].data)
    assert written[z, y, x] == 0 and (written != older).any()


def test_a_polygon_is_in_the_layer_when_the_segmentation_reads_it(docked, qtbot):
    """napari says that a polygon was painted before it paints it."""
    viewer, widget = docked
    z, y, x = centre_on(viewer, widget.session.active)
    layer = widget.painting.strokes(widget.session.active)
    seen = []
    widget.painting.strokes_changed.connect(lambda scan: seen.append(int(layer.data[z, y, x])))
    layer.paint_polygon([(z, y - 4, x - 4), (z, y - 4, x + 4), (z, y + 4, x + 4), (z, y + 4, x - 4)], 2)
    layer.paint((z, y, x), 1)
    layer.fill((z, y, x), 3)
    assert seen == [2, 1, 3]


def test_one_key_goes_to_the_slice_where_a_stroke_would_help_most(docked, qtbot):
    viewer, widget = docked
    assert not widget.next_button.isEnabled()
    z = two_strokes(viewer, widget, qtbot)
    QTest.keyClick(canvas_of(viewer), Qt.Key_N, Qt.ControlModifier | Qt.ShiftModifier)
    here = widget.segmenting.results.slice_shown(widget.session.active)
    assert here != z and here == widget.segmenting.answered.next_slice()


def test_without_features_strokes_are_followed_by_hu(make_napari_viewer_proxy, ct_files, qtbot):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.open(ct_files["straight.nii.gz"], plugin="napari-tapct")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Segment")
    two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    np.testing.assert_array_equal(scan.parts["result"].data, segment(scan.volume, labels_of(scan, widget)).labels)
    assert "HU alone" in widget.state.text() and not widget.keep.save_button.isEnabled()


def test_a_linear_probe_alone_is_a_choice(docked, qtbot):
    viewer, widget = docked
    z = two_strokes(viewer, widget, qtbot)
    scan = widget.session.active
    with qtbot.waitSignal(widget.whole_done, timeout=LONG):
        widget.alone.setChecked(True)
    strokes = scan.parts["strokes"].data
    assert (scan.parts["result"].data[strokes == 2] == 2).all() and (scan.parts["result"].data[strokes == 1] == 0).all()
    assert z in np.nonzero(scan.parts["result"].data)[0]


def test_strokes_in_the_air_are_answered_with_a_sentence(docked, qtbot):
    viewer, widget = docked
    scan = widget.session.active
    layer = widget.painting.strokes(scan)
    corner = [n // 2 for n in scan.volume.hu.shape]
    layer.paint(corner, 2)
    qtbot.waitUntil(lambda: "background" in widget.hint.text(), timeout=LONG)
    assert "result" not in scan.parts or not scan.parts["result"].data.any()
