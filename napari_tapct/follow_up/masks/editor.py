"""Lesion masks: grown from the lesion's point, corrected or drawn by painting in either view, measured at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QSlider, QWidget
from superqt.utils import QSignalDebouncer

from tapct_core.errors import UserError
from tapct_core.lesions import Finding, Lesion, new_uid
from tapct_core.lesions.timepoints import snapshot

from ...callbacks import living
from ...jobs import Job, JobBar, sentence
from ...keys import key_button
from ...session import Session
from ..proposals.sentences import doubt_of
from ..study.decisions import confirm_measurement, next_name, too_small
from .growing import Grown, grown_at
from .layers import MaskLayers
from .painting import MaskStrokes, clear, finding_of

if TYPE_CHECKING:
    from psygnal import SignalInstance

    from tapct_core.lesions.recist import Measurement, Point

    from ...scan import Scan
    from ..study.editor import StudyEditor
    from ..views.linked import LinkedView

MEASURE_MS = 60
BRUSH_MM = (1, 30, 6)
"""Least, most and first diameter of the brush."""


class MaskEditor(QWidget):
    """Grow, Paint, Erase, Done, Discard and Remove for the selected lesion at the two time points that are shown.

    While somebody paints, nothing goes into the study; *Done* is one step that can be undone. Painting while no
    lesion is selected makes a new one.
    """

    def __init__(self, session: Session, editor: StudyEditor, linked: LinkedView) -> None:
        super().__init__()
        self.session, self.editor, self.linked = session, editor, linked
        self.layers = MaskLayers(session, editor, linked)
        self.strokes = MaskStrokes(self.layers)
        self._note = ""
        self._closed = False
        self.bar = JobBar()
        self._lay_out()
        self._debounce = QSignalDebouncer(parent=self)
        self._debounce.setTimeout(MEASURE_MS)
        self._debounce.triggered.connect(self.refresh)
        self.strokes.stroked.connect(living(self._on_stroke))
        editor.changed.connect(living(self._on_changed))
        editor.mask_lost.connect(living(self._on_mask_lost))
        for signal in (editor.selection_changed, editor.timepoint_changed, session.scans_changed, linked.changed):
            signal.connect(living(self._on_elsewhere))
        linked.closed.connect(living(self._on_closed))
        linked.idle.connect(living(self._on_idle))
        self._on_changed()

    # The form.

    def _lay_out(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self.grow_button = key_button(self.session.viewer, "grow mask", self.grow)
        self.paint_button = key_button(self.session.viewer, "paint mask", self._on_paint)
        self.paint_button.setCheckable(True)
        self.erase_button = self._button("Erase", "The brush takes away instead", self._set_tool)
        self.erase_button.setCheckable(True)
        self.brush = QSlider(Qt.Horizontal)
        self.brush.setRange(*BRUSH_MM[:2])
        self.brush.setValue(BRUSH_MM[2])
        self.brush.setToolTip("Diameter of the brush in mm")
        self.brush.valueChanged.connect(self._set_tool)
        self.done_button = self._button("Done", "Keeps what was painted, and measures it", self.done)
        self.discard_button = self._button("Discard", "Forgets what was painted", self.discard)
        self.remove_button = self._button("Remove", "Takes the lesion's mask at the compared scan away", self.remove)
        viewer = self.session.viewer
        self.confirm_button = key_button(viewer, "confirm axes", lambda: self._try(confirm_measurement))
        self.small_button = key_button(viewer, "too small", lambda: self._try(too_small))
        self.text = QLabel()
        self.text.setWordWrap(True)
        for place, button in enumerate((self.grow_button, self.paint_button, self.erase_button)):
            grid.addWidget(button, 0, place)
        for place, button in enumerate((self.remove_button, self.done_button, self.discard_button)):
            grid.addWidget(button, 1, place)
        grid.addWidget(QLabel("Brush"), 2, 0)
        grid.addWidget(self.brush, 2, 1, 1, 2)
        below = QHBoxLayout()
        below.addWidget(self.confirm_button)
        below.addWidget(self.small_button)
        grid.addLayout(below, 3, 0, 1, 3)
        grid.addWidget(self.bar, 4, 0, 1, 3)
        grid.addWidget(self.text, 5, 0, 1, 3)

    def _button(self, text: str, hint: str, slot: Callable) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(hint)
        button.clicked.connect(lambda _checked: slot())
        return button

    @property
    def painting(self) -> bool:
        """Whether somebody paints."""
        return self.strokes.uid is not None

    def refresh(self, *_: object) -> None:
        """Says what is measured and what can be done."""
        lesion, painting = self.editor.lesion, self.painting
        findings = {} if lesion is None else lesion.findings
        shown = [(name, findings[name]) for name in self._timepoints() if name in findings]
        self.grow_button.setEnabled(not painting and any(finding.present for _, finding in shown))
        self.paint_button.setEnabled(bool(self._timepoints()))
        self.paint_button.setChecked(painting)
        self.erase_button.setEnabled(painting)
        self.done_button.setEnabled(painting)
        self.discard_button.setEnabled(painting)
        compared = findings.get(self.editor.timepoint or "")
        self.remove_button.setEnabled(not painting and compared is not None and compared.mask is not None)
        lines = self._painted_words() if painting else [_line(name, finding) for name, finding in shown]
        self.confirm_button.setEnabled(not painting and compared is not None and compared.present and compared.doubtful)
        self.small_button.setEnabled(not painting and compared is not None and compared.point_lps_mm is not None)
        if not lines and not painting:
            lines = ["Select a lesion, or paint a new one."]
        self.text.setText("\n".join([*lines, *([self._note] if self._note else [])]))

    def _timepoints(self) -> list[str]:
        names = (self.editor.timepoint_of(scan) for scan in self.layers.scans)
        return [name for name in names if name is not None]

    def _painted_words(self) -> list[str]:
        work = self.strokes
        lines = [f"Painting {work.name}, a new lesion" if work.new else f"Painting {work.name}"]
        for timepoint, scan, mask in work.painted():
            words = _measured(mask.measure(scan.volume)) if mask is not None else "nothing left"
            lines.append(f"{timepoint}: {words}")
        return lines

    # Growing.

    def grow(self) -> Job | None:
        """Grows the selected lesion's mask where it is placed and has none; None when there is nothing to grow."""
        lesion = self.editor.lesion
        if lesion is None or self.painting:
            return None
        scans = [(self.editor.timepoint_of(scan), scan) for scan in self.layers.scans]
        placed = [(n, s) for n, s in scans if n in lesion.findings and lesion.findings[n].present]
        work = [(n, s, lesion.findings[n].point_lps_mm) for n, s in placed if lesion.findings[n].mask is None]
        if not work:
            self._say("It has its mask in both scans; paint to correct it, or remove it to grow it again.")
            return None
        return self._start_growing(lesion, work, lambda change: self.editor.do(f"grow {lesion.name}", change))

    def _on_mask_lost(self, uid: str, timepoint: str, drawn: bool) -> None:
        """A grown mask is grown again at its lesion's new place, as a part of the move: undo brings both back."""
        if drawn:
            self._say(f"At {timepoint} it has left the mask that was painted; paint it anew, or undo the move.")
            return
        scan, finding = self.editor.scan_of(timepoint), finding_of(self.editor.study, uid, timepoint)
        if scan is not None and finding is not None and finding.present:
            work = [(timepoint, scan, finding.point_lps_mm)]
            self._start_growing(self.editor.study.lesion(uid), work, self.editor.note)

    def _start_growing(self, lesion: Lesion, work: list[tuple[str, Scan, Point]], into: Callable) -> Job:
        """Grows masks of one lesion at places (LPS mm) of scans; ``into`` takes the change that keeps them."""

        study = snapshot(self.editor.study)
        scans = {one.name: self.editor.scan_of(one.name) for one in study.timepoints}
        volumes = {name: scan.volume for name, scan in scans.items() if scan is not None}

        def function(job: Job) -> list[Grown]:
            found: list[Grown] = []
            for i, (name, scan, point) in enumerate(work):
                if job.cancelled():
                    break
                job.report(i, len(work))
                found.append(grown_at(study, lesion.uid, name, scan, point, volumes.get))
                found[-1].put_into(study, lesion.uid)  # into the copy: what is grown next starts from it
            return found

        def done(found: list[Grown]) -> None:
            self._note = "\n".join(f"{one.timepoint}: {one.why_not}" for one in found if one.mask is None)
            into(lambda study: [one.put_into(study, lesion.uid) for one in found])
            self.refresh()

        self._note = ""
        job = Job(
            f"Growing {lesion.name}",
            function,
            owner=self,
            done=done,
            failed=lambda error: self._say(sentence("Growing", error)),
        )
        self.bar.watch(job)
        return job.start()

    def remove(self) -> None:
        """Takes the selected lesion's mask at the compared time point away."""
        lesion, timepoint = self.editor.lesion, self.editor.timepoint
        if lesion is not None and timepoint in lesion.findings:
            words = f"remove the mask of {lesion.name} at {timepoint}"
            self.editor.do(words, lambda study: clear(study, lesion.uid, timepoint))

    # Painting.

    def _on_paint(self) -> None:
        (self.done if self.painting else self.paint)()

    def paint(self) -> None:
        """Makes the masks of both views ready for the brush."""
        if not self.painting and self.layers.scans:
            lesion = self.editor.lesion
            self._note = ""
            self.strokes.begin(
                lesion.uid if lesion is not None else new_uid(),
                lesion.name if lesion is not None else next_name(self.editor),
                new=lesion is None,
            )
            self.erase_button.setChecked(False)
            self._set_tool()
        self.refresh()

    def done(self) -> None:
        """Puts what was painted into the study, as one step. What cannot be kept is said, and painting goes on."""
        if not self.painting:
            return
        work, reader = self.strokes, self.editor.reader
        uid, new, anything = work.uid, work.new, bool(work.painted())
        try:
            if anything:
                self.editor.do(f"paint {work.name}", lambda study: work.put_into(study, reader))
        except UserError as error:
            self._say(str(error))
            return
        self._stop()
        if anything and new and self.editor.selected is None:
            self.editor.select(uid)

    def discard(self) -> None:
        """Forgets what was painted."""
        if self.painting:
            self._stop()

    @property
    def stroked(self) -> SignalInstance:
        """A stroke came or went."""
        return self.strokes.stroked

    def unfinished(self) -> Lesion | None:
        """The lesion that is being painted, with what is painted so far; None where there is nothing yet."""
        return self.strokes.unfinished(self.editor.reader) if self.painting else None

    def undo(self) -> bool:
        """Takes the last stroke of what is being painted back; False while nobody paints, or nothing is painted."""
        return self.painting and self.strokes.undo()

    def _set_tool(self, *_: object) -> None:
        self.strokes.set_tool(self.erase_button.isChecked(), self.brush.value())

    def _stop(self) -> None:
        self.strokes.end()
        self.layers.refresh()
        self.refresh()

    # What happens elsewhere.

    def _on_stroke(self) -> None:
        self._debounce.throttle()

    def _on_changed(self, *_: object) -> None:
        if self._closed:
            return
        work = self.strokes
        if self.painting and not work.new and work.uid not in [lesion.uid for lesion in self.editor.study.lesions]:
            self.discard()  # it was deleted, or its marking undone
        self.layers.refresh()
        self.refresh()

    def _on_elsewhere(self, *_: object) -> None:
        """Another lesion or scan: what was painted is kept."""
        if self._closed:
            return
        another = self.editor.selected not in (None, self.strokes.uid)
        if self.painting and (another or set(self.layers.scans) != self.layers.held):
            self.done()
        self.layers.refresh()
        self.refresh()

    def _on_idle(self) -> None:
        if not self._closed and not self.painting:
            self.layers.get_ready()

    def _on_closed(self) -> None:
        self.done()
        self.discard()  # what could not be kept
        self._closed = True
        self.layers.remove()

    def _try(self, decide: Callable[[StudyEditor], None]) -> None:
        try:
            decide(self.editor)
        except UserError as error:
            self._say(str(error))

    def _say(self, words: str) -> None:
        self._note = words
        self.refresh()


def _line(timepoint: str, finding: Finding) -> str:
    if not finding.present:
        return f"{timepoint}: {finding.state}"
    if finding.measurement is None:
        return f"{timepoint}: {'too small to measure' if finding.too_small else 'not measured'}"
    how = "drawn" if finding.measurement.drawn else "painted" if finding.mask_by == "person" else "grown"
    words = f"{timepoint}: {_measured(finding.measurement)} ({how})"
    return f"⚠ {words}\n{doubt_of(finding)}" if finding.doubtful else words


def _measured(found: Measurement) -> str:
    axes = f"{found.long_axis_mm:.1f} × {found.short_axis_mm:.1f} mm"
    return axes if found.volume_ml is None else f"{axes}, {found.volume_ml:.2f} ml, {found.mean_hu:.0f} HU"
