"""A mask that is being painted survives a kill as it was, and a window that is closed meanwhile keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_tapct.follow_up.study.painted import put_painting, read_painting, write_painting
from napari_tapct.follow_up.study.recovery import unfinished_studies
from tapct_core.geometry import Geometry
from tapct_core.lesions import Finding, Lesion, Mask, Study, Timepoint
from tapct_core.lesions.study_file import load_study, save_study
from tapct_core.volume import CTVolume

LONG = 60_000
PAINTS = """
import sys
import napari
import numpy as np
from pathlib import Path
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
viewer = napari.Viewer()
viewer.window.resize(1200, 800)
_, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")

def paint():
    if widget.editor.scan_of("first") is None or not widget.linked.shown:
        QTimer.singleShot(100, paint)
        return
    widget.editor.reader = "AB"
    QTest.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key_V, Qt.ShiftModifier)
    layer = viewer.layers.selection.active
    layer.paint((18, 50, 40), layer.selected_label)
    layer.paint((19, 50, 40), layer.selected_label)
    print("VOXELS", int((layer.data > 0).sum()), flush=True)
    if sys.argv[2] == "close":
        QTimer.singleShot(0, viewer.window._qt_window.close)
    else:
        widget.study_bar.recovery.saved.connect(lambda: print("SAVED", flush=True))

widget.study_bar.open_study(Path(sys.argv[1]))
QTimer.singleShot(100, paint)
napari.run()
"""


@pytest.fixture
def file(pair, tmp_path):
    """A study of one scan, without lesions."""
    path = tmp_path / "study.json"
    save_study(Study("p", [Timepoint("first", str(pair.before), "2024-01-01")]), path)
    return path


def run(file, how: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PAINTS, str(file), how], stdout=subprocess.PIPE, text=True
    )


def test_a_kill_while_a_mask_is_painted_loses_no_stroke(file, make_napari_viewer_proxy, qtbot):
    process = run(file, "be killed")
    voxels = int(process.stdout.readline().split()[1])
    assert "SAVED" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert load_study(file).lesions == []
    viewer = make_napari_viewer_proxy(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    bar = widget.study_bar
    assert "with a mask that was being painted" in bar.unfinished_box.work.words
    with qtbot.waitSignal(bar.opened, timeout=LONG):
        QTest.mouseClick(bar.unfinished_box.resume_button, Qt.LeftButton)
    (lesion,) = widget.editor.study.lesions
    found = lesion.findings["first"]
    assert found.mask.voxels.sum() == voxels and found.mask_by == "person" and found.decided_by == "AB"
    assert found.measurement is not None and widget.editor.undo_words == f"paint {lesion.name}"
    bar.recovery.save()
    assert [one.name for one in load_study(file).lesions] == [lesion.name]
    assert unfinished_studies() == []


def test_a_window_that_is_closed_while_a_mask_is_painted_keeps_it(file):
    process = run(file, "close")
    out, _ = process.communicate(timeout=300)
    (lesion,) = load_study(file).lesions
    assert process.returncode == 0 and lesion.findings["first"].mask.voxels.sum() == int(out.split()[1])
    assert unfinished_studies() == [] and not list(os.scandir(os.environ["TAPCT_STATE"] + "/studies"))


def test_a_painting_goes_through_a_file_and_spares_what_is_decided(tmp_path):
    volume = CTVolume(np.zeros((4, 5, 6), np.int16), Geometry.from_spacing((4, 5, 6), (2, 1, 1)))
    array = np.zeros((4, 5, 6), bool)
    array[1, 1:4, 2:5] = True
    mask = Mask.from_array(array)
    painted = Lesion("L1", findings={"a": Finding("moved", (3.0, 2.0, 2.0), "AB", mask=mask, mask_by="person")})
    study = Study("p", [Timepoint("a", "a.nii"), Timepoint("b", "")])
    write_painting(tmp_path / "x.json", study, painted)
    again = read_painting(tmp_path / "x.json")
    assert again.uid == painted.uid
    study.lesions = [Lesion("L1", uid=painted.uid, findings={"a": Finding("accepted", (1.0, 2.0, 2.0), "CD")})]
    put_painting(study, again, {}, "XY")
    assert study.lesions[0].findings["a"].mask is None, "its scan is not open"
    put_painting(study, again, {"a": volume}, "XY")
    found = study.lesions[0].findings["a"]
    np.testing.assert_array_equal(found.mask.to_array(), array)
    assert (found.state, found.decided_by, found.point_lps_mm) == ("accepted", "CD", (1.0, 2.0, 2.0))
    write_painting(tmp_path / "x.json", study, None)
    assert read_painting(tmp_path / "x.json") is None and list(tmp_path.iterdir()) == []
