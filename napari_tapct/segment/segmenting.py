"""From strokes to results on one session: when to compute, with what, and which run still counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, Signal
from superqt.utils import QSignalDebouncer

from ..callbacks import living
from ..jobs import Job, sentence
from ..painting import LabelClass, painting_of
from ..scan import Scan
from ..session import Session, run_for
from .live import Part, delineate, fitted, predict, warm_up, whole_part
from .results import Results
from .strokes import Painted, stroke_labels

if TYPE_CHECKING:
    from tapct_core.delineation.engine import Delineation
    from tapct_core.probe import LinearProbe

DEBOUNCE_MS = 15


class Segmenting(QObject):
    """The results of a session and their runs. The newest run wins; those before it are dropped.

    A scan's own strokes decide. Where a scan has none, or a probe was loaded, the probe (of the strokes on other
    scans, or the loaded one) says what places look like, and strokes correct it.
    """

    slice_done = Signal()
    """The slice on screen follows the last stroke."""
    whole_done = Signal()
    changed = Signal()
    """A result, or what it is made with, has changed."""
    hinted = Signal(str)
    """What to paint next, or why nothing came of it."""

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self.session = session
        self.results = Results(session)
        self.probe: LinearProbe | None = None
        """One that was loaded."""
        self.live, self.alone = True, False
        """Follow every stroke; show what a linear probe says alone, without edges of the image."""
        self.run: Job | None = None
        self.words = ""
        """How far the result of the scan that is shown is."""
        self._delineations: WeakKeyDictionary[Scan, Delineation] = WeakKeyDictionary()
        self._awaited: tuple[Scan, Callable[[], None]] | None = None
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

    @property
    def painted(self) -> list[Painted]:
        """The scans with strokes."""
        found = [_painted(scan) for scan in self.session.scans]
        return [one for one in found if one is not None and one.strokes.any()]

    @property
    def answered(self) -> Delineation | None:
        """What is known of the scan that is shown, and how surely; None before its first whole result."""
        scan = self.session.active
        found = self._delineations.get(scan) if scan is not None else None
        return found if found is not None and found.answer is not None else None

    def update(self) -> None:
        """Segments the scan that is shown from the strokes, its visible slice first. The newest call wins."""
        scan = self.session.active
        if scan is not None and (self.painted or self.probe is not None):
            self._spoil()
            self._start(scan)

    def take(self, probe: LinearProbe | None, classes: list[LabelClass] | None = None) -> None:
        """Takes a probe from a file with its classes, or lets it go, and segments the scan that is shown."""
        if classes:
            painting_of(self.session).set_classes(classes)
        self.probe = probe
        self.update()
        self.changed.emit()

    def learned(self, job: Job) -> LinearProbe:
        """The probe that was loaded, else one of all strokes; on a worker's thread. Raises UserError without enough."""
        return self.probe or fitted(job, self.painted, list(painting_of(self.session).classes))

    def apply_to(self, scans: list[Scan], done: Callable[[], None]) -> Job:
        """A job that segments other scans with what was learned, one after the other; not started yet."""
        classes = list(painting_of(self.session).classes)
        painted = [_painted(scan) for scan in scans]

        def function(job: Job) -> None:
            from tapct_core.delineation.engine import Delineation

            probe = self.learned(job)
            for number, (scan, own) in enumerate(zip(scans, painted, strict=True)):
                strokes = stroke_labels(own, classes) if own is not None else None
                labels = Delineation(scan.volume, scan.features, probe).run(strokes, job.cancelled).labels
                job.send((number, whole_part(labels)))
                job.report(number + 1, len(scans))

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

    def _start(self, scan: Scan) -> None:
        classes, view, alone = list(painting_of(self.session).classes), self.results.slice_shown(scan), self.alone
        own, loaded, painted = _painted(scan), self.probe, self.painted

        def function(job: Job) -> Delineation | None:
            strokes = stroke_labels(own, classes) if own is not None else None
            if alone:
                probe = loaded or fitted(job, painted, classes)
                predict(job, probe, scan.volume, scan.features, strokes, view)
                return None
            # Strokes of this scan are enough; without any, those on other scans tell by a probe.
            probe = loaded if loaded is not None or strokes is not None else fitted(job, painted, classes)
            delineation = self._delineation(scan, probe)
            delineate(job, delineation, strokes, classes, view)
            return delineation

        self.run = Job(
            f"Segmenting {scan.name}",
            function,
            owner=self,
            part=lambda part: self._on_part(scan, part),
            done=lambda found: self._on_whole(scan),
            failed=self._on_failed,
        )
        run_for(scan, self.run)

    def _delineation(self, scan: Scan, probe: LinearProbe | None) -> Delineation:
        """That of a scan, kept as long as its features and the probe are the same."""
        from tapct_core.delineation.engine import Delineation

        features = scan.features if scan.features is not None and scan.features.dim else None
        found = self._delineations.get(scan)
        if found is None or found.features is not features or found.probe is not probe:
            found = self._delineations[scan] = Delineation(scan.volume, features, probe)
        return found

    def _spoil(self) -> None:
        if self.run is not None:
            self.run.drop()
        self.results.spoil()
        self._fade()

    def _on_strokes(self, scan: Scan) -> None:
        self._spoil()
        if self.live:
            self.ask()

    def _on_taken_over(self, scan: Scan) -> None:
        self.hinted.emit("What you paint on the segmentation counts as strokes: it stays, and can be undone.")

    def _on_features(self, scan: Scan) -> None:
        run_for(scan, Job("Making ready", lambda job: warm_up(self._delineation(scan, self.probe)), owner=self))
        if scan is self.session.active:
            self.ask()

    def _on_part_removed(self, scan: Scan, role: str) -> None:
        if role == "strokes":
            self._on_strokes(scan)

    def _on_part(self, scan: Scan, part: Part) -> None:
        first = self.results.put(scan, part)
        if part.hint is not None:
            self.hinted.emit(part.hint)
        self._fade(just_drawn=first)
        if first:
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


def _painted(scan: Scan) -> Painted | None:
    layer = scan.parts.get("strokes")
    return Painted(scan.volume, scan.features, layer.data) if layer is not None else None
