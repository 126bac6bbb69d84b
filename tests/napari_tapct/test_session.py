"""A scan that is closed takes its layers along and keeps its strokes; viewers know nothing of each other."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_tapct.autosave import autosave_of, read_back, unfinished
from napari_tapct.layers import ct_image
from napari_tapct.painting import painting_of
from napari_tapct.session import session_of
from tapct_core.io import load_ct
from tapct_core.volume import CTVolume

from .conftest import canvas_of, centre_on, drag, place_on_canvas

LONG = 60_000
PLUGIN = "napari-tapct"


def painted(viewer, path):
    """A scan with strokes and a further layer of its own; returns its session and strokes."""
    viewer.open(path, plugin=PLUGIN)
    session = session_of(viewer)
    layer = painting_of(session).strokes(session.active)
    layer.paint((5, 10, 12), 1)
    layer.paint((9, 20, 22), 2)
    session.add_part(session.active, "result", painting_of(session).layer(session.active, "segmentation", 0.6))
    return session, layer.data.copy()


@pytest.mark.parametrize("how", ["alone", "with its strokes", "clear"])
def test_a_closed_scan_takes_its_layers_along(make_napari_viewer, ct_files, qtbot, how):
    viewer = make_napari_viewer()
    session, _ = painted(viewer, ct_files["straight.nii.gz"])
    other = viewer.add_image(np.zeros((3, 4, 5)), name="not ours")
    if how == "alone":
        viewer.layers.remove(session.active.layer)
    elif how == "clear":
        viewer.layers.clear()
        other = viewer.add_image(np.zeros((3, 4, 5)))
    else:
        viewer.layers.selection = {session.active.layer, session.active.parts["strokes"]}
        viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: list(viewer.layers) == [other], timeout=LONG)
    assert session.scans == [] and session.active is None and len(painting_of(session).kept) == 1


@pytest.mark.parametrize("name", ["oblique.nii.gz", "straight.nrrd"])
def test_strokes_come_back_with_their_scan(make_napari_viewer, ct_files, qtbot, name):
    viewer = make_napari_viewer()
    session, strokes = painted(viewer, ct_files[name])
    viewer.layers.remove(session.active.layer)
    qtbot.waitUntil(lambda: len(viewer.layers) == 0, timeout=LONG)
    viewer.open(ct_files["permuted.nii"], plugin=PLUGIN)
    qtbot.wait(50)
    assert "strokes" not in session.active.parts  # of another file
    viewer.open(ct_files[name], plugin=PLUGIN)
    qtbot.waitUntil(lambda: any("strokes" in scan.parts for scan in session.scans), timeout=LONG)
    (scan,) = [scan for scan in session.scans if "strokes" in scan.parts]
    np.testing.assert_array_equal(scan.parts["strokes"].data, strokes)
    assert painting_of(session).kept == []


def test_strokes_come_back_on_voxels_without_a_file(make_napari_viewer, ct_files, qtbot):
    volume = load_ct(ct_files["straight.nii.gz"])
    viewer = make_napari_viewer()
    session = session_of(viewer)

    def opened(hu):
        viewer.add_layer(ct_image(CTVolume(hu, volume.geometry), "made up"))
        qtbot.wait(50)
        return session.active

    def close():
        viewer.layers.remove(session.active.layer)
        qtbot.waitUntil(lambda: len(viewer.layers) == 0, timeout=LONG)

    painting_of(session).strokes(opened(volume.hu)).paint((5, 10, 12), 2)
    close()
    assert "strokes" not in opened(volume.hu + np.int16(1)).parts
    close()
    assert opened(volume.hu.copy()).parts["strokes"].data[5, 10, 12] == 2


def test_autosave_keeps_the_strokes_of_closed_scans(make_napari_viewer, ct_files, qtbot):
    viewer = make_napari_viewer()
    session, strokes = painted(viewer, ct_files["straight.nii.gz"])
    autosave = autosave_of(session)
    viewer.layers.remove(session.active.layer)
    for _ in range(2):  # the second time without the volume, which is let go
        with qtbot.waitSignal(autosave.saved, timeout=LONG):
            autosave.save()
    assert painting_of(session).kept[0].volume is None
    autosave._lock.unlock()
    (left,) = unfinished()
    _, (scan,) = read_back(left)
    restored = np.zeros_like(strokes)
    restored[tuple(scan.index.T)] = scan.value
    np.testing.assert_array_equal(restored, strokes)


def test_two_viewers_are_painted_on_at_once(make_napari_viewer, ct_files, qtbot):
    """Strokes by turns, results of both, and a key undoes in its own viewer."""
    from tapct_core.embedding import embed_cached
    from tapct_core.encoders import load_encoder

    features = embed_cached(load_ct(ct_files["straight.nii.gz"]), load_encoder("untrained-xs-3d", device="cpu"))
    viewers = [make_napari_viewer(show=True) for _ in range(2)]
    widgets = []
    for viewer in viewers:
        viewer.open(ct_files["straight.nii.gz"], plugin=PLUGIN)
        widgets.append(viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")[1])
        widgets[-1].session.set_features(widgets[-1].session.active, features)
    places = [centre_on(viewer, widget.session.active) for viewer, widget in zip(viewers, widgets, strict=True)]
    for value, off in ((1, -6), (2, 6)):
        for turn, (viewer, widget) in enumerate(zip(viewers, widgets, strict=True)):
            z, y, x = places[turn]
            y += off if turn == 0 else -off  # the other way round in the second viewer
            widget.classes.select(value)
            QTest.mouseClick(widget.paint_button, Qt.LeftButton)
            scan = widget.session.active
            ends = [place_on_canvas(viewer, scan, (z, y, x + d)) for d in (-8, 8)]
            drag(canvas_of(viewer), *ends)
    for widget in widgets:
        qtbot.waitUntil(lambda widget=widget: "Up to date" in widget.state.text(), timeout=LONG)
    first, second = (widget.session.active.parts for widget in widgets)
    assert (first["strokes"].data != second["strokes"].data).any()
    assert first["result"].data.any() and second["result"].data.any()
    assert (first["result"].data != second["result"].data).any()
    before = first["strokes"].data.copy()
    QTest.keyClick(canvas_of(viewers[1]), Qt.Key_Z, Qt.ShiftModifier)
    assert set(np.unique(second["strokes"].data)) == {0, 1}
    np.testing.assert_array_equal(first["strokes"].data, before)
