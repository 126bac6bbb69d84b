"""mRECIST for hepatocellular carcinoma: Lencioni and Llovet, Semin Liver Dis 30 (2010) 52-60.

The diameter is that of the viable tumour, the part that takes up contrast in the arterial phase. No program here tells
viable from necrotic tumour: a mask must hold the viable part alone, and a lesion without any is not present.
"""

from __future__ import annotations

from ..burden import Assessment
from ..recist import Thresholds
from ..study import Study
from .criterion import Criterion
from .sums import Rules, total_of, walk

NAME, SOURCE = "mRECIST", "Lencioni and Llovet, Semin Liver Dis 30 (2010) 52–60"
NEW_MM = 10.0
"""A new nodule counts from this long axis on."""
RULES = Rules(
    NAME,
    thresholds=Thresholds(least=0.0),  # no least growth in mm
    new_mm=NEW_MM,
    remark="mRECIST reads the viable (arterially enhancing) part: each mask must hold that alone",
)


def assess(study: Study, slice_mm: float) -> list[Assessment]:
    """See :class:`.Criterion`."""
    return walk(study, slice_mm, RULES)


def total(study: Study, timepoint: str) -> float | None:
    """The sum of viable diameters, mm."""
    return total_of(study, timepoint, RULES)


CRITERION = Criterion(NAME, SOURCE, "mm", assess, total)
