"""The plugin on the packaged samples: a window where there is a display, pictures of it where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(out: Path) -> list[Path]:
    """Opens napari on the breathing pair; without a display writes pictures into ``out`` and returns their paths.

    Raises UserError when there is neither a display nor xvfb to draw on.
    """
    if has_display():
        show()
        return []
    return write_pictures(Path(out))


def show() -> None:
    """napari with the breathing pair and the three widgets; returns when the window is closed."""
    import napari

    viewer = napari.Viewer()
    viewer.open_sample("napari-tapct", "breathing_pair")
    for name in ("Segment", "Features", "Scans"):
        viewer.window.add_plugin_dock_widget("napari-tapct", name)
    napari.run()


def write_pictures(out: Path) -> list[Path]:
    """Pictures of the widgets at work, drawn on a virtual display in a process of its own."""
    from tapct_core.errors import UserError

    if shutil.which("xvfb-run") is None:
        raise UserError("there is no display and no xvfb-run; install xvfb, or run this where there is a display")
    out.mkdir(parents=True, exist_ok=True)
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"]
    subprocess.run([*screen, sys.executable, "-m", "napari_tapct.pictures", str(out)], check=True)
    return sorted(out.glob("plugin_*.png"))


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


if __name__ == "__main__":
    for path in main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")):
        print(path)
