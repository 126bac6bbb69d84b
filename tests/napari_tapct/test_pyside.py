"""The widgets on PySide6: open, embed, paint, undo, save, load, export, drop, cancel, delete, close.

In a process of its own, judged by what it prints: with both bindings installed PySide6 may abort when the interpreter
exits, so that the exit status says nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ON_PYSIDE = """
import sys
from pathlib import Path
scan, other, out, root = map(Path, sys.argv[1:5])
sys.path.insert(0, str(root))
import napari
import numpy as np
from qtpy import API_NAME
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtTest import QTest
from napari_tapct.scans.opening import opener_of
from tapct_core.io import load_ct, load_labels
from tests.napari_tapct.conftest import canvas_of, centre_on, drag, place_on_canvas

def done(what):
    print("DONE", what, flush=True)

def wait(condition, what):
    # One loop with a slow timer: PySide6 6.12 drops a reference to None at each call, and aborts when none is left.
    loop, timer, tries = QEventLoop(), QTimer(), []
    def look():
        tries.append(1)
        if condition() or len(tries) > 2500:
            loop.quit()
    timer.timeout.connect(look)
    timer.start(100)
    loop.exec()
    assert condition(), what
    done(what)

viewer = napari.Viewer()
widgets = {n: viewer.window.add_plugin_dock_widget("napari-tapct", n)[1] for n in ("Scans", "Features", "Segment")}
opened = []
widgets["Scans"].opened.connect(opened.extend)
widgets["Scans"].open_files([scan])
wait(lambda: opened, "open")
session = widgets["Scans"].session
widgets["Features"].form.choose("untrained-xs-3d")
widgets["Features"].embed(session.active)
wait(lambda: session.active.features is not None, "embed")
segment = widgets["Segment"]
z, y, x = centre_on(viewer, session.active)
for value, row in ((1, y - 6), (2, y + 6)):
    segment.classes.select(value)
    QTest.mouseClick(segment.paint_button, Qt.LeftButton)
    where = [place_on_canvas(viewer, session.active, (z, row, x + off)) for off in (-8, 8)]
    drag(canvas_of(viewer), *where)
wait(lambda: "Up to date" in segment.state.text(), "segment")
result = session.active.parts["result"].data.copy()
assert set(np.unique(result)) == {0, 2}

strokes = session.active.parts["strokes"].data
painted = strokes.copy()
QTest.keyClick(canvas_of(viewer), Qt.Key_Z, Qt.ShiftModifier)
assert set(np.unique(strokes)) == {0, 1}
QTest.keyClick(canvas_of(viewer), Qt.Key_Y, Qt.ShiftModifier)
assert (strokes == painted).all()
wait(lambda: "Up to date" in segment.state.text(), "undo and redo")

saved = []
segment.keep.saved.connect(saved.append)
segment.keep.save_probe(out / "probe.safetensors")
wait(lambda: len(saved) == 1, "save the probe")
segment.keep.export(out / "out.nii.gz")
wait(lambda: len(saved) == 2, "export")
exported = load_labels(out / "out.nii.gz")
assert (exported.labels == session.active.parts["result"].data).all()
assert exported.geometry.matches(load_ct(scan).geometry)
viewer.layers.remove(session.active.parts["strokes"])
viewer.layers.remove(session.active.parts["result"])
segment.keep.load_probe(out / "probe.safetensors")
wait(lambda: "Up to date" in segment.state.text(), "load the probe")
assert (session.active.parts["result"].data == exported.labels).all()

viewer.window._qt_viewer._qt_open([str(other)], stack=False, plugin="napari-tapct")
assert len(session.scans) == 1
wait(lambda: len(session.scans) == 2, "drop")

viewer.open_sample("napari-tapct", "abdomen_pelvis")
features = widgets["Features"]
session.show(session.scans[-1])
job = features.embed(session.active)
wait(lambda: job.steps > 0, "embedding runs")
QTest.mouseClick(features.bar.cancel_button, Qt.LeftButton)
wait(lambda: not job.running, "cancel")
assert session.active.features is None

features.embed(session.active)
parts = list(session.scans[0].parts.values())
assert parts
viewer.layers.remove(session.active.layer)
viewer.layers.remove(session.scans[0].layer)
wait(lambda: not features.job.running and not any(part in viewer.layers for part in parts), "delete")
viewer.close()
done("close")
print("RESULT", API_NAME, "whole", flush=True)
"""


@pytest.mark.skipif(find_spec("PySide6") is None, reason="PySide6 is not installed")
def test_open_paint_save_load_drop_cancel_close(ct_files, tmp_path):
    root = str(Path(__file__).resolve().parents[2])
    files = [str(ct_files[name]) for name in ("straight.nii.gz", "oblique.mha")]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_PYSIDE, *files, str(tmp_path), root],
        capture_output=True, text=True, timeout=550, env=os.environ | {"QT_API": "pyside6"},
    )  # fmt: skip
    assert "RESULT PySide6 whole" in run.stdout, run.stdout + run.stderr[-3000:]
