"""Looking for the selected lesion whenever it, the follow-up or what is known of it changes; the whole-study run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from tapct_core.lesions import Finding, Study
from tapct_core.lesions.propagation import Step, nothing_earlier, refusals, run_all, summary
from tapct_core.lesions.timepoints import snapshot
from tapct_core.lesions.tracking import source_timepoint

from ...callbacks import living
from ...jobs import Job, JobBar, sentence
from .finder import Evidence, Found, OpenScans, look_for, looks_like_another, motion_at

if TYPE_CHECKING:
    from ...scan import Scan
    from ...session import Session
    from ..study.editor import StudyEditor


class Search(QObject):
    """One editor's searches. Proposals go into the study by themselves; what is drawn is up to who listens."""

    shown = Signal(object)
    """The :class:`Found` of the selected lesion at the compared time point is there; None: it is not, or not yet."""
    said = Signal(str)
    """Why there is nothing to show, or what is being done."""
    ready = Signal(object)
    """A pair is prepared: the coarse motion at the middle of the earlier scan, (4, 4) LPS mm -> LPS mm."""
    doubted = Signal(str, str)
    """A time point whose scan may be of another patient, and what the match says of it; "" for nothing."""
    finished = Signal(str, list)
    """The whole-study run has ended: how many were found and how many not, and what is to be said of single ones."""

    def __init__(self, session: Session, editor: StudyEditor, bar: JobBar, parent: QObject) -> None:
        super().__init__(parent)
        self.session, self.editor, self.bar = session, editor, bar
        self.evidence = Evidence()
        self.found: Found | None = None
        self._key: tuple | None = None
        self._made: dict[tuple[str, str], tuple] = {}
        """What the proposals of this session rest on, so that they are made anew when it changes."""
        self._job: Job | None = None
        self._run: Job | None = None
        for signal in (editor.selection_changed, editor.timepoint_changed, editor.changed):
            signal.connect(living(self.look))
        session.features_changed.connect(living(self._on_features))

    # One lesion.

    def look(self) -> None:
        """Looks for the selected lesion at the compared time point, if that was not done already."""
        key = self._what()
        if key == self._key:
            return
        self._key, self.found = key, None
        if self._job is not None:
            self._job.drop()
        self.shown.emit(None)
        uid, timepoint = self.editor.selected, self.editor.timepoint
        if timepoint is None:
            self.said.emit("Open a second scan of the patient, the follow-up.")
        elif uid is None:
            self._get_ready()
        else:
            self._look_for(uid, timepoint, key)

    def _what(self) -> tuple:
        """All that decides what is found."""
        uid, timepoint, study = self.editor.selected, self.editor.timepoint, self.editor.study
        source, point = self._first_scan(), None
        if uid is not None and timepoint is not None:
            source = source_timepoint(study, study.lesion(uid), timepoint)
            point = study.lesion(uid).findings[source].point_lps_mm if source else None
        scans = self.editor.scan_of(source), self.editor.scan_of(timepoint)
        other = self.editor.of_different_patients(source, timepoint)
        return uid, timepoint, source, point, *(scan and (id(scan), id(scan.features)) for scan in scans), other

    def _first_scan(self) -> str | None:
        """The earliest open scan but the compared one."""
        names = [t.name for t in self.editor.study.timepoints if self.editor.scan_of(t.name) is not None]
        return next((name for name in names if name != self.editor.timepoint), None)

    def _look_for(self, uid: str, timepoint: str, key: tuple) -> None:
        study, editor, made = snapshot(self.editor.study), self.editor, self._made.get((uid, timepoint))
        if key[2] is None:
            self.said.emit(nothing_earlier(study, study.lesion(uid), timepoint) + ".")
            return
        if self._of_different_patients(key[2], timepoint):
            return
        scans = {name: editor.scan_of(name) for name in (key[2], timepoint)}
        anew = made is not None and made != key

        def done(found: Found) -> None:
            if found.proposal is not None:
                self._made[uid, timepoint] = key
                editor.note(lambda study: put(study, found))
            self.found = found
            self.shown.emit(found)

        def failed(error: Exception) -> None:
            self.said.emit(_capital(sentence("Looking for the lesion", error)))

        self.said.emit("Looking …")
        self._job = Job(
            f"Looking for {study.lesion(uid).name}",
            lambda job: look_for(self.evidence, study, uid, timepoint, scans.get, anew, job.cancelled),
            owner=self,
            done=done,
            failed=failed,
        )
        self._start(self._job, [scan for scan in scans.values() if scan is not None])

    def _get_ready(self) -> None:
        """Prepares the pair that will be compared, so that the first click need not wait."""
        before, after = self.editor.scan_of(self._first_scan()), self.editor.scan_of(self.editor.timepoint)
        if before is None or after is None:
            self.said.emit("Open the scans to compare.")
            return
        if self._of_different_patients(self._first_scan(), self.editor.timepoint):
            return

        def function(job: Job) -> tuple[np.ndarray, str]:
            pair, _, _ = self.evidence.pair(before, after, job.cancelled)
            middle = before.volume.geometry.to_world((np.array(before.volume.hu.shape) - 1) / 2)
            return motion_at(pair, middle), looks_like_another(pair)

        def done(known: tuple[np.ndarray, str]) -> None:
            motion, doubt = known
            self.said.emit("")
            self.doubted.emit(self.editor.timepoint_of(after) or "", doubt)
            self.ready.emit(motion)

        def failed(error: Exception) -> None:
            self.said.emit(_capital(sentence("Getting ready", error)))

        self.said.emit("Getting the two scans ready; you can mark lesions meanwhile.")
        self._job = Job("Getting ready", function, owner=self, done=done, failed=failed)
        self._start(self._job, [before, after])

    def _of_different_patients(self, *names: str) -> bool:
        """Says why two scans are not compared, if they seem to be of two patients."""
        why = self.editor.of_different_patients(*names)
        if why:
            self.said.emit(f"⚠ Not compared: {why}.")
        return bool(why)

    def _start(self, job: Job, scans: list[Scan]) -> None:
        if self._run is None or not self._run.running:
            self.bar.watch(job)
        for scan in scans:
            scan.jobs = {one for one in scan.jobs if one.running} | {job}
        job.start()

    def _on_features(self, scan: Scan) -> None:
        self.look()

    # The whole study.

    @property
    def is_ready(self) -> bool:
        """Whether nothing is being prepared or looked for, so that a click is answered at once."""
        return self._job is not None and not self._job.running

    @property
    def running(self) -> bool:
        """Whether the whole-study run is going on."""
        return self._run is not None and self._run.running

    def run_all(self) -> Job | None:
        """Looks for every lesion at every open time point, in the background; None while it does so already."""
        if self.running:
            return None
        editor, study = self.editor, snapshot(self.editor.study)
        scans = {t.name: editor.scan_of(t.name) for t in study.timepoints if editor.scan_of(t.name) is not None}
        others = editor.other_patients
        scans = {name: scan for name, scan in scans.items() if name not in others}
        notes = [f"{t.name} is not open" for t in study.timepoints if t.name not in {*scans, *others}]
        notes += [f"{name} was left out: it has {why} than the first scan" for name, why in others.items()]

        def function(job: Job) -> None:
            for step in run_all(study, OpenScans(self.evidence, scans), job.report, job.cancelled):
                job.send(step)

        findings: list[Finding] = []

        def part(step: Step) -> None:
            notes.extend([*step.failures, *refusals(study, step), *step.notes])
            findings.extend(step.findings.values())
            editor.note(step.put_into)

        def ended() -> None:
            self.finished.emit(summary(findings) if findings else "Nothing new was looked for", notes)

        self._run = Job("Looking for all lesions", function, owner=self, part=part, ended=ended)
        self.bar.watch(self._run)
        return self._run.start()


def put(study: Study, found: Found) -> None:
    """A proposal into one state of the study; nothing where its lesion or time point is gone."""
    known = found.uid in [lesion.uid for lesion in study.lesions]
    if known and found.timepoint in [timepoint.name for timepoint in study.timepoints]:
        study.propose(found.uid, found.timepoint, found.proposal)


def _capital(words: str) -> str:
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else words + "."
