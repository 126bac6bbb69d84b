"""From a lesion to its places in the follow-up: matching, heat map, local motion and the whole-study run.

Nothing here touches Qt or a layer: :class:`Evidence` and the functions run on a worker's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions import Finding, Lesion, Mask, Study
from tapct_core.lesions.tracking import TOP_K, link_detections, propose, source_timepoint
from tapct_core.provenance import comparable

from ...torch_loading import load_torch
from ..study.timepoints import snapshot

if TYPE_CHECKING:
    from tapct_core.features import FeatureMap
    from tapct_core.matching import PointMatch, PreparedPair

    from ...session import Scan

Point = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Found:
    """What is known of one lesion at one follow-up, for display.

    ``heat`` (Z, Y, X) float32: cosine of the lesion's place with every place of the follow-up, NaN in air, on
    ``heat_geometry``. ``motion`` (4, 4), LPS mm -> LPS mm: where the patient's motion takes the lesion and what is
    round it. ``proposal`` is what goes into the study, None where a person has decided or an earlier one holds.
    """

    uid: str
    source: str
    timepoint: str
    point_lps_mm: Point
    match: PointMatch
    heat: np.ndarray = field(repr=False)
    heat_geometry: Geometry
    motion: np.ndarray
    evidence: str
    proposal: Finding | None = None

    def transform(self, place_lps_mm: Point) -> np.ndarray:
        """Affine (4, 4) LPS mm -> LPS mm that takes the lesion to ``place_lps_mm`` and its surroundings along."""
        return affine_about(self.point_lps_mm, place_lps_mm, self.motion[:3, :3])


class Evidence:
    """What matching rests on: the scans' features where both have the same encoder's, else their HU alone.

    HU-only maps are made once a scan and kept as long as it is open. Safe from several threads; who comes second
    to the same pair waits for the first instead of preparing it again.
    """

    def __init__(self) -> None:
        self._plain: WeakKeyDictionary[Scan, FeatureMap] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def maps(self, before: Scan, after: Scan) -> tuple[FeatureMap, FeatureMap]:
        """The two maps to compare."""
        a, b = before.features, after.features
        if a is not None and b is not None and comparable(a, b):
            return a, b
        return self._hu(before), self._hu(after)

    def pair(self, before: Scan, after: Scan) -> tuple[PreparedPair, FeatureMap, FeatureMap]:
        """The two scans made ready for any number of points; seconds at the first call, nothing later."""
        load_torch()
        from tapct_core.matching import prepare_pair

        with self._lock:
            a, b = self.maps(before, after)
            return prepare_pair(a, b), a, b

    def _hu(self, scan: Scan) -> FeatureMap:
        from tapct_core.embedding import embed

        if scan not in self._plain:
            self._plain[scan] = embed(scan.volume, None)
        return self._plain[scan]


def evidence_words(features: FeatureMap) -> str:
    """What a match with this map rests on, for people."""
    encoder = features.provenance.get("encoder", "")
    return f"features of {encoder} and HU" if features.dim else "HU alone"


def look_for(
    evidence: Evidence, study: Study, uid: str, timepoint: str, scan_of: Callable[[str], Scan | None], anew: bool
) -> Found:
    """Finds one lesion at one follow-up, from the latest earlier scan where a person has placed it.

    ``anew``: replace a proposal that is there already. ``study`` is not changed. Raises UserError in plain words
    when the lesion has no earlier place, a scan is not open, or the place cannot be matched.
    """
    from tapct_core.matching import match_points

    lesion = study.lesion(uid)
    source = source_timepoint(study, lesion, timepoint)
    if source is None:
        raise UserError(nothing_earlier(study, lesion, timepoint))
    before, after = scan_of(source), scan_of(timepoint)
    for name, scan in ((source, before), (timepoint, after)):
        if scan is None:
            raise UserError(f"the scan {name!r} is not open; open it again to look for {lesion.name}")
    pair, a, b = evidence.pair(before, after)
    point = lesion.findings[source].point_lps_mm
    match = match_points(a, b, [point], top_k=TOP_K)[0]
    known = lesion.findings.get(timepoint)
    proposal = None
    if known is None or (anew and not known.decided):
        proposal = propose(alone(study, uid, timepoint), timepoint, source, a, b).get(uid)
    heat, grid = heat_map(pair, np.array(point))
    motion = motion_at(pair, np.array(point))
    return Found(uid, source, timepoint, point, match, heat, grid, motion, evidence_words(a), proposal)


def alone(study: Study, uid: str, timepoint: str) -> Study:
    """The study with one lesion to find, and the others only where a person has placed them at the time point."""
    copy = snapshot(study)
    copy.lesions = [one for one in copy.lesions if one.uid == uid or _decided(one.findings.get(timepoint))]
    return copy


def _decided(finding: Finding | None) -> bool:
    return finding is not None and finding.decided


def nothing_earlier(study: Study, lesion: Lesion, timepoint: str) -> str:
    """Why there is nothing to look for at a time point, with what can be done."""
    known = lesion.findings.get(timepoint)
    if known is not None and known.state == "new":
        return f"{lesion.name} is new at {timepoint}; there is no earlier scan to compare with"
    placed = [t.name for t in study.timepoints if t.name in lesion.findings and lesion.findings[t.name].present]
    if timepoint in placed[:1]:
        return f"{lesion.name} is first marked at {timepoint}; compare a later scan"
    return f"{lesion.name} has no place before {timepoint} that a person has confirmed; mark or accept it there first"


def heat_map(pair: PreparedPair, point_lps_mm: np.ndarray) -> tuple[np.ndarray, Geometry]:
    """How alike every place of the follow-up is to a point (3,) of the baseline.

    -> cosine (Z, Y, X) float32, NaN where there is nothing to compare, and its grid: the tokens', or the HU
    descriptors' where there are no tokens. One matrix product over what is prepared already.
    """
    import torch

    name = "tokens" if "tokens" in pair.a.keys else "hu"
    keys = pair.b.keys[name]
    query = torch.nn.functional.normalize(pair.a.keys[name].sample(point_lps_mm[None]), dim=1)[0]
    flat = keys.vectors.reshape(-1, keys.vectors.shape[-1])
    lengths = _lengths(flat, keys)
    cosine = (flat @ query) / lengths.clamp_min(1e-12)
    cosine[lengths == 0] = float("nan")
    return cosine.view(keys.vectors.shape[:3]).numpy(), keys.geometry


_LENGTHS: WeakKeyDictionary = WeakKeyDictionary()
"""Length of each vector of prepared keys: they do not depend on the click."""


def _lengths(flat, keys):
    import torch

    if keys not in _LENGTHS:
        _LENGTHS[keys] = torch.linalg.vector_norm(flat, dim=1)
    return _LENGTHS[keys]


def motion_at(pair: PreparedPair, point_lps_mm: np.ndarray) -> np.ndarray:
    """The coarse motion round a point (3,) of the baseline as an affine (4, 4) LPS mm -> LPS mm of the follow-up."""
    from tapct_core.matching import STEPS

    place, linear, _ = (part[0] for part in pair.prior(STEPS).at(np.asarray(point_lps_mm, dtype=float)[None]))
    return affine_about(point_lps_mm, place, linear)


def affine_about(point: Point, place: Point, linear: np.ndarray) -> np.ndarray:
    """x -> place + linear (x - point), as (4, 4)."""
    out = np.eye(4)
    out[:3, :3] = linear
    out[:3, 3] = np.asarray(place, dtype=float) - linear @ np.asarray(point, dtype=float)
    return out


@dataclass(frozen=True, eq=False)
class Step:
    """What the whole-study run found at one time point: proposals by tracking UID, marks that they took over,
    and masks with the place from which each was grown."""

    timepoint: str
    findings: dict[str, Finding]
    absorbed: list[str]
    masks: dict[str, tuple[Point, Mask]]
    notes: list[str]

    def put_into(self, study: Study, volume) -> None:
        """Into one state of the study. What a person has decided, and what is gone by now, stays as it is."""
        if self.timepoint not in [timepoint.name for timepoint in study.timepoints]:
            return
        here = {lesion.uid for lesion in study.lesions}
        for uid, finding in self.findings.items():
            if uid in here:
                study.propose(uid, self.timepoint, finding)
        gone = [one for one in study.lesions if one.uid in self.absorbed and list(one.findings) == [self.timepoint]]
        study.lesions = [one for one in study.lesions if one not in gone or one.findings[self.timepoint].decided]
        for lesion in study.lesions:
            finding = lesion.findings.get(self.timepoint)
            point, mask = self.masks.get(lesion.uid, (None, None))
            if finding is not None and finding.mask is None and point is not None and finding.point_lps_mm == point:
                study.set_mask(lesion.uid, self.timepoint, mask, volume)


def run_all(
    evidence: Evidence,
    study: Study,
    scans: dict[str, Scan],
    report: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> Iterator[Step]:
    """Looks for all lesions at all open time points and measures what has a place; one Step a time point.

    ``study`` must be the caller's own copy: each step goes into it, so that the next rests on it. Stops between
    lesions once ``cancelled`` says so.
    """
    names = [timepoint.name for timepoint in study.timepoints if timepoint.name in scans]
    total, done = len(names) * (1 + len(study.lesions)), 0
    for name in names:
        findings, notes = {}, []
        for source in sources(study, name):
            if cancelled():
                return
            if source not in scans:
                notes.append(f"{source} is not open, so nothing was looked for from there")
                continue
            try:
                _, a, b = evidence.pair(scans[source], scans[name])
                findings |= propose(study, name, source, a, b)
            except UserError as error:
                notes.append(f"from {source} to {name}: {error}")
        done += 1
        report(done, total)
        absorbed = link_detections(study, name, findings)
        step = Step(name, findings, absorbed, {}, notes)
        step.put_into(study, scans[name].volume)
        for lesion in study.lesions:
            if cancelled():
                return
            step.masks.update(grown(lesion, name, scans[name], notes))
            done += 1
            report(done, total)
        step.put_into(study, scans[name].volume)
        yield step


def sources(study: Study, timepoint: str) -> list[str]:
    """The scans from which lesions are followed to a time point, the latest first."""
    found = {source_timepoint(study, lesion, timepoint) for lesion in study.lesions} - {None}
    return sorted(found, key=study.order, reverse=True)


def grown(lesion: Lesion, timepoint: str, scan: Scan, notes: list[str]) -> dict[str, tuple[Point, Mask]]:
    """A mask for a lesion that has a place here and none yet; why there is none goes into ``notes``."""
    from tapct_core.lesions.grow import grow_mask

    finding = lesion.findings.get(timepoint)
    if finding is None or not finding.present or finding.mask is not None or finding.measurement is not None:
        return {}
    try:
        mask = grow_mask(scan.volume, finding.point_lps_mm, scan.features)
    except UserError as error:
        notes.append(f"{lesion.name} at {timepoint} is not measured: {error}")
        return {}
    return {lesion.uid: (finding.point_lps_mm, mask)}


def to_verify(study: Study) -> list[tuple[str, str]]:
    """The review queue: (tracking UID, time point) of all that nobody has decided, in the order of time."""
    return [
        (lesion.uid, timepoint.name)
        for timepoint in study.timepoints
        for lesion in study.lesions
        if timepoint.name in lesion.findings and not lesion.findings[timepoint.name].decided
    ]
