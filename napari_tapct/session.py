"""What the widgets of one viewer share: its scans in order of time, their features, and the encoder in use.

A scan is there as soon as its layer is, however it was opened. Each viewer has its own session, which lives
no longer than the viewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Image, Layer
from psygnal import Signal
from qtpy.QtCore import QTimer

from .inner import canvas_widget, keep_canvas_current
from .layers import GEOMETRY, SOURCE, ct_from_layer
from .scan import DATE, Scan
from .torch_loading import thaw

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from tapct_core.encoders import Encoder
    from tapct_core.features import FeatureMap

    from .jobs import Job


class Session:
    """The scans of one viewer. Get it with :func:`session_of`."""

    scans_changed = Signal()
    """A scan came, went, was renamed, dated, or another one is shown."""
    features_changed = Signal(object)
    """The Scan whose features are new."""
    scan_opened = Signal(object)
    """A Scan that came, once napari is done with adding its layer."""
    scan_closing = Signal(object, object)
    """A Scan that goes, and its strokes' layer, or None."""
    part_removed = Signal(object, str)
    """A Scan and the role of a layer of it that somebody deleted."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = ref(viewer)
        self._scans: list[Scan] = []
        self.active: Scan | None = None
        self.encoder: Encoder | None = None
        """The one loaded last."""
        keep_canvas_current(viewer.layers, self._canvas)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.removed.connect(thaw)
        viewer.layers.selection.events.active.connect(self._on_selected)
        for layer in viewer.layers:
            self._add(layer)
        self._choose()

    @property
    def viewer(self) -> Viewer | None:
        """The viewer, None once it is gone."""
        return self._viewer()

    @property
    def scans(self) -> list[Scan]:
        """In order of date; those without one come last, in the order in which they were opened."""
        return sorted(self._scans, key=lambda scan: scan.date or "9999")

    def scan_of(self, layer: Layer | None) -> Scan | None:
        """The scan that a layer is, or is a part of."""
        for scan in self._scans:
            if layer is scan.layer or any(layer is part for part in scan.parts.values()):
                return scan
        return None

    def show(self, scan: Scan) -> None:
        """Shows one scan with its parts and hides the others; which of its parts were visible is kept."""
        for other in self._scans:
            for layer in (other.layer, *other.parts.values()):
                if other is scan and other is not self.active:
                    layer.visible = layer.metadata.get("tapct_shown", True)
                elif other is not scan:
                    if other is self.active:
                        layer.metadata["tapct_shown"] = layer.visible
                    layer.visible = False
        scan.layer.visible = True
        if scan is not self.active:
            self.active = scan
            self._stay_inside(scan)
            self.scans_changed.emit()

    def set_date(self, scan: Scan, date: str) -> None:
        """A date (YYYY-MM-DD, or "") that a person gives a scan."""
        scan.layer.metadata[DATE] = date
        self.scans_changed.emit()

    def set_features(self, scan: Scan, features: FeatureMap) -> None:
        """New features of a scan that is still open."""
        if scan in self._scans:
            scan.features = features
            for role in ("pca", "similarity"):  # pictures of the old ones
                self.remove_part(scan, role)
            self.features_changed.emit(scan)

    def add_part(self, scan: Scan, role: str, layer: Layer) -> Layer:
        """Adds a layer that belongs to a scan, in place of the one it had in that role."""
        viewer = self.viewer
        self.remove_part(scan, role)
        scan.parts[role] = layer
        selected = viewer.layers.selection.active
        viewer.add_layer(layer)
        layer.visible = scan is self.active
        if selected is not None and selected in viewer.layers:
            viewer.layers.selection.active = selected
        return layer

    def remove_part(self, scan: Scan, role: str) -> None:
        """Removes a scan's layer in that role, if it has one."""
        layer = scan.parts.get(role)
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def focus_lps_mm(self, scan: Scan) -> tuple[float, float, float]:
        """Where the person looks: the middle of the view on the slice that is shown, LPS mm."""
        viewer = self.viewer
        drawn = np.array(viewer.dims.point, dtype=float)
        shown = list(viewer.dims.displayed)
        drawn[shown] = np.array(viewer.scene.camera.center)[-len(shown) :]
        return tuple(float(c) for c in scan.volume.geometry.to_world(np.array(scan.layer.world_to_data(drawn))))

    def look_at(self, scan: Scan, index_zyx: tuple[float, ...]) -> None:
        """Shows the slice through a voxel of a scan."""
        self.viewer.dims.set_point(range(3), scan.layer.data_to_world(index_zyx))

    def _stay_inside(self, scan: Scan) -> None:
        """Time points may lie apart in the scanner; a slice outside the scan would show nothing."""
        drawn = np.array(self.viewer.dims.point, dtype=float)
        index = np.array(scan.layer.world_to_data(drawn))
        top = np.array(scan.volume.hu.shape) - 1
        if (index < -0.5).any() or (index > top + 0.5).any():
            outside = (index < -0.5) | (index > top + 0.5)
            index[outside] = (top / 2)[outside]
            self.look_at(scan, tuple(index))

    def _add(self, layer: Layer) -> bool:
        if not isinstance(layer, Image) or SOURCE not in layer.metadata or layer.ndim != 3:
            return False
        if layer.metadata[GEOMETRY].shape != layer.data.shape:
            return False
        volume = ct_from_layer(layer.data, {"name": layer.name, "metadata": layer.metadata})
        self._scans.append(Scan(layer, volume, opened_hidden=not layer.visible))
        layer.events.name.connect(self._on_renamed)
        return True

    def _choose(self) -> None:
        visible = [scan for scan in self.scans if scan.layer.visible]
        self.active = (visible or self.scans or [None])[0]

    def _canvas(self) -> QWidget | None:
        viewer = self.viewer
        return canvas_widget(viewer) if viewer is not None else None

    def _on_inserted(self, event: Any) -> None:
        if self._add(event.value):
            if self.active is None:
                self._choose()
            self.scans_changed.emit()
            # Not now: napari is in the middle of adding the layer.
            scan = self._scans[-1]
            QTimer.singleShot(0, lambda: scan in self._scans and self.scan_opened.emit(scan))

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        scan = self.scan_of(layer)
        if scan is None:
            return
        if layer is scan.layer:
            scan.drop_jobs()
            self.scan_closing.emit(scan, scan.parts.get("strokes", scan.leaving))
            self._scans.remove(scan)
            if self.active is scan:
                self._choose()
            # Not now: whoever removes several layers may have these on their list.
            orphans, scan.parts = list(scan.parts.values()), {}
            QTimer.singleShot(0, lambda: self._remove(orphans))
            self.scans_changed.emit()
        else:
            role = next(role for role, part in scan.parts.items() if part is layer)
            del scan.parts[role]
            if role == "strokes":
                scan.leaving = layer
                QTimer.singleShot(0, lambda: setattr(scan, "leaving", None))
            self.part_removed.emit(scan, role)

    def _remove(self, layers: list[Layer]) -> None:
        viewer = self.viewer
        for layer in layers if viewer is not None else ():
            if layer in viewer.layers:
                viewer.layers.remove(layer)

    def _on_selected(self, event: Any) -> None:
        scan = self.scan_of(event.value)
        if scan is not None and scan is not self.active and scan.layer.visible:
            self.active = scan
            self.scans_changed.emit()

    def _on_renamed(self, event: Any) -> None:
        self.scans_changed.emit()


_sessions: WeakKeyDictionary[Viewer, Session] = WeakKeyDictionary()


def session_of(viewer: Viewer) -> Session:
    """The session of a viewer, made on first use. napari hands widgets a proxy; the viewer itself is the key."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _sessions:
        _sessions[viewer] = Session(viewer)
    return _sessions[viewer]


def run_for(scan: Scan, job: Job) -> Job:
    """Starts a job whose results nobody wants once the scan is closed."""
    scan.jobs = {one for one in scan.jobs if one.running} | {job}
    return job.start()
