"""The follow-up table: one row a lesion and time point."""

from __future__ import annotations

import csv
from pathlib import Path

from ..atomic import atomic_path
from ..lesions import Finding, Lesion, Study, Timepoint
from ..lesions.assessment import Assessment, assess, changes, sum_mm, total
from ..lesions.criteria import CRITERIA
from ..tables import as_text

COLUMNS = (
    "patient", "lesion_uid", "timepoint", "series_uid", "x_mm", "y_mm", "z_mm", "long_axis_mm", "short_axis_mm",
    "volume_ml", "match_status", "cycle_mm", "accepted_by", "lesion", "role", "organ", "date", "mean_hu", "sd_hu",
    "change_from_baseline_percent", "change_from_nadir_percent", "confidence", "presence", "accepted_at",
    "axes_counted", "axes_doubts", "axes_confirmed_by", "reason", "comment",
    "criterion", "sum_of_targets", "sum_unit", "response_remarks",
    "sum_of_targets_mm", "response", "response_rule", "response_provisional", "non_targets_progressed_by",
)  # fmt: skip
"""Places are LPS mm. The changes are those of the lesion's own RECIST diameter, against the first and the smallest
earlier one. ``accepted_by`` is empty for a proposal. From ``criterion`` on a column is of
the whole time point, by the study's criterion, and stands in each of its rows; ``response_provisional`` is yes while it
rests on proposals. ``axes_counted`` is no for a measurement that is doubtful and nobody has confirmed, "too small" for
what a person says is too small to measure. ``reason`` says why no place was proposed, or what to look at."""


def write_csv(study: Study, path: str | Path) -> Path:
    """Write the table, whole or not at all; returns its path."""
    path = Path(path)
    with atomic_path(path, private=True) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({key: as_text(value) for key, value in row.items()} for row in rows(study))
    return path


def rows(study: Study) -> list[dict[str, str]]:
    """The table's rows, lesion by lesion in the order of time; what is not known is empty."""
    assessed = {one.timepoint: one for one in assess(study)}
    of_timepoint = {one.name: _of_timepoint(study, one, assessed.get(one.name)) for one in study.timepoints}
    return [
        dict(
            zip(
                COLUMNS,
                _of_lesion(study, lesion, timepoint)
                + _of_measurement(lesion.findings[timepoint.name])
                + of_timepoint[timepoint.name],
                strict=True,
            )
        )
        for lesion in study.lesions
        for timepoint in study.timepoints
        if timepoint.name in lesion.findings
    ]


def _of_lesion(study: Study, lesion: Lesion, timepoint: Timepoint) -> tuple[str, ...]:
    finding = lesion.findings[timepoint.name]
    measured = finding.measurement
    x, y, z = finding.point_lps_mm or (None, None, None)
    from_baseline, from_nadir = changes(study, lesion, timepoint.name)
    return (
        study.patient_key, lesion.uid, timepoint.name, timepoint.series_uid, _number(x), _number(y), _number(z),
        _number(measured and measured.long_axis_mm), _number(measured and measured.short_axis_mm),
        _number(measured and measured.volume_ml, 4), finding.state, _number(finding.cycle_error_mm),
        finding.decided_by, lesion.name, lesion.role, lesion.organ, timepoint.date,
        _number(measured and measured.mean_hu, 1), _number(measured and measured.sd_hu, 1),
        _number(from_baseline, 1), _number(from_nadir, 1), _number(finding.confidence, 4),
        _number(finding.presence, 4), finding.decided_at,
    )  # fmt: skip


def _of_timepoint(study: Study, timepoint: Timepoint, assessed: Assessment | None) -> tuple[str, ...]:
    targets = any(one.role == "target" for one in study.lesions)
    diameters = _number(sum_mm(study, timepoint.name)) if targets else ""
    unit = CRITERIA[study.criterion].unit
    sums = (study.criterion, _number(total(study, timepoint.name)) if targets else "", unit if targets else "")
    if assessed is None:  # the baseline
        return *sums, "", diameters, "", "", "", ""
    judged, response = assessed.non_target_progress, assessed.response
    provisional = "yes" if assessed.provisional else "no"
    said = diameters, response.category, response.rule, provisional, judged.by if judged else ""
    return *sums, "; ".join(assessed.remarks), *said


def _of_measurement(finding: Finding) -> tuple[str, ...]:
    counted = "too small" if finding.too_small else "" if finding.measurement is None else "yes"
    counted = "no" if finding.doubtful else counted
    doubts = "; ".join(finding.plausibility.doubts) if finding.plausibility is not None else ""
    return counted, doubts, finding.measured_by, finding.reason, finding.comment


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"
