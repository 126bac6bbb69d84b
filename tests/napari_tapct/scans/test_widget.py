"""The Scans widget with real mouse and keys: opening, time points, windows, what lies under the mouse."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_tapct.scans.series_picker import SeriesPicker, thumbnail, words
from napari_tapct.scans.widget import ASK, ScansWidget
from napari_tapct.scans.window import HU_PER_PIXEL, WindowBox
from napari_tapct.session import session_of
from napari_tapct.status import describe
from tapct_core.hu_windows import PRESETS
from tapct_core.io import list_series

from ..conftest import canvas_of, drag


@pytest.fixture
def docked(make_napari_viewer_proxy, ct_files, qtbot):
    """A shown viewer with the Scans widget and one scan that it opened."""
    viewer = make_napari_viewer_proxy(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Scans")
    with qtbot.waitSignal(widget.opened, timeout=60_000):
        widget.open_files([ct_files["straight.nii.gz"]])
    return viewer, widget


def test_time_points_stand_in_order_of_date_and_ask_for_it(docked, ct_files, qtbot):
    viewer, widget = docked
    with qtbot.waitSignal(widget.opened, timeout=60_000):
        widget.open_files([ct_files["straight.nrrd"], ct_files["oblique.mha"]])
    table = widget.table
    assert table.rowCount() == 3 and table.item(0, 0).text() == ASK
    assert "3 of 3 scans have no date" in widget.hint.text()
    first, second = (table.item(row, 1).text() for row in (0, 1))
    table.item(0, 0).setText("2021-05-17")
    table.item(1, 0).setText("2020-02-03")
    # Each entry sorts the table: the second text went to the row that was second then.
    dates = [scan.date for scan in session_of(viewer).scans]
    assert dates == sorted(dates[:2]) + [""]
    assert {table.item(0, 1).text(), table.item(1, 1).text()} == {first, second}
    table.item(2, 0).setText("yesterday")
    assert "not a date" in widget.hint.text() and session_of(viewer).scans[2].date == ""


def test_a_click_on_a_row_shows_that_scan_alone(docked, ct_files, qtbot):
    viewer, widget = docked
    with qtbot.waitSignal(widget.opened, timeout=60_000):
        widget.open_files([ct_files["straight.nrrd"]])
    cell = widget.table.visualItemRect(widget.table.item(0, 1)).center()
    QTest.mouseClick(widget.table.viewport(), Qt.LeftButton, pos=cell)
    assert [layer.visible for layer in viewer.layers] == [True, False]
    assert session_of(viewer).active is session_of(viewer).scans[0]


def test_labels_open_as_labels(docked, qtbot):
    from tapct_core.samples import sample_paths

    viewer, widget = docked
    with qtbot.waitSignal(widget.opened, timeout=60_000):
        widget.open_files([sample_paths("abdomen_pelvis")["labels"]])
    assert isinstance(viewer.layers[-1], Labels) and len(session_of(viewer).scans) == 1


@pytest.mark.parametrize(("name", "width", "level", "letter"), PRESETS)
def test_preset_by_button_and_by_key(docked, name, width, level, letter):
    viewer, widget = docked
    layer = viewer.layers[0]
    wanted = (level - width / 2, level + width / 2)
    box = widget.findChild(WindowBox)
    layer.contrast_limits = (0, 1)
    QTest.mouseClick(box.buttons[name], Qt.LeftButton)
    assert tuple(layer.contrast_limits) == wanted
    assert box.buttons[name].text() == (f"{name}  ⇧{letter}" if letter else name)
    if not letter:
        return
    layer.contrast_limits = (0, 1)
    QTest.keyClick(canvas_of(viewer), getattr(Qt, f"Key_{letter}"), Qt.ShiftModifier)
    assert tuple(layer.contrast_limits) == wanted


def test_dragging_changes_width_and_level_and_leaves_the_picture_in_place(docked):
    viewer, widget = docked
    layer = viewer.layers[0]
    QTest.keyClick(canvas_of(viewer), Qt.Key_W, Qt.ShiftModifier)
    before, centre = np.array(layer.contrast_limits), viewer.scene.camera.center
    drag(canvas_of(viewer), QPoint(200, 200), QPoint(260, 180))
    low, high = layer.contrast_limits
    assert high - low == pytest.approx(np.diff(before)[0] + 60 * HU_PER_PIXEL)
    assert (low + high) / 2 == pytest.approx(before.mean() - 20 * HU_PER_PIXEL)
    assert viewer.scene.camera.center == pytest.approx(centre)
    QTest.keyClick(canvas_of(viewer), Qt.Key_W, Qt.ShiftModifier)
    drag(canvas_of(viewer), QPoint(200, 200), QPoint(260, 180))
    assert tuple(layer.contrast_limits) == (low, high) and viewer.scene.camera.center != pytest.approx(centre)


def test_status_says_hu_place_and_label(docked):
    viewer, widget = docked
    scan = session_of(viewer).active
    index = (5, 7, 9)
    drawn = scan.layer.data_to_world(index)
    labels = viewer.add_labels(np.zeros(scan.volume.hu.shape, np.uint8), scale=scan.layer.scale, name="organs")
    labels.translate = scan.layer.translate
    labels.data[index] = 3
    labels.features = {"index": [3], "name": ["liver"]}
    said = describe(scan, list(viewer.layers), drawn)
    x, y, z = scan.volume.geometry.to_world(np.array(index))
    assert said == f"{scan.volume.hu[index]} HU  |  LPS {x:.1f}, {y:.1f}, {z:.1f} mm  |  liver"
    assert describe(scan, [], tuple(d + 1e4 for d in drawn)) == "outside the scan"


def test_deleting_a_scan_while_others_are_read_is_safe(docked, ct_files, qtbot):
    viewer, widget = docked
    with qtbot.waitSignal(widget.opened, timeout=60_000):
        widget.open_files([ct_files["oblique.mha"]])
        viewer.layers.clear()
    assert [scan.name for scan in session_of(viewer).scans] == ["oblique"]


def test_a_file_that_is_none_is_told_in_one_line(docked, tmp_path, qtbot, monkeypatch):
    said = []
    monkeypatch.setattr("napari_tapct.jobs.show_error", said.append)
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    _, widget = docked
    job = widget.open_files([path])
    qtbot.waitUntil(lambda: not job.running, timeout=60_000)
    assert len(said) == 1 and "\n" not in said[0] and "copy it again" in said[0]


def test_series_picker_shows_thumbnails_and_gives_back_what_is_ticked(qtbot, data_dir, two_series):
    series = list_series(two_series)
    pictures = [thumbnail(one) for one in series]
    assert all(picture.std() > 20 for picture in pictures)
    picker = SeriesPicker(series, pictures)
    qtbot.addWidget(picker)
    assert [one.slices for one in picker.chosen] == [20]
    short = next(i for i, one in enumerate(series) if one.slices == 8)
    picker.list.item(short).setCheckState(Qt.Checked)
    assert sorted(one.slices for one in picker.chosen) == [8, 20]
    assert "shorter" in words(series[short]) and "8 slices" in words(series[short])


def test_folder_with_several_series_asks(docked, two_series, qtbot):
    viewer, widget = docked
    widget.open_folder(two_series)
    qtbot.waitUntil(lambda: widget.findChild(SeriesPicker) is not None, timeout=60_000)
    picker = widget.findChild(SeriesPicker)
    with qtbot.waitSignal(widget.opened, timeout=60_000) as opened:
        picker.accept()
    assert [layer.data.shape for layer in opened.args[0]] == [(20, 512, 512)]


def test_two_viewers_have_two_sessions(make_napari_viewer, ct_files):
    one, two = make_napari_viewer(), make_napari_viewer()
    widgets = [ScansWidget(viewer) for viewer in (one, two)]
    one.open(ct_files["straight.nii.gz"], plugin="napari-tapct")
    assert [widget.table.rowCount() for widget in widgets] == [1, 0]
    for widget in widgets:
        widget.deleteLater()
