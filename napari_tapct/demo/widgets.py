"""Pictures of the plugin at work on real CTs, as the documentation shows them.

python -m napari_tapct.demo.widgets FOLDER        writes plugin_scans.png, plugin_features.png, plugin_segment.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari import Viewer

from tapct_core.samples import load_sample

from ..painting import PALETTE, LabelClass, painting_of
from ..scans.window import set_window
from ..session import Session, session_of
from .offscreen import dock, own_state, settle, wait

if TYPE_CHECKING:
    from tapct_core.volume import LabelMap

SIZE = (1500, 940)
TISSUES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("background", ()),
    ("liver", ("liver",)),
    ("spleen", ("spleen",)),
    ("kidneys", ("kidney",)),
    ("spine", ("vertebrae",)),
    ("back muscles", ("autochthon",)),
)
"""Classes painted for the picture, and how the sample's labels of the places where a person would paint them begin."""
APART = 10
"""Pixels between two strokes of a class."""
PAINTED = (80, 87, 94, 101)
SHOWN = 90
"""Slices that are painted on, and the one between them that is shown."""


def write(out: Path) -> list[Path]:
    """Writes the pictures into ``out``; returns their paths."""
    paths = [out / f"plugin_{name}.png" for name in ("scans", "features", "segment")]
    with own_state():
        for make, path in zip((scans, features, segment), paths, strict=True):
            viewer = Viewer()
            viewer.window.resize(*SIZE)
            try:
                make(viewer)
                settle(0.5)
                viewer.screenshot(str(path), canvas_only=False, flash=False)
            finally:
                viewer.close()
    return paths


def scans(viewer: Viewer) -> None:
    """Two time points with dates, in the lung window, and what lies under the mouse."""
    viewer.open_sample("napari-tapct", "breathing_pair")
    widget = dock(viewer, "Scans")
    session = session_of(viewer)
    for scan, date in zip(reversed(session.scans), ("2024-03-11", "2024-09-02"), strict=True):
        session.set_date(scan, date)
    viewer.layers["points with known follow-up"].visible = False
    scan = session.active
    set_window(session, 1500, -600)
    look(viewer, session, (0.47, 0.5, 0.5))
    drawn = scan.layer.data_to_world(np.array(scan.volume.hu.shape) * (0.47, 0.55, 0.62))
    viewer.cursor.position = tuple(drawn)
    settle(0.3)
    widget.status.setText(describe_at(session, viewer, drawn))


def describe_at(session: Session, viewer: Viewer, drawn: Any) -> str:
    """The status line of a place."""
    from ..status import describe

    return describe(session.active, list(viewer.layers), tuple(drawn))


def features(viewer: Viewer) -> None:
    """How alike everything is to a point in the liver."""
    viewer.open_sample("napari-tapct", "abdomen_pelvis")
    viewer.layers["organs"].visible = False
    widget = dock(viewer, "Features")
    session = session_of(viewer)
    embedded(widget, session)
    place = middle_of(load_sample("abdomen_pelvis")["labels"], 5)
    look(viewer, session, place / np.array(session.active.volume.hu.shape))
    widget.click_button.setChecked(True)
    widget.show_similarity(session.active, session.active.volume.geometry.to_world(place))
    wait(lambda: "similarity" in session.active.parts)


def segment(viewer: Viewer) -> None:
    """A few strokes on some slices, and what follows from them on a slice between."""
    viewer.open_sample("napari-tapct", "abdomen_pelvis")
    viewer.layers["organs"].visible = False
    embedder = dock(viewer, "Features")
    session = session_of(viewer)
    embedded(embedder, session)
    viewer.window.remove_dock_widget(embedder)
    widget = dock(viewer, "Segment")
    painting_of(session).set_classes(
        [LabelClass(i + 1, name, PALETTE[i]) for i, (name, _) in enumerate(TISSUES)],
    )
    layer = painting_of(session).strokes(session.active)
    look(viewer, session, np.array([SHOWN, 50.0, 61.0]) / np.array(session.active.volume.hu.shape))
    layer.brush_size = 1
    labels = load_sample("abdomen_pelvis")["labels"]
    for z in PAINTED:
        for value, (_, names) in enumerate(TISSUES, start=1):
            for y, x in strokes_in(labels, names, z):
                layer.paint((z, y, x), value)
    widget.update_result()
    wait(lambda: "Up to date" in widget.state.text())
    widget.classes.select(2)


def strokes_in(labels: LabelMap, names: tuple[str, ...], z: int) -> np.ndarray:
    """Places (y, x) of a few short strokes well inside one class of a slice; without ``names`` where no class is."""
    from scipy import ndimage

    classes = tuple(name for _, painted in TISSUES for name in painted)
    values = [value for value, name in labels.names.items() if name.startswith(names or classes)]
    inside = np.isin(labels.labels[z], values)
    good = ndimage.binary_erosion(inside if names else ~inside, iterations=2)
    chosen: list[np.ndarray] = []
    for start in np.argwhere(good[:, :-2] & good[:, 1:-1] & good[:, 2:]):
        if all(np.abs(start - other).max() >= APART for other in chosen):
            chosen.append(start)
    return np.array([(y, x + step) for y, x in chosen for step in range(3)]).reshape(-1, 2)


def embedded(widget: Any, session: Session) -> None:
    """Embeds the scan that is shown."""
    widget.embed(session.active)
    wait(lambda: session.active.features is not None and not widget.job.running)


def look(viewer: Viewer, session: Session, share: Any) -> None:
    """Shows the axial slice at a share (z, y, x) of the scan."""
    scan = session.active
    index = np.array(scan.volume.hu.shape) * np.array(share)
    session.look_at(scan, tuple(index))
    viewer.layers.selection.active = scan.layer
    settle(0.3)
    viewer.reset_view()
    viewer.scene.camera.zoom *= 1.1


def middle_of(labels: LabelMap, value: int) -> np.ndarray:
    """The voxel deepest inside a label (z, y, x)."""
    from scipy import ndimage

    # What the scan cuts off has no middle there.
    depth = ndimage.distance_transform_edt(np.pad(labels.labels == value, 1))[1:-1, 1:-1, 1:-1]
    return np.array(np.unravel_index(depth.argmax(), depth.shape), dtype=float)


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)
