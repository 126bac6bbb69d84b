"""The time point a finding belongs to, and the lesion it becomes there. What a person has decided stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from ..errors import UserError
from ..lesions import Finding, Lesion, Mask, Study
from ..lesions.calipers import drawn_axes, set_axes
from ..lesions.measurement_check import judged
from ..lesions.recist import Measurement
from ..volume import CTVolume
from .found import Contours, Found, InSpace, OnImage, Region, Slices
from .regions import filled, from_slices, in_patient, mask_of, on_grid, resampled

MASKS = Region | Slices | Contours

BY = "imported"
"""Who has decided a finding that a file brought."""


@dataclass(frozen=True)
class Placed:
    """What became of one finding: the time point it went to ("" for none), and what was done or why nothing."""

    found: Found
    timepoint: str
    done: str

    @property
    def failed(self) -> bool:
        """Whether the study does not hold it."""
        return not self.timepoint


def merged(found: list[Found]) -> list[Found]:
    """Findings that speak of one segment, as a SEG and the report on it do, are one: the report's name and UID.

    Masks come first, so that a report's outline of one slice does not take a mask's place; role and organ that one file
    knows of a tracking UID are those of the others too.
    """
    by_segment = {one.segment: one for one in found if one.segment and not _segment_itself(one)}
    out = []
    for one in found:
        report = by_segment.get(one.segment) if one.segment and _segment_itself(one) else None
        if report is not None:
            out.append(replace(report, what=one.what, series_uids=one.series_uids | report.series_uids,
                               frame_uid=one.frame_uid or report.frame_uid))  # fmt: skip
        elif not (one.segment and not one.what and any(_segment_itself(o) and o.segment == one.segment for o in found)):
            out.append(one)
    role, organ = ({one.uid: said for one in out if (said := getattr(one, key))} for key in ("role", "organ"))
    out = [replace(one, role=role.get(one.uid, ""), organ=organ.get(one.uid, "")) for one in out]
    return sorted(out, key=lambda one: not any(isinstance(region, MASKS) for region in one.what))


def _segment_itself(one: Found) -> bool:
    return any(isinstance(region, Region | Slices) for region in one.what)


def bring(study: Study, before: Study, after: Study) -> None:
    """Put what an import has added, between ``before`` and ``after`` (a copy of it), into a study that a person may
    have gone on with meanwhile: what they have changed since stays."""
    old = {lesion.uid: lesion.findings for lesion in before.lesions}
    names = {timepoint.name for timepoint in study.timepoints}
    for lesion in after.lesions:
        mine = next((one for one in study.lesions if one.uid == lesion.uid), None)
        if mine is None and lesion.uid in old:
            continue  # deleted meanwhile
        found = {
            name: finding
            for name, finding in lesion.findings.items()
            if finding != old.get(lesion.uid, {}).get(name) and name in names
        }
        if mine is None and found:
            mine = replace(lesion, findings={})
            study.lesions.append(mine)
        for name, finding in found.items():
            if mine.findings.get(name) == old.get(lesion.uid, {}).get(name):
                mine.findings[name] = finding


def belongs(study: Study, name: str, volume: CTVolume, found: Found, timepoint: str) -> bool:
    """Whether a finding is of this time point: by its own word, the images, series or frame it names, or a person's."""
    if found.timepoint:
        return found.timepoint == name
    named = found.series_uids | found.image_uids | ({found.frame_uid} - {""})
    series = volume.source.dicom
    if not named or series is None:
        return timepoint == name or (not named and not timepoint and len(study.timepoints) == 1)
    if series.series_instance_uid in found.series_uids or found.image_uids & set(series.sop_instance_uids):
        return True
    elsewhere = any(t.series_uid in found.series_uids for t in study.timepoints if t.series_uid)
    return bool(found.frame_uid) and found.frame_uid == series.frame_of_reference_uid and not elsewhere


def lies_on(found: Found, volume: CTVolume) -> bool:
    """Whether a label map's finding, which names no scan, lies on the scan's own voxels."""
    regions = [one for one in found.what if isinstance(one, Region)]
    return bool(regions) and all(on_grid(one.geometry, volume.geometry) for one in regions)


def place(study: Study, name: str, volume: CTVolume, found: Found) -> Placed:
    """Put a finding into the study at a time point; Placed says what was done, or why it could not be."""
    try:
        if found.state:
            return Placed(found, name, _absent(study, name, found))
        point, mask, measured = _shape(volume, found)
        if not volume.geometry.contains(np.array(point)):
            raise UserError("it lies outside the scan")
        return Placed(found, name, _present(study, name, volume, found, point, mask, measured))
    except UserError as error:
        return Placed(found, "", str(error))


def _shape(volume: CTVolume, found: Found) -> tuple[tuple, Mask | None, Measurement | None]:
    """(point LPS mm, mask, measurement) of a finding on the scan. Raises UserError where it has no place in it."""
    drawn: list[InSpace] = []
    for one in found.what:
        if isinstance(one, MASKS):
            whole = _voxels(one, volume)
            if not whole.any():
                raise UserError("none of its voxels lie in the scan")
            mask = Mask.from_array(whole)
            return _inside(mask, volume), mask, mask.measure(volume)
        here = in_patient(one, volume) if isinstance(one, OnImage) else one
        if here is not None:
            drawn.append(here)
    lines = [one.points for one in drawn if len(one.points) == 2]
    if found.drawn and len(lines) == 2:
        measured = drawn_axes(volume, *lines)
        return tuple(np.mean(measured.long_axis_ends, axis=0).tolist()), None, measured
    if not drawn:
        reason = "the SEG it speaks of was not given" if found.segment else "it has no region in this scan"
        raise UserError(reason)
    shape = mask_of(drawn, volume)
    if shape is not None:
        return _inside(shape[0], volume), *shape
    return tuple(float(c) for c in drawn[0].points.mean(axis=0)), None, None


def _voxels(what: MASKS, volume: CTVolume) -> np.ndarray:
    """A mask of another program on the scan's voxels (z, y, x) bool."""
    if isinstance(what, Slices):
        return from_slices(what, volume)
    return resampled(what, volume.geometry) if isinstance(what, Region) else filled(what, volume.geometry)


def _inside(mask: Mask, volume: CTVolume) -> tuple[float, float, float]:
    """The centre of the voxel of a mask that is nearest to its centroid, LPS mm."""
    index = np.argwhere(mask.voxels) + mask.start
    places = volume.geometry.to_world(index)
    nearest = places[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()]
    return tuple(float(c) for c in nearest)


def _lesion(study: Study, found: Found) -> Lesion:
    """The study's lesion of the tracking UID, made where there is none, under a name that no other has."""
    for lesion in study.lesions:
        if lesion.uid == found.uid:
            return lesion
    taken = {lesion.name for lesion in study.lesions}
    name = next(n for k in range(1, 10**6) if (n := found.name if k == 1 else f"{found.name} ({k})") not in taken)
    lesion = Lesion(name, found.uid, role=found.role, organ=found.organ)
    study.lesions.append(lesion)
    return lesion


def _decision(found: Found) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"decided_by": BY, "decided_at": now} if found.decided else {}


def _absent(study: Study, name: str, found: Found) -> str:
    known = next((one for one in study.lesions if one.uid == found.uid and name in one.findings), None)
    if known is not None and known.findings[name].decided:
        return "already decided there, left as it is"
    lesion = _lesion(study, found)
    lesion.findings[name] = Finding(found.state, comment=found.comment, **_decision(found))
    return found.state


def _present(study: Study, name: str, volume: CTVolume, found: Found, point: tuple, mask, measured) -> str:
    what = f"mask of {measured.volume_ml:.2f} ml, long axis {measured.long_axis_mm:.1f} mm" if mask else "point"
    axes_alone = measured is not None and measured.drawn
    if axes_alone:
        what = f"drawn axes, {measured.long_axis_mm:.1f} × {measured.short_axis_mm:.1f} mm"
    lesion = _lesion(study, found)
    known = lesion.findings.get(name)
    if axes_alone and known is not None and known.present and (known.measurement is None or known.decided_by == BY):
        ends = measured.long_axis_ends, measured.short_axis_ends
        measured = drawn_axes(volume, *ends, known.mask)  # the mask came in a file of its own
        set_axes(study, lesion.uid, name, measured, known.decided_by or BY)
        return f"{what}, to what was there"
    if known is not None and known.decided:
        if not known.present or known.mask is not None or mask is None:
            return "already decided there, left as it is"
        lesion.findings[name] = replace(known, mask=mask, mask_by="person", measurement=measured, measured_by="")
        return f"{what}, to the point that was there{_doubts(study, lesion, name, volume)}"
    first = study.order(name) == 0 or any(study.order(t) < study.order(name) for t in lesion.findings)
    state = ("accepted" if first else "new") if found.decided else "proposed"
    lesion.findings[name] = Finding(
        state, point, mask=mask, mask_by=("person" if found.decided else "grown") if mask else "",
        measurement=measured, measured_by=BY if axes_alone and found.decided else "",
        comment=found.comment, **_decision(found),
    )  # fmt: skip
    return what + _doubts(study, lesion, name, volume)


def _doubts(study: Study, lesion: Lesion, name: str, volume: CTVolume) -> str:
    """Judges the measurement that came, and says where it counts only once a person has confirmed it."""
    finding = judged(study, lesion, name, volume)
    if finding is None:
        return ""
    lesion.findings[name] = finding
    return f"; to be confirmed: {'; '.join(finding.plausibility.doubts)}" if finding.doubtful else ""
