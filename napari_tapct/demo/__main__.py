"""The plugin on the packaged samples: a window where there is a display, pictures of it where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

from . import follow_up
from .offscreen import draw, has_display


def main(out: Path) -> list[Path]:
    """The follow-up of lesions, then the other widgets on the breathing pair: windows one after the other.

    Without a display pictures of both are written into ``out`` and their paths returned. Raises UserError when there
    is neither a display nor xvfb to draw on.
    """
    followed = follow_up.main(out)
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
    """Pictures of the widgets at work; see :func:`~napari_tapct.demo.offscreen.draw`."""
    return draw("napari_tapct.demo.widgets", out, "plugin_*.png")


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
