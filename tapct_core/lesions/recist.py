"""RECIST 1.1 by number: what is measured of a lesion's mask, and what the sums of diameters say. Research use only.

Source: Eisenhauer et al., New response evaluation criteria in solid tumours: revised RECIST guideline
(version 1.1), Eur J Cancer 45 (2009) 228-247.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..geometry import Geometry

MOST_TARGETS, MOST_PER_ORGAN = 5, 2
SMALLEST_TARGET_MM, SMALLEST_NODE_MM, NORMAL_NODE_MM = 10.0, 15.0, 10.0
"""Longest diameter of a target, short axis of a nodal target; a node with a shorter short axis is normal."""
THICK_SLICE_MM = 5.0
"""Above it, a target must measure at least two slice thicknesses."""
PARTIAL, PROGRESS, PROGRESS_MM = -30.0, 20.0, 5.0
"""Per cent of the baseline sum; per cent and mm over the nadir."""
TOO_SMALL_MM = 5.0
"""What a lesion counts that is there and too small to be measured (section 4.1)."""
NEW_NODE_MM = 15.0
"""A new node below it, being all there is of progression, had better be looked at again (EORTC, questions, answers)."""
LYMPH_NODES = "lymph nodes"
"""All nodes count as one organ."""

_ROUNDING = 1e-9

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Measurement:
    """What a mask measures. Diameters in mm with their ends in LPS mm, volume in ml, HU over all its voxels.

    The long axis is the longest diameter in any axial slice, the short axis the longest chord at right
    angles to it in that slice, ``slice_index`` (z of the array) says which. ``drawn`` axes are a person's, in any
    plane; then volume and HU are None where there is no mask.
    """

    long_axis_mm: float
    short_axis_mm: float
    volume_ml: float | None
    mean_hu: float | None
    sd_hu: float | None
    slice_index: int
    long_axis_ends: tuple[Point, Point]
    short_axis_ends: tuple[Point, Point]
    drawn: bool = False


@dataclass(frozen=True)
class Target:
    """One target lesion at one time point: its diameter in mm, 0 when gone, None when it was not measured.

    For a node (``node``) the diameter is the short axis. ``normal`` says whether a lesion whose size is read otherwise
    (a volume, an area) counts as gone.
    """

    diameter_mm: float | None
    node: bool = False
    normal: bool | None = None

    @property
    def gone(self) -> bool:
        """Whether it is gone, or a node that is normal."""
        if self.normal is not None:
            return self.normal
        return self.diameter_mm is not None and (
            self.diameter_mm < NORMAL_NODE_MM if self.node else self.diameter_mm == 0
        )


@dataclass(frozen=True)
class Thresholds:
    """What a sum must do: ``partial`` per cent of the baseline's, ``progress`` per cent and ``least`` over nadir."""

    partial: float = PARTIAL
    progress: float = PROGRESS
    least: float = PROGRESS_MM
    unit: str = "mm"
    digits: int = 1


@dataclass(frozen=True)
class Response:
    """A category ("CR", "PR", "SD", "PD", "NE", "Non-CR/Non-PD") and the rule that gave it, in words.

    ``sum_mm`` is the sum of diameters; a criterion that adds up something else has it in ``total``, in its ``unit``.
    """

    category: str
    rule: str
    sum_mm: float | None
    change_from_baseline: float | None
    """Per cent."""
    change_from_nadir: float | None
    """Per cent."""
    total: float | None = None
    unit: str = "mm"


def measure(mask: np.ndarray, geometry: Geometry, hu: np.ndarray) -> Measurement:
    """Measure a mask (z, y, x) on the scan's own voxels; ``geometry`` and ``hu`` are the scan's.

    Parts that do not touch in a slice are measured one by one: a diameter never spans a gap between them.
    Raises UserError for an empty mask or one of another shape.
    """
    from scipy import ndimage  # here, as in _hull

    mask = np.asarray(mask, dtype=bool)
    if mask.shape != geometry.shape or hu.shape != geometry.shape:
        raise UserError(f"the mask is {mask.shape}, the scan {geometry.shape}; draw it on the scan it belongs to")
    if not mask.any():
        raise UserError("the lesion's mask is empty; draw it, or set the lesion to not present")
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    best = None
    for z in range(box[0].start, box[0].stop):
        parts, count = ndimage.label(mask[z][box[1:]], structure=np.ones((3, 3)))
        for part in range(1, count + 1):
            corner = box[1].start, box[2].start
            long_ends, short_ends = _diameters(_outline(parts == part) + corner, geometry.spacing_mm[1:])
            length = _length(long_ends, geometry)
            if best is None or length > best[0]:
                best = length, z, long_ends, short_ends
    length, z, long_ends, short_ends = best
    values = hu[mask].astype(np.float64)
    voxel_ml = abs(np.linalg.det(geometry.affine[:3, :3])) / 1000
    return Measurement(
        long_axis_mm=length,
        short_axis_mm=_length(short_ends, geometry),
        volume_ml=float(len(values) * voxel_ml),
        mean_hu=float(values.mean()),
        sd_hu=float(values.std()),
        slice_index=z,
        long_axis_ends=_world(long_ends, z, geometry),
        short_axis_ends=_world(short_ends, z, geometry),
    )


def axial_outline(mask: np.ndarray, geometry: Geometry, z: int) -> np.ndarray:
    """Convex hull of a mask (z, y, x) in slice ``z``, closed: points (n + 1, 3) LPS mm, the first again at the end.

    Raises UserError for a slice without mask.
    """
    if not mask[z].any():
        raise UserError(f"the mask is empty in slice {z}")
    points = _outline(mask[z])
    points = points[_hull(points)]
    closed = np.concatenate([points, points[:1]])
    return geometry.to_world(np.column_stack([np.full(len(closed), z), closed]))


def respond(
    baseline: Sequence[Target],
    earlier_sums_mm: Sequence[float],
    now: Sequence[Target],
    *,
    new_lesions: Sequence[str] = (),
    non_targets_gone: bool | None = None,
    non_targets_evaluated: bool = True,
    non_target_progress: bool = False,
    recurrences: Sequence[str] = (),
    responded: bool = False,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> Response:
    """Overall response at one follow-up (tables 1 and 2), targets in the same order as at baseline.

    ``earlier_sums_mm``    sums of the follow-ups before this one that could be summed; the nadir is the smallest of
                           them and of the baseline's.
    ``new_lesions``        names of the lesions seen first after the baseline, which the rule then says.
    ``non_targets_gone``   None where there are no non-target lesions.
    ``non_targets_evaluated`` whether all of them were looked at.
    ``non_target_progress`` unequivocal progression of non-targets; only a person can say so.
    ``recurrences``        names of what is back after a complete response.
    ``responded``          there was a PR or CR before: it goes on until progression (EORTC, questions and answers).
    """
    grounds = _grounds(new_lesions, non_target_progress, recurrences)
    if not baseline:
        return _without_targets(grounds, non_targets_gone, non_targets_evaluated, thresholds.unit)
    known = [t.diameter_mm for t in now if t.diameter_mm is not None]
    complete = len(known) == len(now)
    least = sum(known)
    base = sum(t.diameter_mm for t in baseline) if all(t.diameter_mm is not None for t in baseline) else None
    nadir = None if base is None else min([base, *earlier_sums_mm])
    total = least if complete else None
    changes = [_change(total, of) for of in (base, nadir)]

    def answer(category: str, rule: str) -> Response:
        return Response(category, rule, total if thresholds.unit == "mm" else None, *changes, total, thresholds.unit)

    if nadir is not None and _progressed(least, nadir, thresholds):
        grounds.insert(0, _growth(least, nadir, complete, thresholds))
    if grounds:
        return answer("PD", "; ".join(grounds))
    if base is None or not complete:
        return answer("NE", "not all targets were measured" + (" at baseline" if base is None else ""))
    if all(t.gone for t in now):
        if non_targets_gone is False:
            return answer("PR", "all targets gone, but non-targets remain")
        if not non_targets_evaluated:
            return answer("PR", "all targets gone, but not all non-targets were evaluated")
        return answer("CR", "all targets gone; nodes below 10 mm in short axis")
    if changes[0] is not None and changes[0] <= thresholds.partial + _ROUNDING:
        return answer("PR", f"sum {changes[0]:.0f} % from baseline (at least {thresholds.partial:.0f} %)")
    if responded:
        return answer("PR", "the response goes on: the sum has not progressed from the nadir")
    more = f"+{thresholds.progress:.0f} %" + (
        f" and +{thresholds.least:.0f} {thresholds.unit}" if thresholds.least else ""
    )
    return answer("SD", f"neither {thresholds.partial:.0f} % from baseline nor {more} over the nadir")


def check_targets(targets: Sequence[tuple[str, str, bool, Measurement | None]], slice_mm: float) -> list[str]:
    """What RECIST 1.1 would object to in a choice of targets (name, organ, node, baseline measurement), in words."""
    objections = []
    if len(targets) > MOST_TARGETS:
        objections.append(f"{len(targets)} targets; RECIST 1.1 allows {MOST_TARGETS}")
    organs = Counter(LYMPH_NODES if node else organ for _, organ, node, _ in targets if node or organ)
    for organ, count in organs.items():
        if count > MOST_PER_ORGAN:
            objections.append(f"{count} targets in {organ}; RECIST 1.1 allows {MOST_PER_ORGAN} an organ")
    for name, _, node, found in targets:
        if found is None:
            continue
        if node and found.short_axis_mm < SMALLEST_NODE_MM:
            objections.append(f"{name}: short axis {found.short_axis_mm:.1f} mm; a nodal target needs 15 mm")
        limit = max(SMALLEST_TARGET_MM, 2 * slice_mm if slice_mm > THICK_SLICE_MM else 0)
        if not node and found.long_axis_mm < limit:
            objections.append(f"{name}: longest diameter {found.long_axis_mm:.1f} mm; a target needs {limit:.0f} mm")
    return objections


def _without_targets(grounds: list[str], gone: bool | None, evaluated: bool, unit: str) -> Response:
    """Table 2: patients without targets."""

    def answer(category: str, rule: str) -> Response:
        return Response(category, rule, None, None, None, None, unit)

    if grounds:
        return answer("PD", "; ".join(grounds))
    if gone is None:
        return answer("NE", "no target and no non-target lesion was named at baseline")
    if not evaluated:
        return answer("NE", "not all non-targets were evaluated, and there were no targets")
    if gone:
        return answer("CR", "all non-targets gone, there were no targets")
    return answer("Non-CR/Non-PD", "non-targets remain, there were no targets")


def _grounds(new_lesions: Sequence[str], non_target_progress: bool, recurrences: Sequence[str]) -> list[str]:
    """What is progression whatever the sum says, in words."""
    grounds = []
    if new_lesions:
        grounds.append(f"{'a new lesion' if len(new_lesions) == 1 else 'new lesions'}: {', '.join(new_lesions)}")
    if recurrences:
        grounds.append(f"back after a complete response: {', '.join(recurrences)}")
    if non_target_progress:
        grounds.append("unequivocal progression of non-targets")
    return grounds


def _growth(total: float, nadir: float, complete: bool, thresholds: Thresholds) -> str:
    """Why a sum has progressed, in words."""
    more = "" if complete else ", though not all targets were measured"
    growth = f"+{_change(total, nadir):.0f} % and " if nadir > 0 else ""
    unit, digits = thresholds.unit, thresholds.digits
    return f"sum {growth}+{total - nadir:.{digits}f} {unit} over the nadir of {nadir:.{digits}f} {unit}{more}"


def _progressed(total: float, nadir: float, thresholds: Thresholds) -> bool:
    """+20 % and +5 mm over the nadir; the two equality signs of the guideline hold within rounding."""
    growth = total - nadir
    far = growth >= thresholds.least - _ROUNDING and growth >= thresholds.progress / 100 * nadir - _ROUNDING
    return far and growth > _ROUNDING


def _change(now: float | None, before: float | None) -> float | None:
    return None if now is None or not before else 100 * (now - before) / before


def _outline(flat: np.ndarray) -> np.ndarray:
    """Half-way points between pixels inside and their neighbours outside, (n, 2) as (row, column).

    An unbiased border, where pixel centres measure one pixel too little and pixel corners too much.
    """
    from skimage.measure import find_contours  # here, as in _hull

    return np.concatenate(find_contours(np.pad(flat, 1).astype(np.float32), 0.5)) - 1


def _hull(points: np.ndarray) -> np.ndarray:
    """Indices of the points (n, 2) on their convex hull, in order round it."""
    from scipy.spatial import ConvexHull  # here, so that a widget opens without waiting for scipy

    return ConvexHull(points).vertices


def _diameters(points: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the longest diameter and of the longest chord of the hull at right angles to it, (2, 2) indices each."""
    plane = points * spacing_mm
    hull = plane[_hull(plane)]
    apart = np.linalg.norm(hull[:, None] - hull[None], axis=2)
    first, last = np.unravel_index(apart.argmax(), apart.shape)
    along = (hull[last] - hull[first]) / apart[first, last]
    across = np.array([-along[1], along[0]])
    u, v = (hull - hull[first]) @ along, (hull - hull[first]) @ across
    # A chord's length is piecewise linear in u and concave: its maximum lies at a corner of the hull.
    upper, lower = _chain(u, v, 1.0), _chain(u, v, -1.0)
    top, bottom = np.interp(u, *upper), np.interp(u, *lower)
    widest = int((top - bottom).argmax())
    chord = hull[first] + u[widest] * along + np.outer([top[widest], bottom[widest]], across)
    return np.stack([hull[first], hull[last]]) / spacing_mm, chord / spacing_mm


def _chain(u: np.ndarray, v: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The hull's corners on one side of its long axis (v times side >= 0), by u."""
    chosen = np.flatnonzero(side * v >= -1e-9)
    chosen = chosen[np.argsort(u[chosen], kind="stable")]
    return u[chosen], v[chosen]


def _length(ends: np.ndarray, geometry: Geometry) -> float:
    return float(np.linalg.norm((ends[1] - ends[0]) * geometry.spacing_mm[1:]))


def _world(ends: np.ndarray, z: int, geometry: Geometry) -> tuple[Point, Point]:
    first, last = geometry.to_world(np.column_stack([[z, z], ends]))
    return tuple(map(float, first)), tuple(map(float, last))
