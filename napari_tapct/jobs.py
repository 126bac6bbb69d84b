"""The one way to run long work: off the interface thread, with progress, time left and cancel.

A job's function gets the Job and may call ``report`` (progress), ``send`` (a part of the result) and ask
``cancelled``; it never touches Qt or a layer. What it sends and returns arrives on the interface thread. A
job whose owner is gone (a widget closed, a layer deleted, a viewer closed) is dropped: it is told to stop,
and whatever it still says reaches nobody.

Plain threads, not napari's ``thread_worker``: Qt's pool runs one job a core, so that a stroke on two cores would wait
for an embedding to end.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QObject, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from tapct_core.errors import UserError

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""How long closing waits for all jobs to notice that they are to stop; then the process ends without them."""
REMEDY = "if it happens again, please report it with the lines that napari's log holds"
_running: set[Job] = set()


class Job(QObject):
    """One piece of long work. ``done``, ``failed``, ``part`` and ``ended`` are called on the interface thread.

    ``ended`` comes last and in every case but for a dropped job. An error without ``failed`` is shown as one
    sentence; its traceback goes to the log.
    """

    changed = Signal()
    """Progress was made, or the job has ended: for those who show it."""
    _reported = Signal(int, int)
    _sent = Signal(object)
    _finished = Signal()

    def __init__(
        self,
        title: str,
        function: Callable[[Job], Any],
        *,
        owner: QObject | None = None,
        done: Callable[[Any], None] | None = None,
        part: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.title = title
        self.steps, self.total = 0, 0
        self.running = True
        self.error: Exception | None = None
        self._function: Callable[[Job], Any] | None = function
        self._callbacks = {"done": done, "part": part, "failed": failed, "ended": ended}
        self._cancel = False
        self._began = time.monotonic()
        self._reported.connect(self._on_reported, Qt.QueuedConnection)
        self._sent.connect(self._on_sent, Qt.QueuedConnection)
        if owner is not None:
            owner.destroyed.connect(self.drop)
        self._finished.connect(self._on_finished, Qt.QueuedConnection)
        self._outcome: tuple[Any, Exception | None] = (None, None)
        self._thread = threading.Thread(target=self._work, name=title, daemon=True)

    def start(self) -> Job:
        """Starts it; returns itself."""
        _stop_on_quit()
        _running.add(self)
        self._thread.start()
        return self

    # Called by the work, on its own thread.

    def report(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps are done."""
        self._tell("_reported", int(done), int(total))

    def send(self, part: Any) -> None:
        """Hands a part of the result over before the end."""
        self._tell("_sent", part)

    def cancelled(self) -> bool:
        """Whether to stop: somebody cancelled or dropped the job, or napari is closing."""
        return self._cancel

    # Called on the interface thread.

    def cancel(self) -> None:
        """Asks the work to stop; ``ended`` follows when it has."""
        self._cancel = True

    def drop(self, *_: object) -> None:
        """Asks the work to stop and lets nothing of it arrive."""
        self._cancel = True
        self._callbacks = dict.fromkeys(self._callbacks)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the steps so far; None while there is nothing to estimate from."""
        if not self.steps or self.steps >= self.total:
            return None
        return (time.monotonic() - self._began) / self.steps * (self.total - self.steps)

    def _work(self) -> None:
        try:
            self._outcome = self._function(self), None
        except Exception as error:  # every one of them is answered on the interface thread
            self._outcome = None, error
        self._tell("_finished")

    def _tell(self, signal: str, *arguments: Any) -> None:
        """Emits to the interface thread, which may have ended meanwhile, and taken Qt's half of the job with it.

        The signal goes by its name, for without Qt's half there is not even the signal.
        """
        try:
            getattr(self, signal).emit(*arguments)
        except RuntimeError:
            if isalive(self):
                raise

    def _on_reported(self, done: int, total: int) -> None:
        if not self.steps:  # what was there at the start (a resumed run) took no time of ours
            self._began = time.monotonic()
        self.steps, self.total = done, total
        self.changed.emit()

    def _on_sent(self, part: Any) -> None:
        self._call("part", part)

    def _on_finished(self) -> None:
        self._thread.join()  # it has nothing left to do; so it cannot be the last to hold this QObject
        _running.discard(self)
        self.running = False
        value, self.error = self._outcome
        stopped = self._cancel
        self._function, self._outcome = None, (None, None)
        if not stopped:
            if self.error is None:
                self._call("done", value)
            else:
                self._fail(self.error)
        self._call("ended")
        self.changed.emit()
        self._callbacks = dict.fromkeys(self._callbacks)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, UserError):
            log.error("%s failed", self.title, exc_info=error)
        if self._callbacks["failed"] is not None:
            self._call("failed", error)
        else:
            show_error(sentence(self.title, error))

    def _call(self, name: str, *arguments: Any) -> None:
        if self._callbacks[name] is not None:
            self._callbacks[name](*arguments)


@cache
def _stop_on_quit() -> None:
    QCoreApplication.instance().aboutToQuit.connect(stop_all)
    atexit.register(_end_without_stragglers)


def stop_all() -> None:
    """Stops all jobs and waits a moment for them. Nothing that a job writes is ever half there."""
    end = time.monotonic() + PATIENCE_S
    for job in list(_running):
        job.drop()
    for job in list(_running):
        job._thread.join(max(0.0, end - time.monotonic()))
    _stragglers.extend(job._thread for job in _running if job._thread.is_alive())


_stragglers: list[threading.Thread] = []
"""Threads that were still computing when the window had closed."""


def _end_without_stragglers() -> None:
    """Ends the process here and now if a thread still computes: one that outlives the interpreter aborts it.

    Runs at the interpreter's end, after nearly all else that does, since it is registered early.
    """
    if any(thread.is_alive() for thread in _stragglers):
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(0)


def sentence(title: str, error: Exception) -> str:
    """An error as one line with its remedy."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{title}: there is not enough memory; close other scans or programs, or choose a coarser spacing"
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return f"{title} did not work ({first}); {REMEDY}"


class JobBar(QWidget):
    """Title, progress, time left and a cancel button of one job at a time; hidden when nothing runs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.bar = QProgressBar()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.clicked.connect(self._on_cancel)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 4)
        column.addWidget(self.text)
        column.addLayout(row)
        self.hide()

    def watch(self, job: Job) -> None:
        """Shows ``job`` until it ends."""
        self._job = job
        job.changed.connect(self._refresh)
        self.cancel_button.setEnabled(True)
        self._refresh()

    def _on_cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self.cancel_button.setEnabled(False)
            self.text.setText(f"{self._job.title}: stopping …")

    def _refresh(self) -> None:
        job = self._job
        if job is None or not job.running:
            self._job = None
            self.hide()
            return
        # Never 0 to 0: a bar that sways has Qt put the whole window together at every step, which without a GPU takes
        # from the work its processor.
        self.bar.setRange(0, max(1, job.total))
        self.bar.setValue(job.steps)
        if self.cancel_button.isEnabled():
            left = job.seconds_left
            self.text.setText(job.title if left is None else f"{job.title}: {in_words(left)} left")
        self.show()


def in_words(seconds: float) -> str:
    """A duration to read in passing."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
