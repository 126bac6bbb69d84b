"""The Segment widget: paint a few strokes, see the segmentation follow, correct, apply to other scans, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QGroupBox, QLabel, QPushButton, QWidget

from ..autosave import autosave_of
from ..callbacks import living
from ..jobs import Job, JobBar
from ..keys import key_button
from ..layers import placement
from ..painting import painting_of
from ..panel import fit_width, scrolling_column
from ..reading import reading_of
from ..session import run_for, session_of
from ..tabs import share_dock
from .class_table import ClassTable
from .keep_box import KeepBox
from .live import probability
from .segmenting import Segmenting

if TYPE_CHECKING:
    from napari.viewer import Viewer


class SegmentWidget(QWidget):
    """Docked widget; paints on and segments the scan that is shown."""

    slice_done = Signal()
    """The slice on screen follows the last stroke."""
    whole_done = Signal()
    mapped = Signal(str)
    """"probability" or "uncertainty": its layer is there."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        self.painting = painting_of(self.session)
        autosave_of(self.session)
        self.bar = JobBar()
        self.segmenting = Segmenting(self.session, self)
        column = scrolling_column(self)
        reading_of(self.session)
        column.addWidget(self._class_box())
        column.addWidget(self._result_box())
        self.keep = KeepBox(self.segmenting, self.bar)
        column.addWidget(self.keep)
        column.addStretch(1)
        fit_width(self, column)
        share_dock(self)
        self.segmenting.slice_done.connect(self.slice_done)
        self.segmenting.whole_done.connect(self.whole_done)
        self.segmenting.changed.connect(self.refresh)
        self.segmenting.hinted.connect(self.hint.setText)
        self.painting.strokes_changed.connect(living(self.refresh))
        self.painting.classes_changed.connect(living(self.refresh))
        self.session.scans_changed.connect(living(self.refresh))
        self.session.features_changed.connect(living(self.refresh))
        self.session.part_removed.connect(living(self.refresh))
        self.session.viewer.dims.events.ndisplay.connect(living(self._on_display))
        self.refresh()

    # The form.

    def _class_box(self) -> QGroupBox:
        box = QGroupBox("Classes")
        grid = QGridLayout(box)
        self.classes = ClassTable(self.painting)
        self.classes.chosen.connect(self._on_class)
        self.paint_button = key_button(self.session.viewer, "paint class", self.paint)
        self.undo_button = key_button(self.session.viewer, "undo stroke", self._on_undo)
        self.redo_button = key_button(self.session.viewer, "redo stroke", self._on_redo)
        self.hint = _wrapped()
        grid.addWidget(self.classes, 0, 0, 1, 3)
        for place, button in enumerate((self.paint_button, self.undo_button, self.redo_button)):
            grid.addWidget(button, 1, place)
        grid.addWidget(self.hint, 2, 0, 1, 3)
        return box

    def _result_box(self) -> QGroupBox:
        box = QGroupBox("Result")
        grid = QGridLayout(box)
        self.live = QCheckBox("Follow every stroke")
        self.alone = QCheckBox("Linear probe alone")
        self.alone.setToolTip(
            "What a linear layer on the features says, as papers evaluate it: coarse, without the image's edges"
        )
        for box_, name in ((self.live, "live"), (self.alone, "alone")):
            box_.setChecked(getattr(self.segmenting, name))
            box_.toggled.connect(lambda on, name=name: self._on_option(name, on))
        self.update_button = key_button(self.session.viewer, "update", self.update_result)
        self.next_button = key_button(self.session.viewer, "unsure slice", self.go_to_unsure)
        self.state = _wrapped()
        self.probability_button = self._button(
            "Probability", "Of the class that is selected above, as a layer", self.show_probability
        )
        self.uncertainty_button = self._button(
            "Uncertainty", "Bright where the best two classes are nearly as likely", self.show_uncertainty
        )
        grid.addWidget(self.live, 0, 0)
        grid.addWidget(self.alone, 0, 1)
        grid.addWidget(self.state, 1, 0, 1, 2)
        grid.addWidget(self.next_button, 2, 0)
        grid.addWidget(self.update_button, 2, 1)
        grid.addWidget(self.probability_button, 3, 0)
        grid.addWidget(self.uncertainty_button, 3, 1)
        grid.addWidget(self.bar, 4, 0, 1, 2)
        return box

    def _button(self, text: str, hint: str, slot: Callable) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(hint)
        button.clicked.connect(lambda _checked: slot())
        return button

    def refresh(self, *_: object) -> None:
        """Says what can be done with the scan that is shown."""
        scan, segmenting = self.session.active, self.segmenting
        has = scan is not None and scan.features is not None and scan.features.dim > 0
        self.paint_button.setEnabled(scan is not None)
        self.undo_button.setEnabled(self.painting.undo_count > 0)
        self.redo_button.setEnabled(self.painting.redo_count > 0)
        self.update_button.setEnabled(scan is not None)
        self.alone.setEnabled(has)
        for button in (self.probability_button, self.uncertainty_button, self.next_button):
            button.setEnabled(segmenting.answered is not None)
        self.keep.refresh(has)
        words = "Open a scan first."
        if scan is not None:
            words = segmenting.words or "Paint a stroke of each class; the result follows."
            if not has:
                words += " <i>By HU alone: with features (Features widget) far fewer strokes are needed.</i>"
        self.state.setText(words)

    # Painting.

    def paint(self) -> None:
        """Makes the strokes layer active, with its brush on the class that is selected."""
        scan = self.session.active
        if scan is None:
            return
        layer = self.painting.strokes(scan)
        layer.selected_label = self.classes.value
        viewer = self.session.viewer
        viewer.layers.selection.active = layer
        if viewer.dims.ndisplay == 3:
            viewer.dims.ndisplay = 2
            self.hint.setText("Strokes are painted on slices, so the view is 2D again.")
        layer.mode = "paint"

    def _on_display(self, event: Any) -> None:
        """A brush in the 3D view would do nothing, and say nothing."""
        scan = self.session.active
        layer = scan.parts.get("strokes") if scan is not None else None
        if event.value == 3 and layer is not None and layer.mode not in ("pan_zoom", "transform"):
            layer.mode = "pan_zoom"
            self.hint.setText("Strokes are painted on slices: press Paint, and the view is 2D again.")

    def _on_class(self, value: int) -> None:
        scan = self.session.active
        if scan is not None and "strokes" in scan.parts:
            scan.parts["strokes"].selected_label = value

    def _on_undo(self) -> None:
        self.painting.undo()

    def _on_redo(self) -> None:
        self.painting.redo()

    # The result.

    def update_result(self) -> None:
        """Fits the strokes and segments the scan that is shown, its visible slice first. The newest call wins."""
        self.segmenting.update()

    def _on_option(self, name: str, on: bool) -> None:
        setattr(self.segmenting, name, on)
        if name != "live":
            self.segmenting.ask()

    def go_to_unsure(self) -> None:
        """Shows the slice where the next stroke would help most."""
        scan, answered = self.session.active, self.segmenting.answered
        place = answered.next_slice() if answered is not None else None
        if place is not None:
            index = np.rint(scan.layer.world_to_data(self.session.viewer.dims.point))
            self.session.look_at(scan, (place, *index[1:]))

    def show_probability(self) -> None:
        """How likely the selected class is, everywhere in the scan that is shown."""
        value, found = self.classes.value, self.segmenting.answered
        name = next((one.name for one in self.painting.classes if one.value == value), str(value))
        self._show_map("probability", f"probability of {name}", "viridis", lambda: probability(found, value))

    def show_uncertainty(self) -> None:
        """Where the two likeliest classes are nearly as likely, everywhere in the scan that is shown."""
        found = self.segmenting.answered
        self._show_map("uncertainty", "uncertainty", "magma", lambda: found.uncertainty())

    def _show_map(self, role: str, what: str, colormap: str, compute: Callable) -> None:
        scan = self.session.active
        name = f"{scan.name}: {what}"

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
            self.mapped.emit(role)

        job = Job(name, lambda job: compute(), owner=self, done=done)
        self.bar.watch(job)
        run_for(scan, job)


def _wrapped() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    return label
