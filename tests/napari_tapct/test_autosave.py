"""Work that was painted survives a kill, and a second viewer does not take it for its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_tapct.autosave import Autosave, autosave_of, unfinished
from napari_tapct.painting import painting_of
from napari_tapct.scans.widget import ScansWidget
from napari_tapct.session import session_of
from tapct_core.samples import load_sample
from tapct_core.volume import CTVolume

LONG = 60_000

PAINTS_UNTIL_KILLED = """
import sys, napari
from qtpy.QtWidgets import QApplication
from napari_tapct.autosave import autosave_of
from napari_tapct.painting import painting_of
from napari_tapct.session import session_of
viewer = napari.Viewer(show=False)
viewer.window.add_plugin_dock_widget("napari-tapct", "Scans")
viewer.window.add_plugin_dock_widget("napari-tapct", "Segment")
viewer.open(sys.argv[1], plugin="napari-tapct")
session = session_of(viewer)
painting_of(session).add_class()
session.set_date(session.active, "2023-04-05")
layer = painting_of(session).strokes(session.active)
layer.paint((5, 10, 12), 3)
layer.paint((9, 20, 22), 2)
autosave_of(session).saved.connect(lambda: print("SAVED", flush=True))
napari.run()
"""


def test_killed_and_resumed(make_napari_viewer_proxy, ct_files, qtbot):
    """The process is killed, not asked to end; the next viewer offers and restores its strokes."""
    run = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PAINTS_UNTIL_KILLED, str(ct_files["oblique.nii.gz"])],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"NAPARI_ASYNC": "0"},
    )  # fmt: skip
    assert "SAVED" in run.stdout.readline()
    assert unfinished() == []  # it is still being worked on
    run.send_signal(signal.SIGKILL)
    run.wait()
    viewer = make_napari_viewer_proxy(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Scans")
    assert widget.unfinished_box.work is not None and widget.unfinished_box.work.scans == 1
    assert not widget.unfinished_box.isHidden()
    with qtbot.waitSignal(widget.opened, timeout=LONG):
        QTest.mouseClick(widget.unfinished_box.resume_button, Qt.LeftButton)
    session = session_of(viewer)
    (scan,) = session.scans
    strokes = scan.parts["strokes"].data
    assert strokes[5, 10, 12] == 3 and strokes[9, 20, 22] == 2 and scan.date == "2023-04-05"
    assert [one.value for one in painting_of(session).classes] == [1, 2, 3]
    autosave = autosave_of(session)
    with qtbot.waitSignal(autosave.saved, timeout=LONG):
        autosave.save()
    assert not widget.unfinished_box.work.folder.exists() and autosave.entry.exists()


def test_saved_within_ten_seconds_of_a_stroke(make_napari_viewer, ct_files, qtbot):
    viewer = make_napari_viewer()
    viewer.open(ct_files["straight.nii.gz"], plugin="napari-tapct")
    session = session_of(viewer)
    autosave = autosave_of(session)
    painting_of(session).strokes(session.active).paint((5, 10, 12), 2)
    with qtbot.waitSignal(autosave.saved, timeout=10_000):
        pass


def test_a_scan_without_a_file_is_kept_with_its_voxels(make_napari_viewer, qtbot):
    from napari_tapct.autosave import read_back
    from napari_tapct.layers import ct_image

    whole = load_sample("abdomen_pelvis")["ct"]
    volume = CTVolume(whole.hu[:8, :20, :20].copy(), whole.geometry.cropped((0, 0, 0), (8, 20, 20)))
    viewer = make_napari_viewer()
    viewer.add_layer(ct_image(volume, "made up"))
    session = session_of(viewer)
    autosave = Autosave(session)
    painting_of(session).strokes(session.active).paint((3, 4, 5), 1)
    with qtbot.waitSignal(autosave.saved, timeout=LONG):
        autosave.save()
    autosave._lock.unlock()
    (left,) = unfinished()
    classes, (scan,) = read_back(left)
    np.testing.assert_array_equal(scan.volume.hu, volume.hu)
    assert scan.volume.geometry.matches(volume.geometry) and (scan.value == 1).all() and len(classes) == 2
    left.discard()
    assert unfinished() == [] and not any((left.folder.parent / "volumes").iterdir())


def test_work_on_a_file_that_has_changed_is_refused_and_kept(make_napari_viewer, ct_files, tmp_path, qtbot):
    import shutil

    from napari_tapct.autosave import read_back
    from tapct_core.errors import UserError

    path = tmp_path / "scan.nii.gz"
    shutil.copy(ct_files["straight.nii.gz"], path)
    viewer = make_napari_viewer()
    viewer.open(path, plugin="napari-tapct")
    session = session_of(viewer)
    autosave = Autosave(session)
    painting_of(session).strokes(session.active).paint((3, 4, 5), 1)
    with qtbot.waitSignal(autosave.saved, timeout=LONG):
        autosave.save()
    autosave._lock.unlock()
    shutil.copy(ct_files["oblique.nii.gz"], path)
    (left,) = unfinished()
    with pytest.raises(UserError, match="another scan"):
        read_back(left)
    assert unfinished() == [left]


def test_nothing_is_offered_where_nothing_was_left(make_napari_viewer):
    widget = ScansWidget(make_napari_viewer())
    assert widget.unfinished_box.work is None and widget.unfinished_box.isHidden()
    widget.deleteLater()
