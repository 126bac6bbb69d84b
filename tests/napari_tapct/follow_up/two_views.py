"""Two linked views in a test: a baseline and the same anatomy scanned obliquely, each with a bright ball in it."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QApplication, QWidget
from scipy.spatial.transform import Rotation

from napari_tapct.follow_up.study.editor import editor_of
from napari_tapct.follow_up.views.link_bar import link_frame
from napari_tapct.follow_up.views.linked import LinkedView
from napari_tapct.layers import ct_image
from napari_tapct.session import session_of
from tapct_core.geometry import Geometry
from tapct_core.volume import CTVolume, Source

from ..conftest import canvas_of

RADIUS_MM = 7.0
BALL_HU, GROUND_HU = 120, -40
SPACING = (2.5, 1.0, 1.0)
SHAPE = (24, 64, 64)
BALL_LPS = np.array([4.0, -6.0, 3.0])
"""Middle of the ball in the baseline."""
SHIFT = np.array([11.0, 5.0, -7.0])


def motion() -> np.ndarray:
    """(4, 4), LPS mm of the baseline to LPS mm of the follow-up: the patient lies turned and elsewhere."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (7, -11, 13), degrees=True).as_matrix()
    affine[:3, 3] = SHIFT
    return affine


def moved(lps_mm: np.ndarray) -> np.ndarray:
    """A baseline's place in the follow-up."""
    return motion()[:3, :3] @ np.asarray(lps_mm) + motion()[:3, 3]


def ball(tilted: bool) -> CTVolume:
    """Noise with a ball in it. ``tilted``: the follow-up, whose slices do not run along the baseline's."""
    middle = (np.array(SHAPE) - 1) / 2
    affine = np.eye(4)
    affine[:3, :3] = np.diag(SPACING)[::-1]
    centre = moved(BALL_LPS) if tilted else np.zeros(3)
    if tilted:
        affine[:3, :3] = Rotation.from_euler("xyz", (5, 8, -9), degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = centre - affine[:3, :3] @ middle
    geometry = Geometry(SHAPE, affine)
    places = geometry.to_world(np.argwhere(np.ones(SHAPE, bool)))
    inside = np.linalg.norm(places - (moved(BALL_LPS) if tilted else BALL_LPS), axis=1) <= RADIUS_MM
    hu = np.where(inside.reshape(SHAPE), BALL_HU, GROUND_HU) + np.random.default_rng(tilted).normal(0, 6, SHAPE)
    return CTVolume(hu.astype(np.int16), geometry, Source("array"))


def open_two(viewer) -> LinkedView:
    """Baseline on the left, follow-up in the second view, linked by the true motion."""
    viewer.window.resize(900, 520)  # a software renderer's time goes with the pixels
    for tilted, name in ((False, "before"), (True, "after")):
        viewer.add_layer(ct_image(ball(tilted), name))
    linked = linked_view(viewer)
    linked.set_transform(motion())
    linked.first.look(BALL_LPS)
    QApplication.processEvents()
    return linked


def linked_view(viewer) -> LinkedView:
    """The first scan in the viewer's canvas, the last one in a second view that is shown."""
    session = session_of(viewer)
    session.show(session.scans[0])
    linked = LinkedView(session, editor_of(viewer), link_frame)
    linked.show()
    QApplication.processEvents()
    return linked


def canvases(viewer, linked: LinkedView) -> tuple[QWidget, QWidget]:
    """The widgets that get the mouse in both views."""
    return canvas_of(viewer), linked.qt_viewer.canvas.native


def pixel(viewer: ViewerModel, canvas: QWidget, drawn: np.ndarray) -> QPoint:
    """Where a drawn place is on a canvas."""
    camera = viewer.scene.camera
    shown = list(viewer.dims.displayed)
    down, right = (np.asarray(drawn)[shown] - np.array(camera.center)[-2:]) * camera.zoom
    return QPoint(round(canvas.width() / 2 + right), round(canvas.height() / 2 + down))
