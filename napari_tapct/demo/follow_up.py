"""The follow-up widget at work on a packaged CT, as the documentation and the demo show it.

    python -m napari_tapct.demo.follow_up FOLDER        writes follow_up_find.png, follow_up_not_found.png ...

The follow-up is made from the CT with known truth (``tapct_core.synthetic``): lesions that grew, stayed or went.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .offscreen import dock, draw, has_display, own_state, settle, wait

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from ..follow_up.proposals.finder import Point
    from ..follow_up.widget import FollowUpWidget

SIZE = (1590, 960)
DATES = {"baseline": "2024-03-11", "week 8": "2024-05-06"}
"""Made up: the two scans lie no time apart."""
READER = "reader 1"
MARKED = {
    "lesion 7": ("right lung, basal", "target", "lung"),
    "lesion 2": ("right lung, middle", "target", "lung"),
    "lesion 8": ("right lung, lateral", "non-target", "lung"),
    "lesion 12": ("right lower lobe", "non-target", "lung"),
    "lesion 9": ("left costal margin", "", "chest wall"),
}
"""Lesions of the made-up pair, by its own names: the name, role and organ that a reader gives them."""
STABLE, GROWN, GONE, OUTSIDE = "right lung, middle", "right lung, basal", "right lower lobe", "left costal margin"


def main(out: Path) -> list[Path]:
    """Opens the story in napari; without a display writes its pictures into ``out`` and returns their paths.

    Raises UserError when there is neither a display nor xvfb to draw on.
    """
    if has_display():
        show()
        return []
    return write_pictures(Path(out))


def show() -> None:
    """napari with the widget and everything found and decided but for the last lesion; ends with its window."""
    import napari

    viewer = napari.Viewer()
    widget, places = begin(viewer)
    mark_all(widget, places)
    decide(widget)
    napari.run()


def write_pictures(out: Path) -> list[Path]:
    """The pictures; see :func:`napari_tapct.demo.offscreen.draw`."""
    return draw("napari_tapct.demo.follow_up", out, "follow_up_*.png")


def write(out: Path) -> list[Path]:
    """Plays the story in a window and takes its pictures on the way; returns their paths.

    The study is kept in a folder of its own, so that nothing of it is offered to a person as unfinished.
    """
    import napari

    out.mkdir(parents=True, exist_ok=True)
    with own_state():
        viewer = napari.Viewer()
        try:
            paths = list(_play(viewer, out))
        finally:
            viewer.close()
    return paths


def _play(viewer: Viewer, out: Path) -> list[Path]:
    widget, places = begin(viewer)
    mark_all(widget, places)
    scenes: dict[str, Callable[[FollowUpWidget], None]] = {
        "find": find, "not_found": not_found, "out_of_view": out_of_view, "review": review,
    }  # fmt: skip
    paths = []
    for name, scene in scenes.items():
        scene(widget)
        paths.append(picture(viewer, out / f"follow_up_{name}.png"))
    return paths


def begin(viewer: Viewer) -> tuple[FollowUpWidget, dict[str, Point]]:
    """The two scans in the lung window, the widget docked and ready; and the lesions' places, LPS mm."""
    from napari.layers import Layer

    from .._samples import make_synthetic
    from ..scans.window import set_window

    viewer.window.resize(*SIZE)
    settle(0.3)
    for title in ("layer controls", "layer list"):  # room for the two views
        _hide_dock(viewer, title)
    layers = {data[1]["name"]: data for data in make_synthetic()}
    for name, own in (("baseline", "synthetic baseline"), ("week 8", "synthetic follow-up")):
        data, attributes, kind = layers[own]
        viewer.add_layer(Layer.create(data, {**attributes, "name": name, "visible": name == "baseline"}, kind))
    widget = dock(viewer, "Follow-up")
    for name, date in DATES.items():
        widget.session.set_date(widget.editor.scan_of(name), date)
    widget.editor.reader = READER
    set_window(widget.session, 1500, -600)
    wait(lambda: widget.linked.shown and widget.search.is_ready)
    settle(0.5)
    index, attributes, _ = layers["lesions with known follow-up"]
    points = widget.editor.scan_of("baseline").volume.geometry.to_world(np.asarray(index))
    return widget, dict(zip(attributes["features"]["name"], map(tuple, points.tolist()), strict=True))


def mark_all(widget: FollowUpWidget, places: dict[str, Point]) -> None:
    """A reader marks the lesions of the baseline; each is looked for at once."""
    from ..follow_up.study import decisions
    from ..follow_up.study.lesion_edits import rename, set_organ, set_role

    for own, (name, role, organ) in MARKED.items():
        lesion = decisions.mark(widget.editor, "baseline", places[own])
        for change, value in ((rename, name), (set_role, role), (set_organ, organ)):
            change(widget.editor, widget.editor.study.lesion(lesion.uid), value)
        wait(lambda: widget.search.found is not None)


def find(widget: FollowUpWidget) -> None:
    """A lesion that was found, with its candidates and the heat map."""
    _look_at(widget, STABLE, zoom=3.2)


def not_found(widget: FollowUpWidget) -> None:
    """A lesion that has gone: said, with what was searched."""
    _look_at(widget, GONE, zoom=3.2)


def out_of_view(widget: FollowUpWidget) -> None:
    """A lesion that the follow-up does not show: said, and nothing is proposed."""
    _look_at(widget, OUTSIDE, zoom=3.2)


def review(widget: FollowUpWidget) -> None:
    """Everything found, measured and decided but for one; the response at the follow-up."""
    decide(widget)
    widget.overview.tabs.setCurrentWidget(widget.overview.response)
    _look_at(widget, GROWN, zoom=3.2)


def decide(widget: FollowUpWidget) -> None:
    """The whole-study run, then a person's word on all lesions but the one that is out of view."""
    widget.search.run_all()
    wait(lambda: not widget.search.running)
    for lesion in list(widget.editor.study.lesions):
        if lesion.name != OUTSIDE:
            widget.editor.select(lesion.uid)
            widget.say("not present") if lesion.name == GONE else widget.accept()


def picture(viewer: Viewer, path: Path) -> Path:
    """The whole window as it is now, with the mouse out of the way."""
    from qtpy.QtGui import QCursor

    QCursor.setPos(0, 0)
    settle(1.0)
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    return path


def _look_at(widget: FollowUpWidget, name: str, zoom: float) -> None:
    lesion = next(one for one in widget.editor.study.lesions if one.name == name)
    widget.editor.select(lesion.uid)
    wait(lambda: widget.search.found is not None and widget.search.found.uid == lesion.uid)
    widget.session.viewer.scene.camera.zoom = zoom
    settle(0.5)


def _hide_dock(viewer: Viewer, title: str) -> None:
    from qtpy.QtWidgets import QDockWidget

    from ..inner import main_window

    window = main_window(viewer)
    for one in window.findChildren(QDockWidget) if window is not None else []:
        if one.windowTitle() == title:
            one.hide()


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)
