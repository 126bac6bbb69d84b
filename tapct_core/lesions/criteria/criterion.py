"""What a criterion of response is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..burden import Assessment
from ..study import Study


@dataclass(frozen=True)
class Criterion:
    """A pure function of findings, under the name that a study's file and every export say.

    ``assess(study, slice_mm)`` gives the follow-ups' assessments, ``slice_mm`` being the baseline's slice spacing, 0
    where it is not known. ``total(study, timepoint)`` is the sum of the targets in the criterion's own ``unit``.
    ``source`` is for people to look it up.
    """

    name: str
    source: str
    unit: str
    assess: Callable[[Study, float], list[Assessment]]
    total: Callable[[Study, str], float | None]
