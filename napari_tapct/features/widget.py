"""The Features widget: choose an encoder, embed scans, see their features as colours and as similarity."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QLabel, QMessageBox, QPushButton, QVBoxLayout, QWidget

from tapct_core.provenance import comparable

from ..callbacks import living
from ..clicks import clicker
from ..jobs import Job, JobBar
from ..keys import SHORTCUTS, key_button
from ..panel import fit_width, scrolling_column
from ..reading import reading_of
from ..scan import Scan
from ..session import run_for, session_of
from ..tabs import share_dock
from ..torch_loading import load_torch
from .cached import is_cached
from .embedding_job import EmbeddingChoice, embed_scan
from .form import EncoderForm
from .views import heat_limits, pca_colours, pca_layer, similarity_layer

if TYPE_CHECKING:
    from napari.viewer import Viewer


class FeaturesWidget(QWidget):
    """Docked widget; works on the scan that is shown."""

    shown = Signal(str)
    """"pca" or "similarity": its layers are there, or new."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.bar, self.job = JobBar(), None
        self._waiting: list[Scan] = []
        self._looking: Job | None = None
        self._marks: dict[tuple, bool] = {}
        self._on_gpu = False  # known when an encoder is loaded
        column = scrolling_column(self)
        reading_of(self.session)
        column.addWidget(self._encoder_box())
        column.addWidget(self._embed_box())
        column.addWidget(self._look_box())
        column.addStretch(1)
        fit_width(self, column)
        share_dock(self)
        self.session.scans_changed.connect(living(self.refresh))
        self.session.features_changed.connect(living(self._on_features))
        self.refresh()

    # The form.

    def _encoder_box(self) -> QGroupBox:
        box = QGroupBox("Encoder")
        column = QVBoxLayout(box)
        self.form = EncoderForm()
        self.form.changed.connect(living(self.refresh))
        self.about, self.warning = _wrapped(), _wrapped()
        self.warning.setStyleSheet("color: #ffb454")
        for part in (self.form.native, self.about, self.warning):
            column.addWidget(part)
        return box

    def _embed_box(self) -> QGroupBox:
        box = QGroupBox("Features")
        column = QVBoxLayout(box)
        self.state = _wrapped()
        self.embed_button = key_button(self.session.viewer, "embed", self._on_embed)
        self.all_button = QPushButton("All time points")
        self.all_button.setToolTip("Of every open scan that has none yet, one after the other")
        self.all_button.clicked.connect(self._on_embed_all)
        row = QHBoxLayout()
        row.addWidget(self.embed_button, 2)
        row.addWidget(self.all_button, 1)
        column.addWidget(self.state)
        column.addLayout(row)
        column.addWidget(self.bar)
        return box

    def _look_box(self) -> QGroupBox:
        box = QGroupBox("Look at them")
        column = QVBoxLayout(box)
        self.pca_button = key_button(self.session.viewer, "colours", self.show_pca)
        self.click_button = key_button(self.session.viewer, "similar")
        self.click_button.setCheckable(True)
        self.click_hint = _wrapped()
        self.click_button.toggled.connect(self._on_click_toggled)
        self._on_mouse = clicker(living(self._on_clicked))
        self.session.viewer.mouse_drag_callbacks.append(self._on_mouse)
        row = QHBoxLayout()
        row.addWidget(self.pca_button)
        row.addWidget(self.click_button)
        column.addLayout(row)
        column.addWidget(self.click_hint)
        return box

    # What the form says.

    def refresh(self, *_: object) -> None:
        """Says what can be done with the scan that is shown."""
        scan, warning = self.session.active, "" if self._on_gpu else self.form.warning
        self.about.setText(self.form.chosen.words)
        self.warning.setText(warning)
        self.warning.setVisible(bool(warning))
        busy = self.job is not None and self.job.running
        self.embed_button.setEnabled(scan is not None and not busy)
        self.all_button.setEnabled(len(self.session.scans) > 1 and not busy)
        has = scan is not None and scan.features is not None and scan.features.dim > 0
        self.pca_button.setEnabled(has)
        self.click_button.setEnabled(has)
        self.state.setText("Open a scan first." if scan is None else f"<b>{scan.name}</b>: {self._state(scan)}")
        cached = scan is not None and self._marks.get(self._mark_key(scan), False)
        embed = SHORTCUTS["embed"]
        self.embed_button.setText(embed.labelled("Open cached features" if cached and not has else embed.title))
        if scan is not None and self._mark_key(scan) not in self._marks:
            self._look_into_cache(scan)

    def _state(self, scan: Scan) -> str:
        if scan.features is not None:
            facts = scan.features.provenance
            pitch = " × ".join(f"{p:.0f}" for p in scan.features.pitch_mm)
            return f"features of {facts['encoder']}, one every {pitch} mm."
        if self._marks.get(self._mark_key(scan)):
            return "features are in the cache and open at once."
        return "no features yet."

    def _mark_key(self, scan: Scan) -> tuple:
        return id(scan), self.form.choice

    def _look_into_cache(self, scan: Scan) -> None:
        key, choice = self._mark_key(scan), self.form.choice
        self._marks[key] = False

        def done(found: bool) -> None:
            self._marks[key] = found
            if found:
                self.refresh()

        job = Job("Looking into the cache", lambda job: is_cached(scan.volume, choice), owner=self, done=done)
        run_for(scan, job)

    # Embedding.

    def _on_embed(self) -> None:
        self._start([self.session.active])

    def _on_embed_all(self) -> None:
        self._start([scan for scan in self.session.scans if scan.features is None])

    def _start(self, scans: list[Scan]) -> None:
        if self.form.chosen.download_mb and not self._agrees():
            return
        self._waiting = scans
        self._next()

    def _agrees(self) -> bool:
        """The one place from which the network may be used."""
        chosen = self.form.chosen
        asked = f"{chosen.words}<br><br>Download it now (about {chosen.download_mb} MB) and accept its licence?"
        return QMessageBox.question(self, "Download?", asked) == QMessageBox.Yes

    def _next(self) -> None:
        scans = self.session.scans
        self._waiting = [scan for scan in self._waiting if scan in scans]
        if self._waiting:
            self.embed(self._waiting.pop(0))
        self.refresh()

    def embed(self, scan: Scan) -> Job:
        """Starts embedding a scan; the session says ``features_changed`` when it is done."""
        chosen = self.form.chosen
        choice = replace(self.form.choice, download=bool(chosen.download_mb))
        loaded = self.session.encoder if self._is_loaded(choice) else None
        focus = self.session.focus_lps_mm(scan)

        def done(found: tuple) -> None:
            encoder, features = found
            if encoder is not None:
                self.session.encoder, self._loaded_choice = encoder, (choice.encoder, choice.device)
                self._on_gpu = encoder.device.type != "cpu"
            self.session.set_features(scan, features)
            if "torch" not in sys.modules:  # a click on the features will want it in a moment
                Job("Loading PyTorch", lambda job: load_torch(), owner=self).start()

        def function(job: Job) -> tuple:
            return embed_scan(job, scan.volume, choice, loaded, focus)

        self.job = Job(f"Features of {scan.name}", function, owner=self, done=done)
        self.job.changed.connect(self._on_job)
        self.bar.watch(self.job)
        self.refresh()
        return run_for(scan, self.job)

    _loaded_choice: tuple[str, str] | None = None

    def _is_loaded(self, choice: EmbeddingChoice) -> bool:
        return self.session.encoder is not None and self._loaded_choice == (choice.encoder, choice.device)

    def _on_job(self) -> None:
        if self.job is not None and not self.job.running:
            if self.job.cancelled() or self.job.error is not None:
                self._waiting = []
            self._next()

    def _on_features(self, scan: Scan) -> None:
        self.refresh()

    # Looking.

    def _comparable(self) -> list[Scan]:
        """Scans whose features may be compared with those of the scan that is shown."""
        own = self.session.active.features
        found = [scan for scan in self.session.scans if scan.features is not None]
        return [scan for scan in found if comparable(own, scan.features)]

    def show_pca(self) -> None:
        """Colours for every comparable scan."""
        scans = self._comparable()

        def done(pictures: list[np.ndarray]) -> None:
            for scan, picture in zip(scans, pictures, strict=True):
                if scan in self.session.scans:
                    self.session.add_part(scan, "pca", pca_layer(scan, picture))
            self.shown.emit("pca")

        job = Job("Colours", lambda job: pca_colours([scan.features for scan in scans]), owner=self, done=done)
        self.bar.watch(job)
        run_for(self.session.active, job)

    def _on_click_toggled(self, on: bool) -> None:
        self.click_hint.setText("Click a point in the scan." if on else "")

    def _on_clicked(self, drawn: tuple[float, ...]) -> None:
        scan = self.session.active
        if not self.click_button.isChecked() or scan is None or scan.features is None:
            return
        point = scan.lps_mm(drawn)
        if point is None or not scan.features.covers(point)[0]:
            self.click_hint.setText("There are no features here; click inside the body.")
            return
        self.show_similarity(scan, point)

    def show_similarity(self, scan: Scan, point_lps_mm: np.ndarray) -> None:
        """How alike everything is to a point of ``scan``, in every comparable scan. The last click wins."""
        if self._looking is not None:
            self._looking.drop()
        scans = self._comparable()

        def function(job: Job) -> list[np.ndarray]:
            load_torch()
            from tapct_core.matching import similarity_map

            query = scan.features.sample(point_lps_mm)[0]
            return [similarity_map(one.features, query) for one in scans]

        def done(maps: list[np.ndarray]) -> None:
            for one, similarity in zip(scans, maps, strict=True):
                self._show_heat(one, similarity)
            x, y, z = point_lps_mm
            self.click_hint.setText(f"Similar to LPS {x:.0f}, {y:.0f}, {z:.0f} mm: the brighter, the more alike.")
            self.shown.emit("similarity")

        self._looking = run_for(scan, Job("Similarity", function, owner=self, done=done))

    def _show_heat(self, scan: Scan, similarity: np.ndarray) -> None:
        layer = scan.parts.get("similarity")
        if layer is not None:
            layer.data = similarity
            layer.contrast_limits = heat_limits(similarity)
        elif scan in self.session.scans:
            self.session.add_part(scan, "similarity", similarity_layer(scan, similarity))


def _wrapped(text: str = "") -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label
