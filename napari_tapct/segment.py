"""The Segment widget: paint a few strokes, see the segmentation follow, correct, apply to other scans, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QGroupBox, QLabel, QPushButton, QVBoxLayout, QWidget
from superqt.utils import QSignalDebouncer

from tapct_core.volume import LabelMap

from .autosave import autosave_of
from .class_table import ClassTable
from .jobs import Job, JobBar, sentence
from .layers import placement
from .live import Painted, Part, Region, segment, shown, warm_up
from .living import bind_key, living
from .session import Scan, run_for, session_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from tapct_core.probe import LinearProbe

DEBOUNCE_MS = 40
FRESH, STALE = 0.6, 0.25
"""Opacity of the result."""
PROBE_FILES = "Probe (*.safetensors)"
LABEL_FILES = "NIfTI (*.nii.gz);;NRRD (*.nrrd);;MetaImage (*.mha)"


class SegmentWidget(QWidget):
    """Docked widget; paints on and segments the scan that is shown."""

    slice_done = Signal()
    """The slice on screen follows the last stroke."""
    whole_done = Signal()
    saved = Signal(str)

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.painting = self.session.painting
        autosave_of(self.session)
        self.probe: LinearProbe | None = None
        self._loaded = False  # the probe came from a file: strokes are not what it was fitted on
        self._run: Job | None = None
        self._fresh: WeakKeyDictionary[Labels, np.ndarray] = WeakKeyDictionary()
        """Which slices along z of a result layer are up to date."""
        self.bar = JobBar()
        self._debounce = QSignalDebouncer(parent=self)
        self._debounce.setTimeout(DEBOUNCE_MS)
        self._debounce.triggered.connect(self.update_result)
        column = QVBoxLayout(self)
        column.addWidget(self._class_box())
        column.addWidget(self._result_box())
        column.addWidget(self._keep_box())
        column.addStretch(1)
        self.painting.strokes_changed.connect(living(self._on_strokes))
        self.painting.classes_changed.connect(living(self.refresh))
        self.session.scans_changed.connect(living(self.refresh))
        self.session.features_changed.connect(living(self._on_features))
        self.session.part_removed.connect(living(self._on_part_removed))
        self.session.viewer.dims.events.current_step.connect(living(self._on_slice))
        if self.session.active is not None:
            self._on_features(self.session.active)
        self.refresh()

    # The form.

    def _class_box(self) -> QGroupBox:
        box = QGroupBox("Classes")
        grid = QGridLayout(box)
        self.classes = ClassTable(self.painting)
        self.classes.chosen.connect(self._on_class)
        self.paint_button = self._button("Paint  ⇧P", "Paint with the class that is selected above", self.paint)
        hint = "Takes the last stroke back, whatever slice it is on"
        self.undo_button = self._button("Undo  ⇧Z", hint, self._on_undo)
        self.redo_button = self._button("Redo  ⇧Y", "Puts it back", self._on_redo)
        self.hint = _wrapped()
        grid.addWidget(self.classes, 0, 0, 1, 3)
        for place, (button, key) in enumerate(
            ((self.paint_button, "Shift-P"), (self.undo_button, "Shift-Z"), (self.redo_button, "Shift-Y"))
        ):
            grid.addWidget(button, 1, place)
            bind_key(self.session.viewer, key, button)
        grid.addWidget(self.hint, 2, 0, 1, 3)
        return box

    def _result_box(self) -> QGroupBox:
        box = QGroupBox("Result")
        grid = QGridLayout(box)
        self.live = QCheckBox("Follow every stroke")
        self.live.setChecked(True)
        self.guided = QCheckBox("Follow edges of the image")
        self.guided.setToolTip("Features are coarser than voxels; edges of HU pull the borders into place")
        self.guided.setChecked(True)
        self.guided.toggled.connect(self._ask)
        self.use_hu = QCheckBox("Learn from HU as well")
        self.use_hu.setToolTip("Finer and often better, above all with a small encoder; the whole scan takes longer")
        self.use_hu.toggled.connect(self._ask)
        self.update_button = self._button("Update  ⇧U", "Segments the scan from the strokes now", self.update_result)
        bind_key(self.session.viewer, "Shift-U", self.update_button)
        self.state = _wrapped()
        self.probability_button = self._button(
            "Probability", "Of the class that is selected above, as a layer", self.show_probability
        )
        self.uncertainty_button = self._button(
            "Uncertainty", "Bright where the best two classes are nearly as likely", self.show_uncertainty
        )
        grid.addWidget(self.live, 0, 0)
        grid.addWidget(self.guided, 0, 1)
        grid.addWidget(self.use_hu, 1, 0, 1, 2)
        grid.addWidget(self.state, 2, 0, 1, 2)
        grid.addWidget(self.update_button, 3, 0, 1, 2)
        grid.addWidget(self.probability_button, 4, 0)
        grid.addWidget(self.uncertainty_button, 4, 1)
        grid.addWidget(self.bar, 5, 0, 1, 2)
        return box

    def _keep_box(self) -> QGroupBox:
        box = QGroupBox("Keep and use again")
        grid = QGridLayout(box)
        self.apply_button = self._button(
            "Apply to other time points", "Segments every open scan that has features", self.apply_to_others
        )
        self.save_button = self._button("Save probe …", "What was learned, to use on other patients", self._on_save)
        self.load_button = self._button("Load probe …", "Segments this scan with a saved probe", self._on_load)
        self.export_button = self._button(
            "Export segmentation …", "NIfTI, NRRD or MetaImage on the grid of the CT's own file", self._on_export
        )
        grid.addWidget(self.apply_button, 0, 0, 1, 2)
        grid.addWidget(self.save_button, 1, 0)
        grid.addWidget(self.load_button, 1, 1)
        grid.addWidget(self.export_button, 2, 0, 1, 2)
        return box

    def _button(self, text: str, hint: str, slot: Callable) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(hint)
        button.clicked.connect(lambda _checked: slot())
        return button

    def refresh(self, *_: object) -> None:
        """Says what can be done with the scan that is shown."""
        scan = self.session.active
        has = scan is not None and scan.features is not None and scan.features.dim > 0
        result = scan is not None and "result" in scan.parts
        self.paint_button.setEnabled(scan is not None)
        self.undo_button.setEnabled(self.painting.undo_count > 0)
        self.redo_button.setEnabled(self.painting.redo_count > 0)
        self.update_button.setEnabled(has)
        self.load_button.setEnabled(has)
        for button in (self.save_button, self.probability_button, self.uncertainty_button):
            button.setEnabled(has and self.probe is not None)
        self.apply_button.setEnabled(self.probe is not None and len(self.session.scans) > 1)
        self.export_button.setEnabled(result)
        if scan is None:
            self.state.setText("Open a scan first.")
        elif not has:
            self.state.setText("This scan has no features yet: compute them in the Features widget. You can paint now.")
        elif not result:
            self.state.setText("Paint a stroke of each class; the result follows.")

    # Painting.

    def paint(self) -> None:
        """Makes the strokes layer active, with its brush on the class that is selected."""
        scan = self.session.active
        if scan is None:
            return
        layer = self.painting.strokes(scan)
        layer.selected_label = self.classes.value
        self.session.viewer.layers.selection.active = layer
        layer.mode = "paint"
        layer.brush_size = max(3, round(6 / min(scan.volume.geometry.spacing_mm)))

    def _on_class(self, value: int) -> None:
        scan = self.session.active
        if scan is not None and "strokes" in scan.parts:
            scan.parts["strokes"].selected_label = value

    def _on_undo(self) -> None:
        self.painting.undo()

    def _on_redo(self) -> None:
        self.painting.redo()

    def _on_strokes(self, scan: Scan) -> None:
        self._loaded = False
        self._spoil()
        if self.live.isChecked():
            self._ask()
        self.refresh()

    def _on_features(self, scan: Scan) -> None:
        if scan.features is not None and scan.features.dim:
            features = scan.features
            run_for(scan, Job("Making ready", lambda job: warm_up(features), owner=self))
            if scan is self.session.active:
                self._ask()
        self.refresh()

    def _on_part_removed(self, scan: Scan, role: str) -> None:
        if role == "strokes":
            self._on_strokes(scan)
        self.refresh()

    # The result.

    def _ask(self, *_: object) -> None:
        self._debounce.throttle()

    def _spoil(self) -> None:
        """What is drawn is older than the strokes, and so is what still runs."""
        if self._run is not None:
            self._run.drop()
        for fresh in self._fresh.values():
            fresh[:] = False
        self._show_freshness()

    def _view(self, scan: Scan) -> Region:
        """The slice on screen as a region of the scan."""
        viewer = self.session.viewer
        place = np.rint(scan.layer.world_to_data(viewer.dims.point)).astype(int)
        region = [slice(0, n) for n in scan.volume.hu.shape]
        for axis in viewer.dims.not_displayed:
            here = int(np.clip(place[axis], 0, scan.volume.hu.shape[axis] - 1))
            region[axis] = slice(here, here + 1)
        if not viewer.dims.not_displayed:  # 3D: begin in the middle
            middle = scan.volume.hu.shape[0] // 2
            region[0] = slice(middle, middle + 1)
        return tuple(region)

    def update_result(self) -> None:
        """Fits the strokes and segments the scan that is shown, its visible slice first. The newest call wins."""
        scan = self.session.active
        if scan is None or scan.features is None or not scan.features.dim:
            return
        painted = [
            Painted(one.volume, one.features, one.parts["strokes"].data)
            for one in self.session.scans
            if one.features is not None and "strokes" in one.parts
        ]
        if not painted and not self._loaded:
            return
        self._spoil()
        self._segment(scan, painted, self.probe if self._loaded else None)

    def _segment(self, scan: Scan, painted: list[Painted], probe: LinearProbe | None) -> Job:
        target, view, guided = (scan.volume, scan.features), self._view(scan), self.guided.isChecked()
        classes, use_hu = list(self.painting.classes), self.use_hu.isChecked()

        def function(job: Job) -> LinearProbe:
            return segment(job, painted, target, classes, view, guided, use_hu, probe)

        def failed(error: Exception) -> None:
            self.hint.setText(sentence("Segmenting", error))

        self._run = Job(
            f"Segmenting {scan.name}",
            function,
            owner=self,
            part=lambda part: self._on_part(scan, part),
            done=lambda found: self._on_whole(scan),
            failed=failed,
        )
        return run_for(scan, self._run)

    def _result(self, scan: Scan) -> Labels:
        layer = scan.parts.get("result")
        if layer is None:
            layer = self.painting.layer(scan, "segmentation", opacity=FRESH)
            self.session.add_part(scan, "result", layer)
            self._below_strokes(scan)
        self._fresh.setdefault(layer, np.zeros(len(layer.data), bool))
        return layer

    def _below_strokes(self, scan: Scan) -> None:
        layers = self.session.viewer.layers
        strokes = scan.parts.get("strokes")
        if strokes is not None and layers.index(scan.parts["result"]) > layers.index(strokes):
            layers.move(layers.index(scan.parts["result"]), layers.index(strokes))

    def _on_part(self, scan: Scan, part: Part) -> None:
        layer = self._result(scan)
        layer.data[part.region] = part.labels
        fresh = self._fresh[layer]
        whole_slices = all(span == slice(0, n) for span, n in zip(part.region[1:], layer.data.shape[1:], strict=True))
        if whole_slices:
            fresh[part.region[0]] = True
        if part.probe is not None:
            self.probe = part.probe
            self.hint.setText(part.hint)
        if part.probe is not None or not whole_slices:
            layer.refresh()
            self._show_freshness(now=True)
            self.refresh()
            self.slice_done.emit()
        else:
            seen = self._view(scan)[0]
            if part.region[0].start < seen.stop and seen.start < part.region[0].stop:
                layer.refresh(extent=False, thumbnail=False)
            self._show_freshness()

    def _on_whole(self, scan: Scan) -> None:
        layer = self._result(scan)
        self._fresh[layer][:] = True
        layer.refresh()
        self._show_freshness()
        self.refresh()
        self.whole_done.emit()

    def _on_slice(self, event: Any) -> None:
        self._show_freshness()

    def _show_freshness(self, now: bool = False) -> None:
        """Fades a result that is older than the strokes, slice by slice, and says so."""
        scan = self.session.active
        layer = scan.parts.get("result") if scan is not None else None
        fresh = self._fresh.get(layer) if layer is not None else None
        if fresh is None:
            return
        region = self._view(scan)
        good = now or bool(fresh[region[0]].all())
        if layer.opacity != (FRESH if good else STALE):
            if good:
                layer.refresh(extent=False, thumbnail=False)
            layer.opacity = FRESH if good else STALE
        if fresh.all():
            self.state.setText("Up to date: " + _shares(layer, self.painting.classes, scan))
        else:
            shown_slice = "this slice is up to date" if good else "this slice is OLDER than your strokes"
            self.state.setText(f"Following the strokes: {shown_slice}, {fresh.mean():.0%} of the scan done.")

    # Probability and uncertainty.

    def show_probability(self) -> None:
        """How likely the selected class is, everywhere in the scan that is shown."""
        value, probe, scan = self.classes.value, self.probe, self.session.active
        name = next((one.name for one in self.painting.classes if one.value == value), str(value))
        self._show_map(
            scan,
            "probability",
            f"{scan.name}: probability of {name}",
            "viridis",
            lambda: probe.probabilities(scan.features, scan.volume, value=value),
        )

    def show_uncertainty(self) -> None:
        """Where the probe wavers, everywhere in the scan that is shown."""
        probe, scan = self.probe, self.session.active
        self._show_map(
            scan,
            "uncertainty",
            f"{scan.name}: uncertainty",
            "magma",
            lambda: probe.uncertainty(scan.features, scan.volume),
        )

    def _show_map(self, scan: Scan, role: str, name: str, colormap: str, compute: Callable) -> None:
        def done(values: np.ndarray) -> None:
            layer = Image(
                values,
                name=name,
                colormap=colormap,
                contrast_limits=(0, 1),
                opacity=0.6,
                blending="translucent_no_depth",
                **placement(scan.volume.geometry),
            )
            self.session.add_part(scan, role, layer)
            self.saved.emit(role)

        job = Job(name, lambda job: compute(), owner=self, done=done)
        self.bar.watch(job)
        run_for(scan, job)

    # Keeping.

    def apply_to_others(self) -> Job | None:
        """Segments all other scans that have features, one after the other."""
        probe, guided = self.probe, self.guided.isChecked()
        others = [scan for scan in self.session.scans if scan is not self.session.active]
        ready = [scan for scan in others if scan.features is not None and scan.features.dim]
        without = [scan.name for scan in others if scan not in ready]
        self.hint.setText(f"Without features yet, so left out: {', '.join(without)}." if without else "")
        if not ready:
            return None
        targets = [(scan.volume, scan.features) for scan in ready]

        def function(job: Job) -> None:
            for number, (volume, features) in enumerate(targets):
                labels = probe.predict(features, volume, guided=guided, cancel=job.cancelled)
                job.send((number, shown(labels.labels, probe)))
                job.report(number + 1, len(targets))

        def part(found: tuple[int, np.ndarray]) -> None:
            scan = ready[found[0]]
            if scan in self.session.scans:
                layer = self._result(scan)
                layer.data = found[1]
                self._fresh[layer][:] = True

        job = Job("Other time points", function, owner=self, part=part, done=lambda _: self.saved.emit("applied"))
        self.bar.watch(job)
        return job.start()

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the probe", "probe.safetensors", PROBE_FILES)
        if path:
            self.save_probe(Path(path).with_suffix(".safetensors"))

    def save_probe(self, path: Path) -> Job:
        """Writes what was learned; ``saved`` follows."""
        probe = self.probe
        return self._file_job(f"Saving {path.name}", lambda job: probe.save(path), lambda _: self.saved.emit(str(path)))

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load a probe", "", PROBE_FILES)
        if path:
            self.load_probe(Path(path))

    def load_probe(self, path: Path) -> Job:
        """Takes a saved probe with its classes and segments the scan that is shown with it."""

        def load(job: Job) -> LinearProbe:
            from tapct_core.probe import LinearProbe

            return LinearProbe.load(path)

        return self._file_job(f"Reading {path.name}", load, self._take_probe)

    def _take_probe(self, probe: LinearProbe) -> None:
        self.painting.set_classes(classes_of(probe))
        self.probe, self._loaded = probe, True
        self.update_result()
        self.refresh()

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the segmentation", "segmentation.nii.gz", LABEL_FILES)
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> Job:
        """Writes the result of the scan that is shown on the grid of the CT's own file; ``saved`` follows."""
        scan = self.session.active
        layer = scan.parts["result"]
        names = {one.value: one.name for one in self.painting.classes}
        colours = {one.value: one.colour for one in self.painting.classes}

        def write(job: Job) -> Path:
            from tapct_core.io import save_labels

            labels = LabelMap(layer.data.copy(), scan.volume.geometry, scan.volume.source, names, colours)
            return save_labels(labels, path)

        return self._file_job(f"Writing {path.name}", write, lambda found: self.saved.emit(str(found)))

    def _file_job(self, title: str, function: Callable, done: Callable) -> Job:
        job = Job(title, function, owner=self, done=done)
        self.bar.watch(job)
        return job.start()


def classes_of(probe: LinearProbe) -> list:
    """A probe's classes as the widget lists them."""
    from .painting import PALETTE, LabelClass

    return [
        LabelClass(
            value, probe.names.get(value, f"class {value}"), probe.colours.get(value, PALETTE[value % len(PALETTE)])
        )
        for value in probe.classes
        if value
    ]


def _shares(layer: Labels, classes: list, scan: Scan) -> str:
    """How much of each class there is, in ml."""
    counts = np.bincount(layer.data.reshape(-1), minlength=256)
    millilitres = float(np.prod(scan.volume.geometry.spacing_mm)) / 1000
    parts = [f"{one.name} {counts[one.value] * millilitres:.0f} ml" for one in classes if counts[one.value]]
    return ", ".join(parts) or "no class but background."


def _wrapped() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    return label
