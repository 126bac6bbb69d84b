"""A patient's lesions through time: Study -> Timepoint, and Study -> Lesion -> one Finding a time point.

A Lesion keeps one tracking UID through all time points. What the computer finds is a proposal until a person
decides; what a person has decided, no program changes. Places are LPS mm of the time point's own scan.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from ..errors import UserError
from ..volume import CTVolume
from . import states
from .finding import Finding, Mask, Plausibility
from .recist import Measurement, Point
from .states import ABSENT, State

ROLES = ("target", "non-target", "")
RECIST = "RECIST 1.1"
"""The criterion of a study that names none."""
SURELY_GONE = 0.8
"""From this probability on, accepting a proposed disappearance is enough; below it a person says so expressly."""


@dataclass
class Lesion:
    """One lesion through time; ``findings`` by time point's name. ``uid`` is its DICOM Tracking Unique Identifier."""

    name: str
    uid: str = field(default_factory=lambda: new_uid())
    role: str = ""
    organ: str = ""
    node: bool = False
    findings: dict[str, Finding] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What only a person can say of a whole time point: who said it, when (ISO 8601, UTC), and why if they wrote it."""

    by: str
    at: str
    note: str = ""


@dataclass
class Timepoint:
    """A scan: where it lies (as the study's file says it), which series, and when (YYYY-MM-DD or "").

    ``non_target_progress`` is a person's word that the non-target lesions have unequivocally progressed here
    (RECIST 1.1, 4.3.4: an overall level of substantial worsening). No program says it. ``no_recurrence`` is a person's
    word that what came back here after a complete response, or a new node below 15 mm, is no progression yet.
    """

    name: str
    path: str
    date: str = ""
    series_uid: str = ""
    non_target_progress: Judgement | None = None
    no_recurrence: Judgement | None = None
    reading: dict[str, float] = field(default_factory=dict)
    """What a person said of the scan, without which it does not open: ``hu_offset``, ``phase``, ``resample``."""


@dataclass
class Study:
    """A patient's scans in the order of time, and lesions. ``patient_key`` tells patients apart, it is no name.

    ``criterion`` is the name of what response is assessed by (:data:`tapct_core.lesions.criteria.CRITERIA`).
    """

    patient_key: str
    timepoints: list[Timepoint] = field(default_factory=list)
    lesions: list[Lesion] = field(default_factory=list)
    criterion: str = RECIST

    def lesion(self, uid: str) -> Lesion:
        """The lesion of a tracking UID. Raises UserError if there is none."""
        for lesion in self.lesions:
            if lesion.uid == uid:
                return lesion
        raise UserError(f"the study has no lesion {uid}")

    def order(self, timepoint: str) -> int:
        """Place of a time point in time, from 0. Raises UserError for an unknown name."""
        names = [t.name for t in self.timepoints]
        if timepoint not in names:
            raise UserError(f"the study has no time point {timepoint!r}; it has {', '.join(names) or 'none'}")
        return names.index(timepoint)

    def add_lesion(self, name: str, timepoint: str, point: Point, by: str, **facts) -> Lesion:
        """A person marks a lesion: accepted at the first time point, new at a later one."""
        state = "accepted" if self.order(timepoint) == 0 else "new"
        lesion = Lesion(name, **facts)
        lesion.findings[timepoint] = Finding(state, _point(point), *_decision(by))
        self.lesions.append(lesion)
        return lesion

    def propose(self, uid: str, timepoint: str, finding: Finding) -> bool:
        """Put a proposal into the study; False, and nothing changed, where a person has already decided."""
        self.order(timepoint)
        lesion, known = self.lesion(uid), self.lesion(uid).findings.get(timepoint)
        if known is not None and (known.decided or known.mask_by == "person"):
            return False
        lesion.findings[timepoint] = finding
        return True

    def accept(self, uid: str, timepoint: str, by: str) -> Finding:
        """A person says the proposal is right: proposed becomes accepted, disappeared becomes not present.

        New, split and merged keep their name and gain who decided. Accepts the place, not a doubtful measurement.
        Raises UserError where nothing was proposed, and for a disappearance that is not sure, which :meth:`not_present`
        says.
        """
        finding = self.finding(uid, timepoint)
        gone = finding.gone_probability
        if finding.state == "disappeared" and gone is not None and gone < SURELY_GONE - 1e-9:
            raise UserError(
                f"it has gone with a probability of {gone:.0%} only; look at the candidates, "
                "then say that it is not present, or where it is"
            )
        becomes = {"proposed": "accepted", "disappeared": "not present"}
        state = becomes.get(finding.state, finding.state)
        if state not in ABSENT and finding.point_lps_mm is None:
            raise UserError("nothing was proposed here to accept; place the lesion, or set it to not present")
        return self._decide(uid, timepoint, finding, by, state=state)

    def move(self, uid: str, timepoint: str, point: Point, by: str) -> Finding:
        """A person puts the lesion elsewhere; a mask that does not belong to the new place goes."""
        finding = self.lesion(uid).findings.get(timepoint, Finding())
        return self._decide(
            uid,
            timepoint,
            finding,
            by,
            state="moved",
            point_lps_mm=_point(point),
            **_UNMEASURED,
        )

    def not_present(self, uid: str, timepoint: str, by: str) -> Finding:
        """A person says the lesion is not there."""
        return self.say(uid, timepoint, "not present", by)

    def say(self, uid: str, timepoint: str, state: State, by: str) -> Finding:
        """A person says one of :data:`~tapct_core.lesions.states.SAID`; where there is nothing, its place goes.

        Raises UserError where the state needs a place that the lesion has not got.
        """
        if state not in states.SAID:
            raise UserError(f"{state} is not said by a word alone; it is one of {', '.join(states.SAID)}")
        finding = self.lesion(uid).findings.get(timepoint, Finding())
        if state in ABSENT:
            gone = {"point_lps_mm": None, "related": (), **_UNMEASURED}
            return self._decide(uid, timepoint, finding, by, state=state, **gone)
        if finding.point_lps_mm is None:
            raise UserError(f"place the lesion first; then say that it is {state}")
        return self._decide(uid, timepoint, finding, by, state=state)

    def too_small(self, uid: str, timepoint: str, by: str) -> Finding:
        """A person says that the lesion is there, at the place it has, and too small to be measured."""
        finding = self.finding(uid, timepoint)
        if finding.point_lps_mm is None:
            raise UserError("place the lesion first; then say that it is too small to be measured")
        state = "accepted" if finding.state == "proposed" else finding.state
        return self._decide(uid, timepoint, finding, by, state=state, **(_UNMEASURED | {"too_small": True}))

    def confirm_measurement(self, uid: str, timepoint: str, by: str) -> Finding:
        """A person says that a doubtful measurement is right as it is drawn."""
        finding = self.finding(uid, timepoint)
        if finding.measurement is None:
            raise UserError("nothing is measured here to confirm; grow or draw the lesion first")
        finding = replace(finding, measured_by=_decision(by)[0])
        self.lesion(uid).findings[timepoint] = finding
        return finding

    def set_comment(self, uid: str, timepoint: str, words: str) -> Finding:
        """What a reader wants to keep with a finding, in words."""
        finding = replace(self.finding(uid, timepoint), comment=words.strip())
        self.lesion(uid).findings[timepoint] = finding
        return finding

    def relate(self, uid: str, timepoint: str, state: State, other: str, by: str) -> Finding:
        """A person says the lesion was split from, or has merged into, ``other`` (a tracking UID)."""
        if state not in ("split", "merged") or other == uid:
            raise UserError("a lesion is split from, or merged into, another lesion")
        self.lesion(other)
        return self._decide(uid, timepoint, self.finding(uid, timepoint), by, state=state, related=(other,))

    def judge_non_targets(self, timepoint: str, progressed: bool, by: str, note: str = "") -> Judgement | None:
        """A person says that the non-targets have unequivocally progressed at a follow-up, or takes that back.

        Raises UserError at the baseline, and where the study has no non-target lesion.
        """
        order = self.order(timepoint)
        if progressed and order == 0:
            raise UserError("nothing can have progressed at the baseline; choose a follow-up")
        if progressed and not any(lesion.role == "non-target" for lesion in self.lesions):
            raise UserError("the study has no non-target lesion; give a lesion that role first")
        self.timepoints[order].non_target_progress = Judgement(*_decision(by), note.strip()) if progressed else None
        return self.timepoints[order].non_target_progress

    def judge_recurrence(self, timepoint: str, progressed: bool, by: str, note: str = "") -> Judgement | None:
        """A person says that what came back, or a new node below 15 mm, is no progression here; or takes that back."""
        order = self.order(timepoint)
        if order == 0:
            raise UserError("nothing can have come back at the baseline; choose a follow-up")
        said = None if progressed else Judgement(*_decision(by), note.strip())
        self.timepoints[order].no_recurrence = said
        return said

    def set_mask(self, uid: str, timepoint: str, mask: Mask, volume: CTVolume, by: str = "") -> Finding:
        """Give a finding its mask and measure it; ``by`` empty for a grown one, a person's hand is never replaced."""
        return self.put_mask(uid, timepoint, mask, mask.measure(volume), by)

    def put_mask(
        self,
        uid: str,
        timepoint: str,
        mask: Mask,
        measurement: Measurement,
        by: str = "",
        plausibility: Plausibility | None = None,
    ) -> Finding:
        """As :meth:`set_mask`, with a mask that was measured, and its measurement judged, elsewhere.

        Axes that a person has drawn stay when a mask is grown round them.
        """
        finding = self.finding(uid, timepoint)
        if finding.mask_by == "person" and not by:
            return finding
        known = finding.measurement
        drawn = known is not None and known.drawn and not by
        if drawn:  # no program changes what a person has drawn
            of_mask = {key: getattr(measurement, key) for key in ("volume_ml", "mean_hu", "sd_hu")}
            known = replace(known, **of_mask)
        finding = replace(
            finding,
            mask=mask,
            mask_by="person" if by else "grown",
            measurement=known if drawn else measurement,
            plausibility=plausibility,
            measured_by=finding.measured_by if drawn else "",
            too_small=False,
        )
        self.lesion(uid).findings[timepoint] = finding
        return finding

    def finding(self, uid: str, timepoint: str) -> Finding:
        """A lesion's finding. Raises UserError where there is none."""
        self.order(timepoint)
        lesion = self.lesion(uid)
        if timepoint not in lesion.findings:
            raise UserError(f"lesion {lesion.name} has no finding at {timepoint}; place it, or run `tapct track`")
        return lesion.findings[timepoint]

    def _decide(self, uid: str, timepoint: str, finding: Finding, by: str, **changes) -> Finding:
        self.order(timepoint)
        who, when = _decision(by)
        decided = replace(finding, decided_by=who, decided_at=when, **changes)
        self.lesion(uid).findings[timepoint] = decided
        return decided


_UNMEASURED = {
    "mask": None,
    "mask_by": "",
    "measurement": None,
    "plausibility": None,
    "measured_by": "",
    "too_small": False,
}
"""What a finding loses with its place."""


def new_uid() -> str:
    """A DICOM UID made from a random UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def _decision(by: str) -> tuple[str, str]:
    if not by.strip():
        raise UserError("say who decides: initials or a role will do")
    return by.strip(), datetime.now(UTC).isoformat(timespec="seconds")


def _point(point: Point) -> Point:
    values = tuple(float(c) for c in point)
    if len(values) != 3 or not np.isfinite(values).all():
        raise UserError("a lesion's place is three finite numbers, x y z in LPS mm")
    return values
