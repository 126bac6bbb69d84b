"""A mask at a later scan starts from the lesion's mask at an earlier one: a click alone does not say how large.

Both are grown, from the place alone and from the earlier mask carried to it, and the more plausible one is taken. In
soft tissue, where a border is faint, the earlier shape tells most; in lung the region that stands out is as good.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UserError
from ..features import FeatureMap
from ..volume import CTVolume
from .carried import Carried
from .grow import grow_mask
from .plausibility import GrownMask
from .recist import Point
from .study import Lesion, Study

VolumeOf = Callable[[str], CTVolume | None]


def earlier_mask(study: Study, lesion: Lesion, timepoint: str, place: Point, volume_of: VolumeOf) -> Carried | None:
    """The latest mask before a time point that may be counted on, carried to ``place`` (LPS mm) there.

    ``volume_of`` gives the scan of a time point, None where it is not at hand; then the mask before it is taken.
    """
    for name in reversed([one.name for one in study.timepoints][: study.order(timepoint)]):
        finding = lesion.findings.get(name)
        if finding is None or finding.mask is None or finding.point_lps_mm is None or finding.counted is None:
            continue
        volume = volume_of(name)
        if volume is not None and finding.mask.grid == volume.geometry.shape:
            return Carried.to(finding.mask, volume, finding.point_lps_mm, place)
    return None


def grow_on(volume: CTVolume, place: Point, features: FeatureMap | None, before: Carried | None) -> GrownMask:
    """The mask at a place (LPS mm), from what stands out there or from the lesion's earlier mask.

    Raises UserError where neither gives one, with what the place alone was refused for.
    """
    try:
        alone = grow_mask(volume, place, features)
    except UserError:
        if before is None:
            raise
        alone = None
    if before is None:
        return alone
    try:
        carried = grow_mask(volume, place, features, prior=before)
    except UserError:
        if alone is None:
            raise
        return alone
    return carried if alone is None or carried.plausibility > alone.plausibility else alone
