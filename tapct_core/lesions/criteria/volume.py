"""Volume: the sum of the targets' volumes, with the changes that a sphere makes where RECIST's diameters do.

A diameter of 0.7 is a volume of 0.34, one of 1.2 a volume of 1.73 (Therasse et al., J Natl Cancer Inst 92 (2000)
205-216, appendix). A plain criterion without a guideline of its own; all else is RECIST 1.1's.
"""

from __future__ import annotations

import math

from ..burden import Assessment
from ..recist import TOO_SMALL_MM, Measurement, Thresholds
from ..study import Study
from .criterion import Criterion
from .sums import Rules, total_of, walk

NAME, SOURCE = "volume", "summed volume, −65 % and +73 %: spheres of RECIST's diameters"
PARTIAL, PROGRESS = -65.0, 73.0
"""Per cent of the baseline's, and over the nadir."""


def _volume(measured: Measurement, node: bool) -> float | None:
    return measured.volume_ml


def _small(node: bool) -> float:
    return math.pi / 6 * TOO_SMALL_MM**3 / 1000


RULES = Rules(NAME, _volume, _small, Thresholds(PARTIAL, PROGRESS, 0.0, "ml", 2))


def assess(study: Study, slice_mm: float) -> list[Assessment]:
    """See :class:`.Criterion`."""
    return walk(study, slice_mm, RULES)


def total(study: Study, timepoint: str) -> float | None:
    """The sum of volumes, ml."""
    return total_of(study, timepoint, RULES)


CRITERION = Criterion(NAME, SOURCE, "ml", assess, total)
