"""A whole follow-up as a reader works through it: 20 lesions in 4 scans, from opening to the exported table.

    python -m benchmarks.follow_up                                 measures and prints the table (some minutes)
    python -m benchmarks.follow_up --out docs/results/follow_up.md

A process of its own opens the study, marks every lesion by a click in the baseline, finds and measures all, verifies
each by keys, undoes ten decisions, and exports. It counts clicks and keys, the processor time of the process, and the
longest stretch for which the interface thread worked without a look at what the person does: its own processor time
between two ticks of a timer, so that another program on the machine makes nothing worse. The patient is the packaged
chest with made-up lesions, scanned again three times: moved on the table, with other noise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.plugin import settle, wait

LESIONS, SCANS = 20, 4
STEPS = ("open", "mark", "find all", "verify", "undo", "export")
LIMIT_S = 0.1
"""What a stretch may be: below it a window feels as if it answered at once (Nielsen, Usability Engineering, 1993)."""
UNDONE = 10


class Watch:
    """The longest stretch of processor time of the thread that makes it, by what is being done."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.longest: dict[str, float] = {}
        self.doing = ""
        self._last = time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(2)

    def _tick(self) -> None:
        now = time.thread_time()
        if self.doing:
            self.longest[self.doing] = max(self.longest.get(self.doing, 0.0), now - self._last)
        self._last = time.thread_time()


def main() -> None:
    """Makes the patient, measures one turn, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn is not None:
        print("RESULT", json.dumps(turn(args.turn)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        report(measured(Path(folder)), args.out)


def prepare(folder: Path) -> None:
    """The study's file, its scans, and where the lesions are in the first (LPS mm)."""
    from dataclasses import replace

    from tapct_core.geometry import Geometry
    from tapct_core.io.nifti import write_scan
    from tapct_core.samples import load_sample
    from tapct_core.synthetic import STANDARD, make_follow_up

    made = make_follow_up(load_sample("breathing_pair")["baseline"], STANDARD, 0, LESIONS * 2)
    shown = [one for one in made.lesions if one.baseline_radius_mm][:LESIONS]
    rng = np.random.default_rng(0)
    timepoints = []
    for number in range(SCANS):
        affine = made.baseline.geometry.affine.copy()
        affine[:3, 3] += number * np.array((4.0, -3.0, 6.0))
        hu = made.baseline.hu + rng.normal(0, 12, made.baseline.hu.shape)
        scan = replace(made.baseline, hu=hu.astype(np.int16), geometry=Geometry(hu.shape, affine))
        write_scan(scan, folder / f"scan{number}.nii.gz")
        timepoints.append({"name": f"scan {number}", "path": f"scan{number}.nii.gz", "date": f"2025-0{number + 1}-01"})
    (folder / "study.json").write_text(json.dumps({"patient_key": "p1", "timepoints": timepoints}))
    (folder / "places.json").write_text(json.dumps([one.baseline_lps_mm for one in shown]))


def measured(folder: Path) -> dict:
    """One turn in a process of its own, on a virtual display where there is no other."""
    from napari_tapct.demo.offscreen import has_display

    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.follow_up", "--turn", str(folder)]
    if not has_display():
        if shutil.which("xvfb-run") is None:
            raise SystemExit("there is no display and no xvfb-run; install xvfb")
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", *command]
    run = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"TAPCT_STATE": str(folder / "state")}
    )
    said = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    if not said:
        raise SystemExit(f"the turn did not end:\n{run.stderr[-3000:]}")
    return json.loads(said[0].removeprefix("RESULT"))


def turn(folder: Path) -> dict:
    """Clicks, keys, processor seconds and longest stretches of each step."""
    import napari
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    viewer = napari.Viewer()
    viewer.window.resize(1590, 960)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    editor, search = widget.editor, widget.search
    wait(lambda: widget.linked.shown)
    canvas = viewer.window._qt_viewer.canvas.native
    places = json.loads((folder / "places.json").read_text())
    watch, rows, doing = Watch(), {}, {}

    def key(which, held=Qt.ShiftModifier) -> None:
        QTest.keyClick(canvas, which, held)
        doing["keys"] += 1
        settle(0.01)

    def begin(step: str) -> None:
        settle(0.2)
        watch.doing = step
        doing.update(step=step, clicks=0, keys=0, began=time.process_time())

    def end() -> None:
        settle(0.2)
        step = doing["step"]
        rows[step] = {
            "clicks": doing["clicks"],
            "keys": doing["keys"],
            "processor_s": time.process_time() - doing["began"],
            "longest_s": watch.longest.get(step, 0.0),
        }
        watch.doing = ""

    begin("open")
    widget.study_bar.open_study(folder / "study.json")
    doing["clicks"] += 2  # Open …, the file
    wait(lambda: sum(editor.scan_of(t.name) is not None for t in editor.study.timepoints) == SCANS and search.is_ready)
    end()

    begin("mark")
    QTest.mouseClick(widget.find.mark_button, Qt.LeftButton)
    doing["clicks"] += 1
    for place in places:
        view = widget.linked.first
        view.look(place)
        settle(0.02)
        camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
        away = (np.array(view.drawn(np.array(place))) - np.array(camera.center))[1:] * camera.zoom
        at = QPoint(round(canvas.width() / 2 + away[1]), round(canvas.height() / 2 + away[0]))
        QTest.mouseClick(canvas, Qt.LeftButton, pos=at)
        doing["clicks"] += 1
        wait(lambda: search.is_ready)
    QTest.mouseClick(widget.find.mark_button, Qt.LeftButton)
    doing["clicks"] += 1
    end()

    begin("find all")
    key(Qt.Key_K)
    wait(lambda: not search.running)
    end()

    begin("verify")
    for _ in range(4 * LESIONS * SCANS):
        if widget.decide.queue.text().startswith("Nothing"):
            break
        key(Qt.Key_J)
        wait(lambda: search.is_ready)
        finding = editor.finding()
        if finding is not None and finding.decided:  # what is left are axes in doubt; a reader who agrees confirms them
            key(Qt.Key_M, Qt.ControlModifier | Qt.ShiftModifier)
        else:
            key(Qt.Key_A if widget.decide.accept_button.isEnabled() else Qt.Key_X)
    end()

    begin("undo")
    for _ in range(UNDONE):
        key(Qt.Key_Q)
    for _ in range(UNDONE):
        key(Qt.Key_R)
    end()

    begin("export")
    exported: list = []
    widget.study_bar.exported.connect(exported.extend)
    widget.study_bar.export(folder / "out")
    doing["clicks"] += 3  # Export …, the folder, with or without the patient
    wait(lambda: bool(exported))
    end()
    decided = sum(one.decided for lesion in editor.study.lesions for one in lesion.findings.values())
    viewer.close()
    return {"rows": rows, "lesions": len(editor.study.lesions), "decided": decided}


def report(found: dict, out: Path | None) -> None:
    """Prints the table and writes it to ``out``."""
    from benchmarks.common import markdown_table, write_page

    rows = [
        [step, one["clicks"], one["keys"], f"{one['processor_s']:.1f}", f"{1000 * one['longest_s']:.0f}"]
        for step, one in found["rows"].items()
    ]
    total = [sum(one[key] for one in found["rows"].values()) for key in ("clicks", "keys", "processor_s")]
    worst = max(one["longest_s"] for one in found["rows"].values())
    rows.append(["all", *total[:2], f"{total[2]:.1f}", f"{1000 * worst:.0f}"])
    table = markdown_table(["step", "clicks", "keys", "processor s", "longest stretch ms"], rows)
    words = (
        f"{found['lesions']} lesions, {SCANS} scans, {found['decided']} findings decided. A stretch is the interface "
        f"thread's own processor time between two looks at what the person does; {1000 * LIMIT_S:.0f} ms is the aim."
    )
    print(words, table, sep="\n\n")
    if out is not None:
        title = f"{LESIONS} lesions in {SCANS} scans, from opening to the exported table"
        write_page(out, title, f"python -m benchmarks.follow_up --out {out}", [words, table])


if __name__ == "__main__":
    main()
