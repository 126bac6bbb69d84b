"""The whole story with real mouse and keys: mark, find, decide, undo, grow, be killed, resume, export. On both Qts.

Each half runs in a process of its own: the first is killed, and with both bindings installed PySide6 may abort when the
interpreter ends, so that what a process prints is what counts.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tapct_core.io import load_ct
from tapct_core.lesions.carried import Carried
from tapct_core.lesions.grow import grow_mask
from tapct_core.lesions.growing_on import grow_on
from tapct_core.lesions.study_file import load_study, study_json

COMMON = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import napari
import numpy as np
from pathlib import Path
from qtpy import API_NAME
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest

def wait(condition, what):
    # One loop with a slow timer: PySide6 6.12 drops a reference to None at each call, and aborts when none is left.
    loop, timer, tries = QEventLoop(), QTimer(), []
    def look():
        tries.append(1)
        if condition() or len(tries) > 3000:
            loop.quit()
    timer.timeout.connect(look)
    timer.start(50)
    loop.exec()
    assert condition(), what

def pause(seconds):
    loop = QEventLoop()
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()

def click(widget):
    QTest.mouseClick(widget, Qt.LeftButton)

viewer = napari.Viewer()
viewer.window.resize(1590, 960)
_, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
editor, search = widget.editor, widget.search
wait(lambda: widget.linked.shown, "second view")
first = viewer.window._qt_viewer.canvas.native
second = widget.linked.qt_viewer.canvas.native

def pixel(view, canvas, lps_mm):
    camera = view.viewer.scene.camera
    away = (np.array(view.drawn(np.array(lps_mm))) - np.array(camera.center))[1:] * camera.zoom
    return QPoint(round(canvas.width() / 2 + away[1]), round(canvas.height() / 2 + away[0]))

def key(which):
    QTest.keyClick(first, which, Qt.ShiftModifier)
"""

UNTIL_KILLED = (
    COMMON
    + """
study, places = Path(sys.argv[2]), np.array(json.loads(sys.argv[3]))
widget.study_bar.reader.selectAll()
QTest.keyClicks(widget.study_bar.reader, "AB")
assert editor.reader == "AB"
widget.study_bar.open_study(study)
wait(lambda: editor.scan_of("second") is not None and search._job is not None and not search._job.running, "opened")
assert editor.timepoint == "second" and widget.session.active is editor.scan_of("first")

click(widget.find.mark_button)
for place in places:
    widget.linked.first.look(places[0])
    viewer.scene.camera.zoom = 5
    pause(0.1)
    QTest.mouseClick(first, Qt.LeftButton, pos=pixel(widget.linked.first, first, place))
    wait(lambda: search.found is not None, f"found {place}")
click(widget.find.mark_button)
assert [one.name for one in editor.study.lesions] == ["L1", "L2", "L3"]
L1, L2, L3 = (one.uid for one in editor.study.lesions)
finding = lambda uid: editor.study.lesion(uid).findings["second"]
assert [finding(uid).state for uid in (L1, L2, L3)] == ["proposed", "proposed", "disappeared"]
assert not any(finding(uid).decided for uid in (L1, L2, L3))
assert "Not found" in widget.lesion.words.text() and "looked for within" in widget.lesion.words.text()

QTest.mouseClick(first, Qt.LeftButton, pos=pixel(widget.linked.first, first, places[0]))
assert editor.selected == L1, "a click on a mark selects it"
wait(lambda: search.found is not None and search.found.uid == L1, "found again")
heat, drawn = widget.overlay.heat, widget.linked.viewer_model.layers
assert heat is not None and heat.visible
over = list(drawn)[drawn.index(heat) + 1 :]
assert not any(isinstance(one, napari.layers.Image) for one in over), "no scan lies over the heat map"
key(Qt.Key_A)
assert finding(L1).state == "accepted" and finding(L1).decided_by == "AB"

QTest.mouseClick(first, Qt.LeftButton, pos=pixel(widget.linked.first, first, places[1]))
wait(lambda: search.found is not None and search.found.uid == L2, "second lesion")
pause(0.2)
start = pixel(widget.linked.second, second, finding(L2).point_lps_mm)
before = np.array(finding(L2).point_lps_mm)
QTest.mousePress(second, Qt.LeftButton, pos=start)
for step in range(1, 9):
    QTest.mouseMove(second, start + QPoint(step, 0))
    pause(0.01)
QTest.mouseRelease(second, Qt.LeftButton, pos=start + QPoint(8, 0))
assert finding(L2).state == "moved" and finding(L2).decided_by == "AB"
zoom = widget.linked.viewer_model.scene.camera.zoom
moved = np.array(finding(L2).point_lps_mm) - before
assert abs(abs(moved[0]) - 8 / zoom) < 1.5 / zoom and abs(moved[1]) < 1.5 / zoom, (moved, zoom)

QTest.mouseClick(first, Qt.LeftButton, pos=pixel(widget.linked.first, first, places[2]))
wait(lambda: search.found is not None and search.found.uid == L3, "third lesion")
key(Qt.Key_X)
assert finding(L3).state == "not present"
key(Qt.Key_Q)
assert finding(L3).state == "disappeared" and not finding(L3).decided
key(Qt.Key_R)
assert finding(L3).state == "not present"

editor.select(L1)
key(Qt.Key_M)
wait(lambda: finding(L1).measurement is not None, "grown")
assert "mm" in widget.masks.text.text()
wait(lambda: study.read_text().count('"mask"') == 2, "autosave")
print("KILLED", API_NAME, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
)

RESUMED = (
    COMMON
    + """
folder = Path(sys.argv[2])
assert widget.study_bar.unfinished_box.isVisible(), "nothing to resume"
assert "3 lesions" in widget.study_bar.unfinished_box.work.words
opened, exported = [], []
widget.study_bar.opened.connect(lambda: opened.append(1))
widget.study_bar.exported.connect(exported.extend)
click(widget.study_bar.unfinished_box.resume_button)
wait(lambda: opened, "resumed")
assert [scan.name for scan in widget.session.scans] == ["first", "second"]
assert not widget.study_bar.unfinished_box.isVisible()
table = widget.overview.table
assert table.shown() == ["L1", "L2", "L3"]
widget.study_bar.export(folder)
wait(lambda: exported, "exported")
print("WHOLE", API_NAME, json.dumps(sorted(path.name for path in exported)), flush=True)
"""
)


@pytest.mark.parametrize("binding", ["pyqt6", "pyside6"])
def test_the_whole_story(binding, pair, tmp_path):
    if find_spec({"pyqt6": "PyQt6", "pyside6": "PySide6"}[binding]) is None:
        pytest.skip(f"{binding} is not installed")
    study = tmp_path / "patient" / "study.json"
    study.parent.mkdir()
    scans = [{"name": "first", "path": str(pair.before), "date": "2024-01-05"}]
    scans += [{"name": "second", "path": str(pair.after), "date": "2024-03-08"}]
    study.write_text(json.dumps({"patient_key": "p07", "timepoints": scans}))

    killed = _run(binding, tmp_path, UNTIL_KILLED, study, json.dumps(pair.places.tolist()))
    assert "KILLED" in killed.stdout and killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    saved = load_study(study)
    _check_study(saved, pair)

    resumed = _run(binding, tmp_path, RESUMED, tmp_path / "out")
    assert '["lesions.csv", "report.html"]' in resumed.stdout, resumed.stderr[-3000:]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"lesions.csv", "report.html"}
    _check_table(tmp_path / "out" / "lesions.csv", saved, pair)
    assert study_json(load_study(study)) == study_json(saved)  # resuming and exporting changed nothing
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(word in report for word in ("L1", "L2", "L3", "accepted", "not present", "first", "second"))


def _run(binding: str, folder: Path, script: str, *arguments: object) -> subprocess.CompletedProcess:
    root = str(Path(__file__).resolve().parents[3])
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, root, *(str(argument) for argument in arguments)],
        capture_output=True, text=True, timeout=550,
        env=os.environ | {"QT_API": binding, "TAPCT_STATE": str(folder / "state")},
    )  # fmt: skip


def _check_study(saved, pair) -> None:
    """What the person did, and nothing else."""
    states = {
        (lesion.name, name): (finding.state, finding.decided_by)
        for lesion in saved.lesions
        for name, finding in lesion.findings.items()
    }
    assert states == {
        ("L1", "first"): ("accepted", "AB"),
        ("L2", "first"): ("accepted", "AB"),
        ("L3", "first"): ("accepted", "AB"),
        ("L1", "second"): ("accepted", "AB"),
        ("L2", "second"): ("moved", "AB"),
        ("L3", "second"): ("not present", "AB"),
    }
    for lesion, place in zip(saved.lesions, pair.places, strict=True):
        np.testing.assert_allclose(lesion.findings["first"].point_lps_mm, place, atol=1.3)  # one voxel and a pixel
    first = saved.lesions[0].findings
    np.testing.assert_allclose(first["second"].point_lps_mm, pair.places[0] + pair.shift_mm, atol=1.5)
    before, after = load_ct(pair.before), load_ct(pair.after)
    mask = grow_mask(before, first["first"].point_lps_mm)
    np.testing.assert_array_equal(first["first"].mask.to_array(), mask.to_array())
    carried = Carried.to(mask, before, first["first"].point_lps_mm, first["second"].point_lps_mm)
    mask = grow_on(after, first["second"].point_lps_mm, None, carried)
    np.testing.assert_array_equal(first["second"].mask.to_array(), mask.to_array())
    assert first["first"].mask_by == first["second"].mask_by == "grown"


def _check_table(path: Path, saved, pair) -> None:
    """The exported table says what the study says, and measures what the masks measure on the scans."""
    rows = list(csv.DictReader(path.open(encoding="utf-8-sig")))
    assert [(row["lesion"], row["timepoint"]) for row in rows] == [
        (lesion, time) for lesion in ("L1", "L2", "L3") for time in ("first", "second")
    ]
    assert [row["match_status"] for row in rows] == ["accepted"] * 3 + ["moved", "accepted", "not present"]
    assert {row["accepted_by"] for row in rows} == {"AB"} and {row["patient"] for row in rows} == {"p07"}
    assert [row["date"] for row in rows] == ["2024-01-05", "2024-03-08"] * 3
    for row, name, scan in ((rows[0], "first", pair.before), (rows[1], "second", pair.after)):
        found = saved.lesions[0].findings[name].mask.measure(load_ct(scan))
        assert row["long_axis_mm"] == f"{found.long_axis_mm:.3f}" and row["volume_ml"] == f"{found.volume_ml:.4f}"
    assert rows[5]["x_mm"] == "" and all(row["long_axis_mm"] == "" for row in rows[2:])
