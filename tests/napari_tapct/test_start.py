"""The first page: napari's question which reader to use is answered once, and each task opens with its sample."""

from __future__ import annotations

import pytest
from napari.plugins.utils import get_preferred_reader
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton

from napari_tapct.__main__ import fill, main
from napari_tapct.inner import main_window
from napari_tapct.session import session_of
from napari_tapct.start import file_patterns, open_widgets
from tapct_core.errors import UserError

LONG = 60_000


@pytest.fixture
def start(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy(show=True)
    before = get_settings().plugins.extension2reader
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Start here")
    yield viewer, widget
    get_settings().plugins.extension2reader = before


def button(widget, text: str) -> QPushButton:
    return next(one for one in widget.findChildren(QPushButton) if one.text() == text)


def test_one_click_and_napari_asks_no_more(start, tmp_path):
    viewer, widget = start
    get_settings().plugins.extension2reader = {"*.zarr": "another"}
    QTest.mouseClick(button(widget, "Always open CTs with TAP-CT"), Qt.LeftButton)
    for name in ("ct.nii.gz", "ct.nii", "slice.dcm", "ct.mha"):
        assert get_preferred_reader(tmp_path / name) == "napari-tapct"
    assert get_preferred_reader(tmp_path / "picture.tif") is None and get_preferred_reader(tmp_path) is None
    assert get_settings().plugins.extension2reader["*.zarr"] == "another" and "✓" in widget.said.text()
    widget.folders.setChecked(True)
    QTest.mouseClick(button(widget, "Always open CTs with TAP-CT"), Qt.LeftButton)
    assert get_preferred_reader(tmp_path) == "napari-tapct" and "folders" in widget.said.text()


def test_patterns_are_the_manifest_s(start):
    assert {"*.nii.gz", "*.dcm"} <= set(file_patterns())


def test_a_task_opens_its_sample_and_its_widget(start, qtbot):
    viewer, widget = start
    widget.try_on_sample("Segment", "abdomen_pelvis")
    session = session_of(viewer)
    qtbot.waitUntil(lambda: bool(session.scans), timeout=LONG)
    assert any(type(one).__name__ == "SegmentWidget" for one in docked(viewer))


def docked(viewer) -> list:
    return list(viewer.window.dock_widgets.values())


def test_the_window_is_filled_with_scans_or_a_study(make_napari_viewer_proxy, ct_files, qtbot, tmp_path):
    viewer = make_napari_viewer_proxy(show=True)
    fill(viewer, [ct_files["straight.nii.gz"], ct_files["straight.nrrd"]])
    session = session_of(viewer)
    qtbot.waitUntil(lambda: len(session.scans) == 2, timeout=LONG)
    assert {type(one).__name__ for one in docked(viewer)} >= {"ScansWidget", "SegmentWidget", "FollowUpWidget"}
    with pytest.raises(UserError, match="one study"):
        fill(viewer, [tmp_path / "a.json", tmp_path / "b.nii"])


def test_a_wrong_path_is_one_line(capsys, tmp_path):
    assert main([str(tmp_path / "no.nii.gz")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no.nii.gz" in said


def test_all_widgets_together_fit_a_laptop(make_napari_viewer_proxy, qtbot):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1366, 768)
    open_widgets(viewer, ("Start here", "Scans", "Features", "Segment", "Follow-up"))
    qtbot.wait(300)
    window = main_window(viewer.__wrapped__)
    assert window.height() <= 768 and window.width() <= 1366
    assert window.minimumSizeHint().height() <= 720
