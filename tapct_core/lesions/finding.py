"""A lesion at one time point: its state, its place, its voxels, and how far all that can be believed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..geometry import Shape
from ..volume import CTVolume
from .recist import Measurement, Point, measure
from .states import ABSENT, State

PLAUSIBLE = 0.5
"""A measured axis that is less plausible than this enters no sum until a person has confirmed or redrawn it."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A lesion's voxels: a bool box (z, y, x) and the index (z, y, x) of its first voxel in a scan of ``grid``."""

    start: Shape
    voxels: np.ndarray
    grid: Shape

    @classmethod
    def from_array(cls, array: np.ndarray) -> Mask:
        """The tight box round what is set in a scan-sized array (z, y, x). Raises UserError for an empty one."""
        set_ = np.asarray(array) != 0
        spans = [np.flatnonzero(set_.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        if not all(len(span) for span in spans):
            raise UserError("the lesion's mask is empty; draw it, or set the lesion to not present")
        box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
        return cls(tuple(s.start for s in box), set_[box].copy(), set_.shape)

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Where the voxels lie in the scan's array."""
        return tuple(slice(s, s + n) for s, n in zip(self.start, self.voxels.shape, strict=True))

    def to_array(self) -> np.ndarray:
        """Scan-sized bool array (z, y, x), for editing; :meth:`from_array` takes it back."""
        out = np.zeros(self.grid, dtype=bool)
        out[self.box] = self.voxels
        return out

    def measure(self, volume: CTVolume) -> Measurement:
        """RECIST diameters, volume and HU on the scan's own voxels. Raises UserError on another grid."""
        if self.grid != volume.geometry.shape:
            raise UserError(f"the mask was drawn on a scan of {self.grid}, this one is {volume.geometry.shape}")
        found = measure(self.voxels, volume.geometry.cropped(self.start, self.voxels.shape), volume.hu[self.box])
        return replace(found, slice_index=found.slice_index + self.start[0])


@dataclass(frozen=True)
class Candidate:
    """A place that matching proposed. ``confidence`` None where nothing was calibrated."""

    point_lps_mm: Point
    similarity: float
    cycle_error_mm: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Plausibility:
    """How far a measured mask can be believed, 0 to 1, and what speaks against it, in words."""

    value: float
    doubts: tuple[str, ...] = ()


@dataclass
class Finding:
    """A lesion at one time point.

    ``decided_by`` is empty while the finding is a proposal; ``decided_at`` is ISO 8601, UTC.
    ``related`` names the tracking UIDs of the lesions it was split from or merged into.
    ``reason`` says why no place could be proposed, or what to look at in the one that was.
    ``plausibility`` is that of the measurement, None where nothing judged it; ``measured_by`` the person who has
    confirmed the measurement. ``too_small``: a person says that it is there, and too small to be measured.
    ``inputs`` is a hash of all that a proposal was made from, so that a second run need not repeat it.
    """

    state: State = "proposed"
    point_lps_mm: Point | None = None
    decided_by: str = ""
    decided_at: str = ""
    candidates: tuple[Candidate, ...] = ()
    cycle_error_mm: float | None = None
    confidence: float | None = None
    presence: float | None = None
    verdict: str = ""
    related: tuple[str, ...] = ()
    mask: Mask | None = None
    mask_by: str = ""
    measurement: Measurement | None = None
    inputs: str = ""
    reason: str = ""
    plausibility: Plausibility | None = None
    measured_by: str = ""
    too_small: bool = False
    comment: str = ""

    @property
    def decided(self) -> bool:
        """Whether a person has spoken."""
        return bool(self.decided_by)

    @property
    def present(self) -> bool:
        """Whether there is a place at this time point, proposed or decided."""
        return self.state not in ABSENT and self.point_lps_mm is not None

    @property
    def doubtful(self) -> bool:
        """Whether there is a measurement, grown or drawn, that a person must confirm or redraw before it counts."""
        return (
            self.measurement is not None
            and self.plausibility is not None
            and self.plausibility.value < PLAUSIBLE
            and not self.measured_by
        )

    @property
    def counted(self) -> Measurement | None:
        """The measurement where it may enter a sum: the lesion has a place, and the measurement is not doubtful."""
        return self.measurement if self.present and not self.doubtful else None

    @property
    def gone_probability(self) -> float | None:
        """Of a proposal, how likely it is that the lesion has gone; None where that was not calibrated."""
        return None if self.presence is None else 1 - self.presence
