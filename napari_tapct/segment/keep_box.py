"""What becomes of a segmentation: other time points, a probe for other patients, a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QGroupBox, QPushButton

from tapct_core.io.suffixes import WRITTEN
from tapct_core.volume import LabelMap

from ..jobs import Job, JobBar
from ..painting import PALETTE, LabelClass, painting_of

if TYPE_CHECKING:
    from tapct_core.probe import LinearProbe

    from ..scan import Scan
    from .segmenting import Segmenting

PROBE_FILES = "Probe (*.safetensors)"
LABEL_FILES = ";;".join(f"{name} (*{suffix})" for suffix, name in WRITTEN.items())


class KeepBox(QGroupBox):
    """Buttons to apply, save, load and export."""

    saved = Signal(str)
    """The file that was written, or "applied"."""

    def __init__(self, segmenting: Segmenting, bar: JobBar) -> None:
        super().__init__("Keep and use again")
        self._segmenting, self._bar, self.session = segmenting, bar, segmenting.session
        grid = QGridLayout(self)
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

    def _button(self, text: str, hint: str, slot: Callable[[], Any]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(hint)
        button.clicked.connect(lambda _checked: slot())
        return button

    def refresh(self, has_features: bool) -> None:
        """Enables what can be done with the scan that is shown."""
        scan, loaded = self.session.active, self._segmenting.probe is not None
        learned = loaded or any(one.features is not None for one in self._segmenting.painted)
        self.load_button.setEnabled(has_features or loaded)
        self.load_button.setText("Let the probe go" if loaded else "Load probe …")
        self.save_button.setEnabled(learned)
        self.apply_button.setEnabled(learned and len(self.session.scans) > 1)
        self.export_button.setEnabled(scan is not None and "result" in scan.parts)

    def apply_to_others(self) -> Job | None:
        """Segments all other scans that have features, one after the other; None if there is none."""
        others = [scan for scan in self.session.scans if scan is not self.session.active]
        ready = [scan for scan in others if scan.features is not None and scan.features.dim]
        without = [scan.name for scan in others if scan not in ready]
        said = f"Without features yet, so left out: {', '.join(without)}." if without else ""
        self._segmenting.hinted.emit(said)
        if not ready:
            return None
        return self._started(self._segmenting.apply_to(ready, lambda: self.saved.emit("applied")))

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the probe", "probe.safetensors", PROBE_FILES)
        if path:
            self.save_probe(Path(path).with_suffix(".safetensors"))

    def save_probe(self, path: Path) -> Job:
        """Writes what was learned; ``saved`` follows."""

        def save(job: Job) -> Path:
            return self._segmenting.learned(job).save(path)

        return self._file_job(f"Saving {path.name}", save, lambda _: self.saved.emit(str(path)))

    def _on_load(self) -> None:
        if self._segmenting.probe is not None:
            self._segmenting.take(None)
            return
        path, _ = QFileDialog.getOpenFileName(self, "Load a probe", "", PROBE_FILES)
        if path:
            self.load_probe(Path(path))

    def load_probe(self, path: Path) -> Job:
        """Takes a saved probe with its classes and segments the scan that is shown with it."""

        def load(job: Job) -> LinearProbe:
            from tapct_core.probe import LinearProbe

            return LinearProbe.load(path)

        return self._file_job(
            f"Reading {path.name}", load, lambda probe: self._segmenting.take(probe, classes_of(probe))
        )

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the segmentation", "segmentation.nii.gz", LABEL_FILES)
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Writes the result of the scan that is shown on the grid of the CT's own file; ``saved`` follows.

        A result that is older than the strokes is computed first.
        """
        scan = self.session.active
        self._segmenting.once_fresh(scan, lambda: self._write(scan, path))

    def _write(self, scan: Scan, path: Path) -> Job:
        layer = scan.parts["result"]
        classes = painting_of(self.session).classes
        names = {one.value: one.name for one in classes}
        colours = {one.value: one.colour for one in classes}

        def write(job: Job) -> Path:
            from tapct_core.io import save_labels

            labels = LabelMap(layer.data.copy(), scan.volume.geometry, scan.volume.source, names, colours)
            return save_labels(labels, path)

        return self._file_job(f"Writing {path.name}", write, lambda found: self.saved.emit(str(found)))

    def _file_job(self, title: str, function: Callable[[Job], Any], done: Callable[[Any], None]) -> Job:
        return self._started(Job(title, function, owner=self, done=done))

    def _started(self, job: Job) -> Job:
        self._bar.watch(job)
        return job.start()


def classes_of(probe: LinearProbe) -> list[LabelClass]:
    """A probe's classes as the widget lists them."""
    return [
        LabelClass(
            value, probe.names.get(value, f"class {value}"), probe.colours.get(value, PALETTE[value % len(PALETTE)])
        )
        for value in probe.classes
        if value
    ]
