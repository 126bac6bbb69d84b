"""What a file says of one lesion, before it has a place in a study. Everything is in LPS mm or on a grid of its own."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import UserError
from ..geometry import Geometry
from ..tables import FARTHEST


@dataclass(frozen=True, eq=False)
class Region:
    """A mask (z, y, x) bool on its own grid."""

    mask: np.ndarray
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Slices:
    """A mask on parallel slices that make no grid: unevenly apart, or leaning as of a tilted gantry.

    ``frames`` are (LPS mm (3,) of a slice's first pixel, set pixels (row, column) (n, 2)); ``grid`` (3, 3) has the
    directions along a row and down a column, then (between rows, between columns, thickness) in mm.
    """

    frames: tuple[tuple[np.ndarray, np.ndarray], ...]
    grid: np.ndarray


@dataclass(frozen=True, eq=False)
class Contours:
    """Closed planar contours, each (n, 3) LPS mm; those of one plane count by even-odd, so holes are holes."""

    planes: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class OnImage:
    """A graphic in the pixels of one image: ``points`` (n, 2) as (column, row), 0.5 the first pixel's centre.

    ``frame`` is the number, from 1, of the frame of a multi-frame image; 0 for a single image.
    """

    graphic: str  # POINT, POLYLINE, ELLIPSE, CIRCLE, MULTIPOINT
    points: np.ndarray
    sop_instance_uid: str
    frame: int = 0


@dataclass(frozen=True, eq=False)
class InSpace:
    """A graphic in the patient: ``points`` (n, 3) LPS mm."""

    graphic: str  # POINT, POLYLINE, POLYGON, ELLIPSE, MULTIPOINT
    points: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """One lesion as a file gives it. ``uid`` is its tracking UID, or one made from the file's content, so that the same
    file twice is the same lesions. ``what`` holds all regions; the first kind that can be placed is used.

    ``series_uids``, ``image_uids`` and ``frame_uid`` say to which scan it belongs; all empty where the file does not.
    ``segment`` (SOPInstanceUID, number) is the segment of a SEG that this is, or speaks of. ``state`` is a match status
    of ours, "" for a finding that is simply there; ``decided`` whether its author stood by it.
    """

    file: str
    name: str
    uid: str
    what: tuple[Region | Slices | Contours | OnImage | InSpace, ...] = ()
    series_uids: frozenset[str] = frozenset()
    image_uids: frozenset[str] = frozenset()
    frame_uid: str = ""
    timepoint: str = ""
    segment: tuple[str, int] | None = None
    state: str = ""
    decided: bool = True
    role: str = ""
    organ: str = ""
    comment: str = ""
    drawn: bool = False
    """Its lines are axes that a person has drawn, by the file's own word; they are kept as they are, without a mask."""
    measurements: dict[str, float] = field(default_factory=dict)
    """By name and unit, as the file gives them: shown, not believed; diameters are measured anew."""

    @property
    def names_a_scan(self) -> bool:
        """Whether the file says to which scan it belongs."""
        return bool(self.timepoint or self.series_uids or self.image_uids or self.frame_uid)

    @property
    def nowhere(self) -> str:
        """Why no time point took it."""
        if self.timepoint:
            return f"the study has no time point {self.timepoint!r}"
        if self.names_a_scan:
            return "no scan of the study is the series, or in the frame of reference, that it names"
        return "it does not say to which scan it belongs"


MOST_FINDINGS = 2000
"""More than this in one file is noise, or no list of lesions."""
MOST_PLANES = 20_000
"""Contours of one structure; one that is drawn on every slice of two scans has 4,000."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def checked(found: list[Found], name: str) -> list[Found]:
    """Findings that a study can hold: not too many, in finite places, under UIDs that are some. Raises UserError."""
    if len(found) > MOST_FINDINGS:
        raise UserError(f"{name} holds {len(found)} separate findings; choose at most {MOST_FINDINGS} of them")
    for one in found:
        for what in one.what:
            if isinstance(what, Contours) and len(what.planes) > MOST_PLANES:
                raise UserError(f"{one.name[:64]} in {name} has {len(what.planes)} contours; the most is {MOST_PLANES}")
            if not all(np.isfinite(part).all() and np.abs(part).max(initial=0) < FARTHEST for part in _numbers(what)):
                raise UserError(f"{name} has places that no scanner reaches, in {one.name[:64]}; get it again")
    return [one if _is_uid(one.uid) else replace(one, uid=made_uid(one.uid)) for one in found]


def _numbers(what: Region | Slices | Contours | OnImage | InSpace) -> tuple[np.ndarray, ...]:
    if isinstance(what, Region):
        return (what.geometry.affine,)
    if isinstance(what, Slices):
        return (what.grid, *(position for position, _ in what.frames))
    return what.planes if isinstance(what, Contours) else (what.points,)


def _is_uid(words: str) -> bool:
    return len(words) <= 64 and _UID.fullmatch(words) is not None


def made_uid(*parts: object) -> str:
    """A DICOM UID that depends on the parts alone (PS3.5 B.2: 2.25. and a UUID)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:16]
    return f"2.25.{uuid.UUID(bytes=digest, version=4).int}"
