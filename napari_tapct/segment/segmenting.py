"""From strokes to results on one session: when to compute, with what, and which run still counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import QSignalDebouncer

from ..callbacks import living
from ..jobs import Job, sentence
from ..painting import painting_of
from ..scan import Scan
from ..session import Session, run_for
from .live import Painted, Part, segment, warm_up, whole_part
from .results import Results

if TYPE_CHECKING:
    from tapct_core.probe import LinearProbe

    from ..painting import LabelClass

DEBOUNCE_MS = 15


class Segmenting(QObject):
    """The probe of a session and its runs. The newest run wins; those before it are dropped."""

    slice_done = Signal()
    """The slice on screen follows the last stroke."""
    whole_done = Signal()
    changed = Signal()
    """A probe is there, or a result has changed."""
    hinted = Signal(str)
    """What to paint next, or why nothing came of it."""

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self.session = session
        self.results = Results(session)
        self.probe: LinearProbe | None = None
        self.live, self.guided, self.use_hu = True, True, False
        """Follow every stroke; pull borders to edges of HU; learn from HU as well."""
        self.run: Job | None = None
        self.words = ""
        """How far the result of the scan that is shown is."""
        self._awaited: tuple[Scan, Callable[[], None]] | None = None
        self._loaded = False  # the probe came from a file: strokes are not what it was fitted on
        # At once, not after napari has drawn the stroke, which takes as long as the fit where there is no GPU;
        # what comes within the interval is answered once more at its end.
        self._debounce = QSignalDebouncer(policy=QSignalDebouncer.EmissionPolicy.Leading, parent=self)
        self._debounce.setTimeout(DEBOUNCE_MS)
        self._debounce.triggered.connect(self.update)
        painting_of(session).strokes_changed.connect(living(self._on_strokes))
        painting_of(session).taken_over.connect(living(self._on_taken_over))
        session.scans_changed.connect(living(self._fade))
        session.features_changed.connect(living(self._on_features))
        session.part_removed.connect(living(self._on_part_removed))
        session.viewer.dims.events.current_step.connect(living(self._on_slice))
        if session.active is not None:
            self._on_features(session.active)

    def ask(self, *_: object) -> None:
        """Computes now, and once more for all that is asked in the next moments."""
        self._debounce.throttle()

    def update(self) -> None:
        """Fits the strokes and segments the scan that is shown, its visible slice first."""
        scan = self.session.active
        if scan is None or scan.features is None or not scan.features.dim:
            return
        painted = [
            Painted(one.volume, one.features, one.parts["strokes"].data)
            for one in self.session.scans
            if one.features is not None and "strokes" in one.parts
        ]
        if painted or self._loaded:
            self._spoil()
            self._start(scan, painted, self.probe if self._loaded else None)

    def take(self, probe: LinearProbe, classes: list[LabelClass]) -> None:
        """Takes a probe from a file with its classes, and segments the scan that is shown with it."""
        painting_of(self.session).set_classes(classes)
        self.probe, self._loaded = probe, True
        self.update()
        self.changed.emit()

    def apply_to(self, scans: list[Scan], done: Callable[[], None]) -> Job:
        """A job that segments other scans with the probe, one after the other; not started yet."""
        probe, guided = self.probe, self.guided
        targets = [(scan.volume, scan.features) for scan in scans]

        def function(job: Job) -> None:
            for number, (volume, features) in enumerate(targets):
                labels = probe.predict(features, volume, guided=guided, cancel=job.cancelled)
                job.send((number, whole_part(labels.labels, probe)))
                job.report(number + 1, len(targets))

        def part(found: tuple[int, Part]) -> None:
            if scans[found[0]] in self.session.scans:
                self.results.replace(scans[found[0]], found[1])

        return Job("Other time points", function, owner=self, part=part, done=lambda _: done())

    def once_fresh(self, scan: Scan, then: Callable[[], None]) -> None:
        """Calls ``then`` when the whole result of ``scan`` follows the last stroke: now, or after the run that gets it
        there. The last one asked for counts; a run that fails says so, and nothing is called."""
        if self.results.is_fresh(scan):
            then()
            return
        self._awaited = (scan, then)
        self.hinted.emit("It is written as soon as the segmentation has followed the last stroke.")
        if self.run is None or not self.run.running:
            self.update()

    def _start(self, scan: Scan, painted: list[Painted], probe: LinearProbe | None) -> None:
        target, view, guided = (scan.volume, scan.features), self.results.view(scan), self.guided
        classes, use_hu = list(painting_of(self.session).classes), self.use_hu

        def function(job: Job) -> LinearProbe:
            return segment(job, painted, target, classes, view, guided, use_hu, probe)

        self.run = Job(
            f"Segmenting {scan.name}",
            function,
            owner=self,
            part=lambda part: self._on_part(scan, part),
            done=lambda found: self._on_whole(scan),
            failed=self._on_failed,
        )
        run_for(scan, self.run)

    def _spoil(self) -> None:
        if self.run is not None:
            self.run.drop()
        self.results.spoil()
        self._fade()

    def _on_strokes(self, scan: Scan) -> None:
        self._loaded = False
        self._spoil()
        if self.live:
            self.ask()

    def _on_taken_over(self, scan: Scan) -> None:
        self.hinted.emit("What you paint on the segmentation counts as strokes: it stays, and can be undone.")

    def _on_features(self, scan: Scan) -> None:
        if scan.features is not None and scan.features.dim:
            features = scan.features
            run_for(scan, Job("Making ready", lambda job: warm_up(features), owner=self))
            if scan is self.session.active:
                self.ask()

    def _on_part_removed(self, scan: Scan, role: str) -> None:
        if role == "strokes":
            self._on_strokes(scan)

    def _on_part(self, scan: Scan, part: Part) -> None:
        self.results.put(scan, part)
        if part.hint is not None:
            self.hinted.emit(part.hint)
        if part.probe is None:
            self._fade()
            return
        self.probe = part.probe
        self._fade(just_drawn=True)
        self.slice_done.emit()

    def _on_whole(self, scan: Scan) -> None:
        self.results.complete(scan)
        self._fade()
        self.whole_done.emit()
        if self._awaited is not None and self._awaited[0] is scan:
            (_, then), self._awaited = self._awaited, None
            self.hinted.emit("")
            then()

    def _on_failed(self, error: Exception) -> None:
        self._awaited = None
        self.hinted.emit(sentence("Segmenting", error))

    def _on_slice(self, event: Any) -> None:
        self._fade()

    def _fade(self, just_drawn: bool = False) -> None:
        scan = self.session.active
        self.words = self.results.fade(scan, just_drawn) if scan is not None else ""
        self.changed.emit()
