"""RECIST 1.1: Eisenhauer et al., Eur J Cancer 45 (2009) 228-247, as EORTC's published questions and answers read it."""

from __future__ import annotations

from ..burden import Assessment
from ..study import RECIST, Study
from .criterion import Criterion
from .sums import Rules, total_of, walk

SOURCE = "Eisenhauer et al., Eur J Cancer 45 (2009) 228–247"
RULES = Rules(RECIST)


def assess(study: Study, slice_mm: float) -> list[Assessment]:
    """See :class:`.Criterion`."""
    return walk(study, slice_mm, RULES)


def total(study: Study, timepoint: str) -> float | None:
    """The sum of diameters, mm."""
    return total_of(study, timepoint, RULES)


CRITERION = Criterion(RECIST, SOURCE, "mm", assess, total)
