"""What a reader does first, by real events: drop, mark, find all, one refused, verify by keys alone, close early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tapct_core.io import load_ct

from .test_story import COMMON

FIRST_HOUR = (
    COMMON
    + """
from napari.settings import get_settings
from qtpy.QtCore import QMimeData, QPointF, QUrl
from qtpy.QtGui import QDropEvent
get_settings().plugins.extension2reader = {"*.nii.gz": "napari-tapct"}
editor, session = widget.editor, widget.session
baseline, follow_up, places = sys.argv[2], sys.argv[3], np.array(json.loads(sys.argv[4]))

# The ordinary order: the baseline is dropped, then the follow-up is taken from the File menu.
mime = QMimeData()
mime.setUrls([QUrl.fromLocalFile(baseline)])
viewer.window._qt_viewer.dropEvent(QDropEvent(QPointF(50, 50), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier))
wait(lambda: len(session.scans) == 1, "dropped")
viewer.window._qt_viewer._qt_open([follow_up], stack=False, plugin="napari-tapct")
wait(lambda: len(session.scans) == 2, "from the menu")
pause(0.2)
names = [timepoint.name for timepoint in editor.study.timepoints]
assert names == ["baseline", "followup"], names
assert editor.timepoint_of(session.active) == "baseline" and editor.timepoint_of(widget.linked.scan) == "followup"
wait(lambda: search.is_ready, "ready")

# Three lesions and a mark in the air beside the patient, all in the baseline.
click(widget.find.mark_button)
for place in places:
    widget.linked.first.look(place)
    viewer.scene.camera.zoom = 4
    pause(0.1)
    QTest.mouseClick(first, Qt.LeftButton, pos=pixel(widget.linked.first, first, place))
    wait(lambda: search.is_ready, f"looked for {place}")
click(widget.find.mark_button)
lesions = [one.name for one in editor.study.lesions]
assert lesions == ["L1", "L2", "L3", "L4"], lesions
assert all("baseline" in one.findings and one.findings["baseline"].state == "accepted" for one in editor.study.lesions)

key(Qt.Key_K)
wait(lambda: not search.running, "all")
said = widget.find.state.text()
refused = editor.study.lesions[3].findings["followup"]
assert refused.verdict == "refused" and refused.reason and not refused.present
states = [one.findings["followup"].state for one in editor.study.lesions[:3]]
assert states == ["proposed", "proposed", "disappeared"], states
print("SAID", json.dumps(said.splitlines()[0]), flush=True)

# Verified by keys alone; the one that is refused is said not to be there.
for _ in range(20):
    left = widget.decide.queue.text()
    if left.startswith("Nothing"):
        break
    key(Qt.Key_J)
    wait(lambda: search.is_ready, "looked")
    key(Qt.Key_A if widget.decide.accept_button.isEnabled() else Qt.Key_X)
    pause(0.1)
done = {lesion.name: lesion.findings["followup"].state for lesion in editor.study.lesions}
print("DONE", json.dumps(done), flush=True)

# A search goes on while the window is closed.
search.evidence._plain.clear()
editor.do("again", lambda study: [one.findings.pop("followup") for one in study.lesions])
key(Qt.Key_K)
wait(lambda: search.running, "running")
QTimer.singleShot(0, viewer.window._qt_window.close)
napari.run()
print("CLOSED", flush=True)
"""
)


def test_the_first_hour(pair, tmp_path):
    volume = load_ct(pair.before)
    air = volume.geometry.to_world([20, 1, 1])
    assert volume.hu[18:23, :4, :4].max() < -900
    places = [*pair.places.tolist(), list(air)]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST_HOUR, str(Path(__file__).resolve().parents[3]),
         str(pair.before), str(pair.after), json.dumps(places)],
        capture_output=True, text=True, timeout=550,
        env=os.environ | {"QT_API": "pyqt6", "TAPCT_STATE": str(tmp_path / "state")},
    )  # fmt: skip
    lines = dict(line.partition(" ")[::2] for line in run.stdout.splitlines())
    assert "CLOSED" in lines and run.returncode == 0, run.stderr[-3000:]
    said = json.loads(lines["SAID"])
    assert "2 found, 1 not found, 0 out of view, 1 refused" in said and "4 to verify" in said, said
    assert json.loads(lines["DONE"]) == {"L1": "accepted", "L2": "accepted", "L3": "not present", "L4": "not present"}
    assert "terminate called" not in run.stderr
