"""The widgets on PySide6: open, paint with the mouse, segment. In a process of its own, judged by what it prints.

With both bindings installed PySide6 may abort when the interpreter exits, so that the exit status says nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

ON_PYSIDE = """
import sys
sys.path.insert(0, sys.argv[2])
import napari
from qtpy import API_NAME
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtTest import QTest
from pathlib import Path
from tests.napari_tapct.conftest import canvas_of, centre_on, drag, place_on_canvas

def wait(condition, what):
    # One loop with a slow timer: PySide6 6.12 drops a reference to None at each call, and aborts when none is left.
    loop, timer, tries = QEventLoop(), QTimer(), []
    def look():
        tries.append(1)
        if condition() or len(tries) > 1500:
            loop.quit()
    timer.timeout.connect(look)
    timer.start(100)
    loop.exec()
    assert condition(), what

viewer = napari.Viewer()
widgets = {n: viewer.window.add_plugin_dock_widget("napari-tapct", n)[1] for n in ("Scans", "Features", "Segment")}
opened = []
widgets["Scans"].opened.connect(opened.extend)
widgets["Scans"].open_files([Path(sys.argv[1])])
wait(lambda: opened, "open")
session = widgets["Scans"].session
box = widgets["Features"].encoder
box.setCurrentIndex(next(i for i in range(box.count()) if box.itemData(i).name == "untrained-xs-3d"))
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
values = set(session.active.parts["result"].data.ravel().tolist())
assert values == {0, 2}, values
print("RESULT", API_NAME, "whole", flush=True)
"""


@pytest.mark.skipif(find_spec("PySide6") is None, reason="PySide6 is not installed")
def test_open_embed_paint_segment(ct_files):
    from pathlib import Path

    root = str(Path(__file__).resolve().parents[2])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_PYSIDE, str(ct_files["straight.nii.gz"]), root],
        capture_output=True, text=True, timeout=400, env=os.environ | {"QT_API": "pyside6"},
    )  # fmt: skip
    assert "RESULT PySide6 whole" in run.stdout, run.stderr[-3000:]
