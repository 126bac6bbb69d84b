"""Work that has not noticed that the window was closed keeps neither the window nor the process, and aborts none."""

from __future__ import annotations

import subprocess
import sys

import pytest
from qtpy.QtCore import QCoreApplication, QEvent

from napari_tapct.jobs import Job

CLOSES = """
import sys, time
import napari
from qtpy.QtCore import QTimer
from napari_tapct.jobs import Job

def work(job):
    print("STARTED", flush=True)
    if sys.argv[1] == "deaf":  # as one long call of a library is
        import torch
        a = torch.rand(1500, 1500)
        while True:
            a = (a @ a).clamp(0, 1)
    while not job.cancelled():
        time.sleep(0.01)
    print("NOTICED", flush=True)

viewer = napari.Viewer()
Job("work", work).start()
QTimer.singleShot(500, viewer.window._qt_window.close)
napari.run()
print("CLOSED", flush=True)
"""


@pytest.mark.parametrize(("kind", "says"), [("deaf", "STARTED CLOSED"), ("polite", "STARTED NOTICED CLOSED")])
def test_closing_ends_the_process_whether_work_notices_or_not(kind, says):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLOSES, kind], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0 and run.stdout.split() == says.split(), run.stderr[-2000:]
    assert "terminate" not in run.stderr and "Fatal" not in run.stderr


def test_a_job_whose_qt_object_is_gone_ends_without_a_word(qapp):
    """Whatever it still says, a step, a part, the end; work that fails is as quiet."""

    def work(job):
        job.report(1, 2)
        job.send("a part")
        reached.append(job.title)
        if job.title == "fails":
            raise ValueError("nobody hears this")

    reached = []
    for title in ("works", "fails"):
        job = Job(title, work)
        job.deleteLater()
        QCoreApplication.sendPostedEvents(job, QEvent.DeferredDelete)
        with pytest.raises(RuntimeError):
            job.objectName()  # Qt's half is gone
        job._work()  # what its thread runs
    assert reached == ["works", "fails"]
