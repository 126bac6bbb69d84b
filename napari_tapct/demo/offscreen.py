"""What the demo's pictures need: a virtual display, widgets docked in a window, and waiting until they are drawn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tapct_core.errors import UserError

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtWidgets import QWidget

PATIENCE_S = 900.0


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def draw(module: str, out: Path, pattern: str) -> list[Path]:
    """``python -m MODULE OUT`` on a virtual display in a process of its own -> the pictures that it wrote.

    Raises UserError where there is no virtual display to draw on.
    """
    if shutil.which("xvfb-run") is None:
        raise UserError("there is no display and no xvfb-run; install xvfb, or run this where there is a display")
    out.mkdir(parents=True, exist_ok=True)
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"]
    subprocess.run([*screen, sys.executable, "-m", module, str(out)], check=True)
    return sorted(out.glob(pattern))


@contextmanager
def own_state() -> Iterator[None]:
    """Autosaves go into a folder that goes: a person's own work is in no picture, a picture's not among theirs."""
    before = os.environ.get("TAPCT_STATE")
    with tempfile.TemporaryDirectory() as state:
        os.environ["TAPCT_STATE"] = state
        try:
            yield
        finally:
            del os.environ["TAPCT_STATE"]
            if before is not None:
                os.environ["TAPCT_STATE"] = before


def dock(viewer: Viewer, name: str) -> QWidget:
    """Opens one of the plugin's widgets."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", name)
    return widget


def wait(condition: Callable[[], bool]) -> None:
    """Handles events until ``condition`` holds. Raises TimeoutError."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the plugin did not get ready for its picture")
        settle(0.05)


def settle(seconds: float) -> None:
    """Handles events for a while, so that what was asked for is drawn."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)
