"""Axes that a person draws or corrects: their lengths in mm from place to place, whatever the voxels are.

RECIST 1.1 reads the longest diameter in the plane of measurement, and of a node the longest one at right angles to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import UserError
from ..volume import CTVolume
from .finding import Finding, Mask
from .recist import Measurement
from .study import Study

SHORTEST_MM = 0.1


def drawn_axes(volume: CTVolume, first: Sequence, second: Sequence, mask: Mask | None = None) -> Measurement:
    """Of two drawn lines, each two ends (2, 3) in LPS mm, the longer one is the long axis.

    Volume and HU are those of ``mask``, and None without one. Raises UserError for ends outside the scan and for a
    line without a length.
    """
    lines = sorted((_ends(line, volume) for line in (first, second)), key=length_mm, reverse=True)
    measured = mask.measure(volume) if mask is not None else None
    middle = volume.geometry.to_index(lines[0].mean(axis=0))
    return Measurement(
        long_axis_mm=length_mm(lines[0]),
        short_axis_mm=length_mm(lines[1]),
        volume_ml=measured.volume_ml if measured is not None else None,
        mean_hu=measured.mean_hu if measured is not None else None,
        sd_hu=measured.sd_hu if measured is not None else None,
        slice_index=int(np.clip(np.rint(middle[0]), 0, volume.geometry.shape[0] - 1)),
        long_axis_ends=_points(lines[0]),
        short_axis_ends=_points(lines[1]),
        drawn=True,
    )


def set_axes(study: Study, uid: str, timepoint: str, measured: Measurement, by: str) -> Finding:
    """A person has drawn a lesion's axes: they count as they are, whatever a mask says. The place is accepted.

    Raises UserError where the lesion has no place at the time point.
    """
    finding = study.finding(uid, timepoint)
    if not finding.present:
        raise UserError("place the lesion first; then draw its axes")
    if not finding.decided:
        study.accept(uid, timepoint, by)
    facts = {"measurement": measured, "measured_by": by.strip(), "plausibility": None, "too_small": False}
    finding = replace(study.finding(uid, timepoint), **facts)
    study.lesion(uid).findings[timepoint] = finding
    return finding


def axes_of_mask(study: Study, uid: str, timepoint: str, volume: CTVolume) -> Finding:
    """Goes back from drawn axes to those of the mask, or to none where there is no mask."""
    finding = study.finding(uid, timepoint)
    measured = finding.mask.measure(volume) if finding.mask is not None else None
    finding = replace(finding, measurement=measured, measured_by="", plausibility=None)
    study.lesion(uid).findings[timepoint] = finding
    return finding


def perpendicular(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``second`` (2, 3) turned to stand at right angles on ``first`` in the plane of both: its end moves, mm."""
    along = (first[1] - first[0]) / max(length_mm(first), 1e-9)
    step = second[1] - second[0]
    return np.stack([second[0], second[1] - (step @ along) * along])


def length_mm(ends: np.ndarray) -> float:
    """From end to end (2, 3), mm."""
    return float(np.linalg.norm(ends[1] - ends[0]))


def _ends(line: Sequence, volume: CTVolume) -> np.ndarray:
    ends = np.asarray(line, dtype=np.float64)
    if ends.shape != (2, 3) or not np.isfinite(ends).all():
        raise UserError("an axis is two points, x y z in LPS mm")
    if not all(volume.geometry.contains(end) for end in ends):
        raise UserError("an end of the axis lies outside the scan; draw it inside")
    if length_mm(ends) < SHORTEST_MM:
        raise UserError("the ends of the axis lie at one place; draw it across the lesion")
    return ends


def _points(ends: np.ndarray) -> tuple:
    return tuple(tuple(map(float, end)) for end in ends)
