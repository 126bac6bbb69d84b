"""From a lesion to its places in the follow-up: matching, heat map and local motion.

Nothing here touches Qt or a layer: :class:`Evidence` and the functions run on a worker's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions import Finding, Study
from tapct_core.lesions.propagation import alone, nothing_earlier
from tapct_core.lesions.tracking import TOP_K, propose, source_timepoint
from tapct_core.progress import Cancel
from tapct_core.provenance import comparable

from ...torch_loading import load_torch

if TYPE_CHECKING:
    from tapct_core.features import FeatureMap
    from tapct_core.matching import PointMatch, PreparedPair
    from tapct_core.volume import CTVolume

    from ...scan import Scan

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

    HU-only maps are made once a scan and kept as long as it is open. Safe from several threads.
    """

    def __init__(self) -> None:
        self._plain: WeakKeyDictionary[Scan, FeatureMap] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def maps(self, before: Scan, after: Scan) -> tuple[FeatureMap, FeatureMap]:
        """The two maps to compare."""
        a, b = before.features, after.features
        if a is not None and b is not None and comparable(a, b):
            return a, b
        with self._lock:
            return self._hu(before), self._hu(after)

    def pair(
        self, before: Scan, after: Scan, cancel: Cancel | None = None
    ) -> tuple[PreparedPair, FeatureMap, FeatureMap]:
        """The two scans made ready for any number of points; seconds at the first call, nothing later.

        Raises MatchingCancelled once ``cancel`` says so.
        """
        load_torch()
        from tapct_core.matching import prepare_pair

        a, b = self.maps(before, after)
        return prepare_pair(a, b, cancel=cancel), a, b

    def _hu(self, scan: Scan) -> FeatureMap:
        from tapct_core.embedding import embed

        if scan not in self._plain:
            self._plain[scan] = embed(scan.volume, None)
        return self._plain[scan]


class OpenScans:
    """The open scans of a study, by time point's name, as a run through it asks for them."""

    def __init__(self, evidence: Evidence, scans: Mapping[str, Scan]) -> None:
        self._evidence, self._scans = evidence, scans

    def __contains__(self, name: str) -> bool:
        return name in self._scans

    def volume(self, name: str) -> CTVolume:
        """The scan."""
        return self._scans[name].volume

    def features(self, name: str) -> FeatureMap | None:
        """The scan's own features, None where it has none."""
        return self._scans[name].features

    def maps(self, before: str, after: str) -> tuple[FeatureMap, FeatureMap]:
        """The two maps to compare."""
        load_torch()
        return self._evidence.maps(self._scans[before], self._scans[after])


def evidence_words(features: FeatureMap) -> str:
    """What a match with this map rests on, for people."""
    encoder = features.provenance.get("encoder", "")
    return f"features of {encoder} and HU" if features.dim else "HU alone"


def look_for(
    evidence: Evidence,
    study: Study,
    uid: str,
    timepoint: str,
    scan_of: Callable[[str], Scan | None],
    anew: bool,
    cancel: Cancel | None = None,
) -> Found:
    """Finds one lesion at one follow-up, from the latest earlier scan where a person has placed it.

    ``anew``: replace a proposal that is there already. ``study`` is not changed. Raises UserError in plain words
    when the lesion has no earlier place, lies outside that scan, or a scan is not open. A refused place is a proposal
    with its reason. Raises MatchingCancelled once ``cancel`` says so.
    """
    from tapct_core.matching import match_each

    lesion = study.lesion(uid)
    source = source_timepoint(study, lesion, timepoint)
    if source is None:
        raise UserError(nothing_earlier(study, lesion, timepoint))
    before, after = scan_of(source), scan_of(timepoint)
    for name, scan in ((source, before), (timepoint, after)):
        if scan is None:
            raise UserError(f"the scan {name!r} is not open; open it again to look for {lesion.name}")
    pair, a, b = evidence.pair(before, after, cancel)
    point = lesion.findings[source].point_lps_mm
    match = match_each(a, b, [point], top_k=TOP_K, cancel=cancel)[0]
    if not match.matches and not before.volume.geometry.contains(point):
        raise UserError(match.reason)
    known = lesion.findings.get(timepoint)
    proposal = None
    if known is None or (anew and not known.decided):
        proposal = propose(alone(study, uid, timepoint), timepoint, source, a, b, cancel).get(uid)
    heat, grid = heat_map(pair, np.array(point))
    if not match.matches:  # nothing there to be alike to
        heat[:] = np.nan
    motion = motion_at(pair, np.array(point))
    return Found(uid, source, timepoint, point, match, heat, grid, motion, evidence_words(a), proposal)


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


ALIKE = 0.8
"""Agreement of two scans under the patient's motion from which nothing speaks against one patient. Of train and dev
patients, 21 pairs of two patients reached 0.43 to 0.74, seven patients and their made-up follow-ups 0.87 to 0.93."""


def looks_like_another(pair: PreparedPair) -> str:
    """What the match itself says against two scans being of one patient, for people; "" where it says nothing."""
    from tapct_core.matching import STEPS

    agreement = pair.prior(STEPS).agreement
    return "" if agreement >= ALIKE else f"hardly looks like the scan before (agreement {agreement:.2f})"


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
