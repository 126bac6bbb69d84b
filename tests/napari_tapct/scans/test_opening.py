"""What is dropped or taken from the File menu is read beside the interface thread, with the picker and with cancel."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent

from napari_tapct.scans.opening import opener_of
from napari_tapct.scans.series_picker import SeriesPicker
from napari_tapct.session import session_of

LONG = 120_000
PLUGIN = "napari-tapct"


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch):
    """A viewer whose readers are ours alone: with others beside them napari asks once which to take."""
    from napari.settings import get_settings

    viewer = make_napari_viewer(show=True)
    readers = {"*.nii.gz": PLUGIN, "*.nii": PLUGIN, "*.dcm": PLUGIN, "*.mha": PLUGIN}
    get_settings().plugins.extension2reader = readers
    return viewer


def drop(viewer, *paths) -> None:
    """Files are let go over the canvas. A folder is opened as File > Open Folder does."""
    inner = viewer.window._qt_viewer
    if paths[0].is_dir():
        inner._qt_open([str(paths[0])], stack=False, plugin=PLUGIN)
        return
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    # Qt delivers a drop only at the end of a drag that began with the mouse, so it is handed over here.
    inner.dropEvent(QDropEvent(QPointF(50, 50), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier))


def test_a_drop_returns_at_once_and_the_scan_follows(viewer, ct_files, qtbot):
    opener = opener_of(session_of(viewer))
    with qtbot.waitSignal(opener.opened, timeout=LONG):
        drop(viewer, ct_files["oblique.nii.gz"])
        assert len(viewer.layers) == 0
    assert [layer.name for layer in viewer.layers] == ["oblique"] and len(session_of(viewer).scans) == 1


def test_a_script_gets_its_layers(viewer, ct_files, qtbot):
    (layer,) = viewer.open(ct_files["straight.nii.gz"], plugin=PLUGIN)
    assert layer in viewer.layers and layer.data.shape == (20, 36, 40)


def test_a_folder_of_several_series_asks_which(viewer, two_series, qtbot):
    drop(viewer, two_series)
    qtbot.waitUntil(lambda: viewer.window._qt_window.findChild(SeriesPicker) is not None, timeout=LONG)
    picker = viewer.window._qt_window.findChild(SeriesPicker)
    short = next(i for i in range(2) if "shorter" in picker.list.item(i).text())
    for i in range(2):
        picker.list.item(i).setCheckState(Qt.Checked if i == short else Qt.Unchecked)
    with qtbot.waitSignal(opener_of(session_of(viewer)).opened, timeout=LONG):
        picker.accept()
    assert [layer.data.shape[0] for layer in viewer.layers] == [8]


def test_slices_dropped_together_open_their_series_once(viewer, two_series, qtbot):
    with qtbot.waitSignal(opener_of(session_of(viewer)).opened, timeout=LONG):
        drop(viewer, *sorted(two_series.glob("b*.dcm"))[2:5])
    qtbot.wait(100)
    assert [layer.data.shape[0] for layer in viewer.layers] == [8]


def test_one_broken_file_keeps_no_other_from_being_opened(viewer, ct_files, tmp_path, qtbot, monkeypatch):
    said = []
    monkeypatch.setattr("napari_tapct.scans.opening.show_warning", said.append)  # read together with the other
    monkeypatch.setattr("napari_tapct.jobs.show_error", said.append)  # or alone: napari may handle events between two
    broken, good = tmp_path / "broken.nii.gz", tmp_path / "good.nii.gz"
    broken.write_bytes(b"\x1f\x8b" + bytes(100))
    shutil.copy(ct_files["straight.nii.gz"], good)
    with qtbot.waitSignal(opener_of(session_of(viewer)).opened, timeout=LONG):
        drop(viewer, broken, good)
    assert [layer.name for layer in viewer.layers] == ["good"]
    assert len(said) == 1 and "broken.nii.gz" in said[0] and "copy it again" in said[0]


def test_progress_is_in_napari_s_activity_dock_and_can_be_cancelled_there(viewer, ct_files, qtbot):
    from napari.utils.progress import progress

    opener = opener_of(session_of(viewer))
    job = opener.open_files([ct_files["straight.nii.gz"], ct_files["oblique.mha"]])
    (bar,) = [one for one in progress._all_instances if one.desc.startswith("Reading")]
    bar.cancel()
    qtbot.waitUntil(lambda: not job.running, timeout=LONG)
    qtbot.wait(50)
    assert len(viewer.layers) == 0 and bar not in progress._all_instances


def test_the_viewer_may_be_closed_while_a_drop_is_read(make_napari_viewer, ct_files, qtbot):
    viewer = make_napari_viewer(show=True)
    job = opener_of(session_of(viewer)).open_files([ct_files["straight.nii.gz"]])
    viewer.close()
    qtbot.waitUntil(lambda: not job.running, timeout=LONG)
    assert np.size(viewer.layers) == 0
