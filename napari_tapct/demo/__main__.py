"""The plugin on the packaged samples: a window where there is a display, pictures of it where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def main(out: Path) -> list[Path]:
    """The follow-up of lesions, then the other widgets on the breathing pair: windows one after the other.

    Without a display pictures of both are written into ``out`` and their paths returned. Raises UserError when there
    is neither a display nor xvfb to draw on.
    """
    from . import follow_up as story

    followed = story.main(out)
    if has_display():
        show()
        return []
    return [*followed, *write_pictures(Path(out))]


def show() -> None:
    """napari with the breathing pair and the three widgets; returns when the window is closed."""
    import napari

    viewer = napari.Viewer()
    viewer.open_sample("napari-tapct", "breathing_pair")
    for name in ("Segment", "Features", "Scans"):
        viewer.window.add_plugin_dock_widget("napari-tapct", name)
    napari.run()


def write_pictures(out: Path) -> list[Path]:
    """Pictures of the widgets at work; see :func:`draw`."""
    return draw("napari_tapct.demo.widgets", out, "plugin_*.png")


def draw(module: str, out: Path, pattern: str) -> list[Path]:
    """``python -m MODULE OUT`` on a virtual display in a process of its own -> the pictures that it wrote.

    Raises UserError where there is no virtual display to draw on.
    """
    from tapct_core.errors import UserError

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


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def run(arguments: list[str]) -> int:
    """``python -m napari_tapct.demo [FOLDER]``; exit code 2 with one line where it cannot work."""
    from tapct_core.errors import UserError

    out = Path(arguments[0] if arguments else "demo-output")
    if has_display():
        print("napari opens on a made-up follow-up; close its window, and it opens on the other sample.", flush=True)
    else:
        print("There is no display, so pictures of the plugin at work are written; that takes minutes.", flush=True)
    try:
        for path in main(out):
            print(f"  {path}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
