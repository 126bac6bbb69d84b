"""Where a view looks in the patient, and how a place of one scan is found in another: LPS mm to LPS mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image

if TYPE_CHECKING:
    from tapct_core.geometry import Geometry

STILL_MM, STILL_ZOOM = 0.01, 1e-4
"""A view that has moved by less has not moved: what is left of rounding must not echo between the two."""
OVERLAP = 0.25
"""Share of the smaller scan, along each axis, that must lie in the other for the scanner's coordinates to be of use."""


class ScanView:
    """A scan as it is drawn in one viewer."""

    def __init__(self, viewer: ViewerModel, layer: Image, geometry: Geometry) -> None:
        self.viewer, self.layer, self.geometry = viewer, layer, geometry

    def drawn(self, lps_mm: np.ndarray) -> np.ndarray:
        """LPS mm (3,) to drawn mm (3,)."""
        return np.array(self.layer.data_to_world(self.geometry.to_index(lps_mm)))

    def lps_mm(self, drawn: np.ndarray) -> np.ndarray:
        """Drawn mm (3,) to LPS mm (3,), inside the scan or not."""
        return self.geometry.to_world(np.array(self.layer.world_to_data(drawn)))

    @property
    def middle(self) -> np.ndarray:
        """LPS mm (3,) of the middle of the scan."""
        return self.geometry.to_world((np.array(self.geometry.shape) - 1) / 2)

    @property
    def focus(self) -> np.ndarray:
        """LPS mm (3,) of the middle of the view on the slice that is shown."""
        drawn = np.array(self.viewer.dims.point, dtype=float)
        shown = list(self.viewer.dims.displayed)
        drawn[shown] = np.array(self.viewer.scene.camera.center)[-len(shown) :]
        return self.lps_mm(drawn)

    @property
    def zoom(self) -> float:
        """Pixels of the canvas a mm."""
        return self.viewer.scene.camera.zoom

    def look(self, lps_mm: np.ndarray, zoom: float | None = None) -> None:
        """Puts an LPS place into the middle of the view, on the slice that is nearest to it."""
        drawn = self.drawn(lps_mm)
        viewer = self.viewer
        viewer.dims.set_point(range(3), drawn)
        viewer.scene.camera.center = tuple(np.r_[0.0, drawn[list(viewer.dims.displayed)]][-3:])
        if zoom is not None:
            viewer.scene.camera.zoom = zoom

    def off_slice(self, drawn: np.ndarray) -> bool:
        """Whether a drawn place is on another slice than the one that is shown, by more than rounding explains."""
        hidden = list(self.viewer.dims.not_displayed)
        away = np.array(self.layer.world_to_data(drawn)) - np.array(self.layer.world_to_data(self.viewer.dims.point))
        return bool((np.abs(away[hidden]) > 1.0).any())


class Brought:
    """Where two views were when they were brought together last."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[np.ndarray, float]] = {}

    def together(self, *views: ScanView) -> None:
        """They are now."""
        for view in views:
            self._seen[id(view.viewer)] = view.focus, view.zoom

    def still(self, view: ScanView) -> bool:
        """Whether a view is where it was then."""
        place, zoom = self._seen.get(id(view.viewer), (np.full(3, np.inf), 1.0))
        return np.abs(place - view.focus).max() < STILL_MM and abs(zoom / view.zoom - 1) < STILL_ZOOM

    def forget(self) -> None:
        """As if they never had been."""
        self._seen.clear()


@dataclass(frozen=True)
class Motion:
    """An affine motion from one scan to another, (4, 4) on LPS mm, and where it comes from, in words."""

    affine: np.ndarray
    words: str

    def __call__(self, lps_mm: np.ndarray) -> np.ndarray:
        return self.affine[:3, :3] @ np.asarray(lps_mm, dtype=float) + self.affine[:3, 3]

    def back(self, lps_mm: np.ndarray) -> np.ndarray:
        """The other way."""
        return np.linalg.solve(self.affine[:3, :3], np.asarray(lps_mm, dtype=float) - self.affine[:3, 3])

    def through(self, here: np.ndarray, there: np.ndarray, words: str = "") -> Motion:
        """The same turn and stretch, moved so that ``here`` goes to ``there``."""
        moved = np.array(self.affine, dtype=float)
        moved[:3, 3] = np.asarray(there, dtype=float) - moved[:3, :3] @ here
        return Motion(moved, words or self.words)


def as_scanned(here: Geometry, there: Geometry) -> Motion:
    """The scanner's own coordinates; from middle to middle where the two scans lie too far apart for that."""
    (low_a, high_a), (low_b, high_b) = _box(here), _box(there)
    shared = np.minimum(high_a, high_b) - np.maximum(low_a, low_b)
    if (shared >= OVERLAP * np.minimum(high_a - low_a, high_b - low_b)).all():
        return Motion(np.eye(4), "as scanned")
    return Motion(np.eye(4), "middle to middle").through((low_a + high_a) / 2, (low_b + high_b) / 2)


def _box(grid: Geometry) -> tuple[np.ndarray, np.ndarray]:
    corners = grid.to_world(np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T)
    return corners.min(axis=0), corners.max(axis=0)


def show_same_plane(source: ViewerModel, target: ViewerModel) -> None:
    """Gives ``target`` the plane, or the direction in 3D, of ``source``."""
    if target.dims.ndisplay != source.dims.ndisplay:
        target.dims.ndisplay = source.dims.ndisplay
    if target.dims.order != source.dims.order and target.dims.ndim == source.dims.ndim:
        target.dims.order = source.dims.order
    if source.dims.ndisplay == 3:
        target.scene.camera.angles = source.scene.camera.angles


def events_of(viewer: ViewerModel, moved: Callable, pointed: Callable, left: Callable) -> list[tuple[Any, Callable]]:
    """What a viewer tells of, with who listens."""
    camera, dims = viewer.scene.camera.events, viewer.dims.events
    moves = (camera.center, camera.zoom, camera.angles, dims.point, dims.order, dims.ndisplay)
    return [
        *((event, moved) for event in moves),
        (viewer.cursor.events.position, pointed),
        (viewer.events.mouse_over_canvas, left),
    ]
