"""What response is assessed by: one small file each, behind one shape, chosen per study by name.

A criterion is a pure function of findings: ``assess(study, slice_mm)`` gives the follow-ups' assessments, ``total`` the
sum of the targets at a time point in the criterion's own ``unit``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..burden import Assessment
from ..study import RECIST, Study
from . import irecist, lugano, mrecist, recist11, volume


@dataclass(frozen=True)
class Criterion:
    """``source`` for people to look it up; ``slice_mm`` is the baseline's slice spacing, 0 where it is not known."""

    name: str
    source: str
    unit: str
    assess: Callable[[Study, float], list[Assessment]]
    total: Callable[[Study, str], float | None]


_ALL = (
    Criterion(RECIST, recist11.SOURCE, "mm", recist11.assess, recist11.total),
    Criterion(irecist.NAME, irecist.SOURCE, "mm", irecist.assess, irecist.total),
    Criterion(mrecist.NAME, mrecist.SOURCE, "mm", mrecist.assess, mrecist.total),
    Criterion(lugano.NAME, lugano.SOURCE, "mm²", lugano.assess, lugano.total),
    Criterion(volume.NAME, volume.SOURCE, "ml", volume.assess, volume.total),
)
CRITERIA = {criterion.name: criterion for criterion in _ALL}
"""By the name that a study's file and every export say."""
