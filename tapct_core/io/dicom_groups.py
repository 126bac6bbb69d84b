"""Which slices of one DICOM series belong together: copies counted once, one orientation, one grid, one phase.

Headers round and jitter, so slices are compared within tolerances and never by equal rounded values: those have
edges, and a slice beyond one would go missing in silence. Where a series holds several stacks, a person picks one by
naming one of its files; a stack whose slices alternate with another's is a part of one and never handed out.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import NeedsWord, UserError
from .dicom_pixels import same_pixels
from .dicom_slices import Slice, number, text

SAME_DIRECTION, OTHER_DIRECTION = 2e-3, 2e-2
"""Components of ImageOrientationPatient: below the first it is rounding (0.7 mm at the far side of 350 mm), above the
second another stack; between the two nobody can say."""
SAME_MM = 0.05
"""Slices nearer than this, or a quarter of their spacing, lie at one position."""
PIXELS_OFF = 0.2
"""Pixel spacings are one where they move the far side of the slice by less than this share of a pixel."""
PHASE_KEYS = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "AcquisitionTime",
    "ContentTime",
)
"""What tells the phases of a 4D series apart, in the order of trust."""

log = logging.getLogger(__name__)


def one_stack(slices: list[Slice], one: Path | None = None, phase: int | None = None) -> list[Slice]:
    """Slices of one orientation, size and pixel spacing, each position once.

    ``one`` is a file of the stack that is meant where the series holds several, ``phase`` (from 1) the phase where
    positions repeat. Raises UserError where neither says which, and names what repeats.
    """
    slices = _without_copies(slices, one)
    slices = _of_one_orientation(slices, one)
    slices = _picked(_clusters(slices, _one_grid), one, "slice sizes or pixel spacings")
    return _of_one_phase(slices, one, phase)


def by_position(slices: list[Slice]) -> list[list[Slice]]:
    """Slices of one orientation by their place along the normal, in its direction; more than one where it repeats."""
    normal = normal_of(slices)
    heights = np.array([s.position @ normal for s in slices])
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    typical = float(np.median(gaps[gaps > 0.1 * gaps.max()])) if len(gaps) and gaps.max() > 0 else 0.0
    same = min(SAME_MM, 0.25 * typical)
    places: list[list[Slice]] = []
    for at, index in enumerate(order):
        if at and gaps[at - 1] <= same:
            places[-1].append(slices[index])
        else:
            places.append([slices[index]])
    return places


def normal_of(slices: list[Slice]) -> np.ndarray:
    """The common normal (3,), of length 1, towards left, posterior or superior, whichever it is closest to."""
    along, down = np.mean([s.axes for s in slices], axis=0)
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal) or 1.0
    return normal * (np.sign(normal[np.abs(normal).argmax()]) or 1.0)


def where(normal: np.ndarray, height: float) -> str:
    """A position along the normal in words: on a patient axis where the normal is one."""
    axis = int(np.abs(normal).argmax())
    if abs(normal[axis]) > 0.999:
        return f"{'xyz'[axis]} = {height * np.sign(normal[axis]):.2f} mm"
    return f"{height:.2f} mm along the slice normal"


def _without_copies(slices: list[Slice], one: Path | None) -> list[Slice]:
    """One file of each instance; two with the same UID and place, but other pixels, both stay and are named later."""
    by_uid: dict[tuple, list[Slice]] = defaultdict(list)
    kept: list[Slice] = []
    for s in sorted(slices, key=lambda s: (s.path != one, str(s.path))):
        twins = by_uid[s.uid, s.frame] if s.uid else []
        if any(np.abs(s.position - t.position).max() < 1e-3 and _same_image(s, t) for t in twins):
            continue
        twins.append(s)
        kept.append(s)
    return kept


def _same_image(a: Slice, b: Slice) -> bool:
    whole = a.frame == b.frame and a.path.stat().st_size == b.path.stat().st_size
    if whole and _digest(a.path) == _digest(b.path):
        return True
    return a.size == b.size and same_pixels(a, b)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _of_one_orientation(slices: list[Slice], one: Path | None) -> list[Slice]:
    groups = _clusters(slices, lambda a, b: _turned(a, b) < SAME_DIRECTION)
    for i, group in enumerate(groups):
        for other in groups[:i]:
            nearest = min(_turned(group[0], s) for s in other)
            if nearest < OTHER_DIRECTION:
                degrees = np.degrees(nearest)
                raise UserError(
                    f"the orientation of this DICOM series drifts from slice to slice (by {degrees:.2f} degrees, "
                    f"{other[0].path.name} against {group[0].path.name}); export it again"
                )
    return _picked(groups, one, "(mixed) orientations", parallel=False)


def _turned(a: Slice, b: Slice) -> float:
    return float(np.abs(a.axes - b.axes).max())


def _one_grid(a: Slice, b: Slice) -> bool:
    off = np.abs(a.spacing - b.spacing) * np.array(a.size)
    return a.size == b.size and bool((off < PIXELS_OFF * a.spacing).all())


def _clusters(slices: list[Slice], alike: Callable[[Slice, Slice], bool]) -> list[list[Slice]]:
    """Each slice to the first group whose first slice it is alike."""
    groups: list[list[Slice]] = []
    for s in slices:
        for group in groups:
            if alike(group[0], s):
                group.append(s)
                break
        else:
            groups.append([s])
    return groups


def _picked(groups: list[list[Slice]], one: Path | None, what: str, parallel: bool = True) -> list[Slice]:
    """The group of the file ``one``; ``parallel`` groups may not lie between each other's slices."""
    if len(groups) == 1:
        return groups[0]
    sizes = " + ".join(str(len(group)) for group in groups)
    mixed = f"this DICOM series mixes {len(groups)} {what} ({sizes} slices)"
    if one is None:
        raise UserError(f"{mixed}; give one file of the stack you want instead of the folder")
    chosen = next(group for group in groups if any(s.path == one for s in group))
    if parallel:
        others = [s for group in groups if group is not chosen for s in group]
        normal = normal_of(chosen)
        heights = [place[0].position @ normal for place in by_position(chosen)]
        for s in others:
            height = s.position @ normal
            between = heights[0] + SAME_MM < height < heights[-1] - SAME_MM
            if between and min(abs(height - h) for h in heights) > SAME_MM:
                raise UserError(
                    f"{mixed}, and they lie between each other ({s.path.name} at {where(normal, height)}); "
                    "export the series again"
                )
    log.warning("%s: the %d that go with the given file are taken", mixed, len(chosen))
    return chosen


def _of_one_phase(slices: list[Slice], one: Path | None, phase: int | None) -> list[Slice]:
    places = by_position(slices)
    if all(len(place) == 1 for place in places):
        return _only_phase(slices, phase)
    named = _phases(places)
    if named is None:
        places = [_other_pixels(place) for place in places]
        slices = [s for place in places for s in place]
        if all(len(place) == 1 for place in places):
            return _only_phase(slices, phase)
        named = _by_instance_number(places)
    if named is None:
        place = next(place for place in places if len(place) > 1)
        files = " and ".join(sorted(s.path.name for s in place))
        normal = normal_of(slices)
        raise UserError(f"duplicate slice at {where(normal, place[0].position @ normal)}: {files}; remove all but one")
    what, groups = named
    if phase is not None:
        if not 1 <= phase <= len(groups):
            raise UserError(f"this DICOM series has phases 1 to {len(groups)}, not {phase}: {_listed(groups)}")
        return list(groups.values())[phase - 1]
    if one is not None:
        log.warning("this DICOM series holds %d %s; the one of the given file is taken", len(groups), what)
        return next(group for group in groups.values() if any(s.path == one for s in group))
    raise NeedsWord(
        f"this DICOM series is 4D: it holds {len(groups)} {what} at the same positions",
        f"choose one with --phase N: {_listed(groups)}",
        tuple(
            (f"{value or 'unnamed'} ({len(group)} slices)", {"phase": k})
            for k, (value, group) in enumerate(groups.items(), start=1)
        ),
    )


def _only_phase(slices: list[Slice], phase: int | None) -> list[Slice]:
    if phase not in (None, 1):
        raise UserError("this DICOM series has one phase only; leave --phase out")
    return slices


def _phases(places: list[list[Slice]]) -> tuple[str, dict[str, list[Slice]]] | None:
    """What tells repeated positions apart in the header, and the slices by it; None where nothing does."""
    most = max(len(place) for place in places)
    for key in PHASE_KEYS:
        groups: dict[str, list[Slice]] = defaultdict(list)
        clash = False
        for place in places:
            values = [text(s.header, key) for s in place]
            clash = clash or len(set(values)) < len(values)
            for value, s in zip(values, place, strict=True):
                groups[value].append(s)
        if not clash and len(groups) > 1 and (len(groups) == most or key == "AcquisitionNumber"):
            what = "acquisitions" if key == "AcquisitionNumber" else "phases"
            return what, dict(sorted(groups.items(), key=lambda item: _in_order(item[0])))
    return None


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _by_instance_number(places: list[list[Slice]]) -> tuple[str, dict[str, list[Slice]]] | None:
    """Phases as scanners count them: each position equally often, told apart by InstanceNumber alone."""
    if len({len(place) for place in places}) > 1 or len(places) < 2:
        return None
    groups: dict[str, list[Slice]] = defaultdict(list)
    for place in places:
        ordered = sorted(place, key=lambda s: number(s.header, "InstanceNumber", 0))
        if len({number(s.header, "InstanceNumber", 0) for s in ordered}) < len(ordered):
            return None
        for k, s in enumerate(ordered, start=1):
            groups[f"no. {k} at each position"].append(s)
    return "phases", dict(groups)


def _other_pixels(place: list[Slice]) -> list[Slice]:
    """Slices of one position without those that hold the same pixels under another UID."""
    kept: list[Slice] = []
    for s in place:
        if not any(_same_image(s, other) for other in kept):
            kept.append(s)
    return kept


def _listed(groups: dict[str, list[Slice]]) -> str:
    named = [f"{k}: {value or 'unnamed'} ({len(group)})" for k, (value, group) in enumerate(groups.items(), start=1)]
    return ", ".join(named[:20]) + (" ..." if len(named) > 20 else "")
