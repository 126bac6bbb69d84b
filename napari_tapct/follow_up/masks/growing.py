"""A mask grown from a lesion's place, on its way from a worker's thread into the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapct_core.errors import UserError
from tapct_core.lesions import Mask, Study
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


def grown_at(study: Study, uid: str, timepoint: str, scan: Scan, point: Point, volume_of: VolumeOf) -> Grown:
    """The mask of a lesion round a place (LPS mm) of a scan; takes a while.

    It starts from the lesion's earlier mask, if that fits better than what stands out at the place, and is judged by
    what the lesion measured there. ``volume_of`` gives the volume of a time point's scan, None where it is not open.
    """
    from tapct_core.lesions.growing_on import earlier_mask, grow_on

    lesion, volume = study.lesion(uid), scan.volume
    try:
        mask = grow_on(volume, point, scan.features, earlier_mask(study, lesion, timepoint, point, volume_of))
        measured = mask.measure(volume)
        believed = check_measurement(mask, measured, volume, earlier_measurement(study, lesion, timepoint))
        return Grown(timepoint, point, mask, measured, believed)
    except UserError as error:
        return Grown(timepoint, point, why_not=str(error))
