"""Response through a study, by the criterion that it names: sums of targets and a category at each follow-up."""

from __future__ import annotations

from .burden import Assessment, changes, diameter_mm
from .criteria import CRITERIA
from .study import Study

__all__ = ["Assessment", "assess", "changes", "diameter_mm", "sum_mm", "total"]


def assess(study: Study, slice_mm: float = 0.0) -> list[Assessment]:
    """The follow-ups' responses, the first time point being the baseline; none for a study of one scan.

    ``slice_mm`` is the baseline's slice spacing; above 5 mm, targets must be larger.
    """
    return CRITERIA[study.criterion].assess(study, slice_mm) if len(study.timepoints) > 1 else []


def total(study: Study, timepoint: str) -> float | None:
    """The sum over targets at a time point, in the criterion's unit; None where one of them was not measured."""
    return CRITERIA[study.criterion].total(study, timepoint)


def sum_mm(study: Study, timepoint: str) -> float | None:
    """Sum of the targets' diameters at a time point, mm; None where one was not measured, or none are summed."""
    return total(study, timepoint) if CRITERIA[study.criterion].unit == "mm" else None
