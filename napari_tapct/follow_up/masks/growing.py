"""A mask grown from a lesion's place, on its way from a worker's thread into the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapct_core.errors import UserError
from tapct_core.lesions import Finding, Mask, Study
from tapct_core.lesions.measurement_check import check_measurement, earlier_measurement

from .painting import finding_of

if TYPE_CHECKING:
    from tapct_core.lesions.finding import Plausibility
    from tapct_core.lesions.growing_on import VolumeOf
    from tapct_core.lesions.recist import Measurement, Point

    from ...scan import Scan


@dataclass(frozen=True, eq=False)
class Grown:
    """A mask that was grown from a place (LPS mm) of a scan, with what it measures; or why there is none."""

    timepoint: str
    point_lps_mm: Point
    mask: Mask | None = None
    measurement: Measurement | None = None
    plausibility: Plausibility | None = None
    why_not: str = ""

    def put_into(self, study: Study, uid: str) -> None:
        """Into one state of a study where the lesion is still at the place; what a person has drawn meanwhile stays."""
        finding = finding_of(study, uid, self.timepoint)
        here = finding is not None and finding.mask is None and finding.point_lps_mm == self.point_lps_mm
        if here and self.mask is not None:
            study.put_mask(uid, self.timepoint, self.mask, self.measurement, plausibility=self.plausibility)


def drawn_ends(finding: Finding | None) -> tuple | None:
    """The axes that a person has drawn, long and short, ends in LPS mm: what a mask is grown to; None without."""
    measured = finding.measurement if finding is not None else None
    return (measured.long_axis_ends, measured.short_axis_ends) if measured is not None and measured.drawn else None


def grown_at(study: Study, uid: str, timepoint: str, scan: Scan, point: Point, volume_of: VolumeOf) -> Grown:
    """The mask of a lesion round a place (LPS mm) of a scan; takes a while.

    It is grown to the axes that a person has drawn. Without them it starts from the lesion's earlier mask, if that fits
    better than what stands out at the place. It is judged by what the lesion measured there. ``volume_of`` gives the
    volume of a time point's scan, None where it is not open.
    """
    from tapct_core.lesions.grow import grow_mask
    from tapct_core.lesions.growing_on import earlier_mask, grow_on

    lesion, volume = study.lesion(uid), scan.volume
    try:
        axes = drawn_ends(lesion.findings.get(timepoint))
        if axes is not None:
            mask = grow_mask(volume, point, scan.features, axis=axes)
        else:
            mask = grow_on(volume, point, scan.features, earlier_mask(study, lesion, timepoint, point, volume_of))
        measured = mask.measure(volume)
        believed = check_measurement(mask, measured, volume, earlier_measurement(study, lesion, timepoint))
        return Grown(timepoint, point, mask, measured, believed)
    except UserError as error:
        return Grown(timepoint, point, why_not=str(error))
