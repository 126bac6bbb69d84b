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
    "lesion", "timepoint", "date", "long_axis_mm", "short_axis_mm", "change_from_baseline_percent",
    "change_from_nadir_percent", "match_status", "role", "organ", "node", "comment", "volume_ml", "mean_hu", "sd_hu",
    "axes_by", "axes_counted", "axes_doubts", "axes_confirmed_by", "accepted_by", "accepted_at", "reason",
    "confidence", "presence", "cycle_mm", "x_mm", "y_mm", "z_mm",
    "criterion", "sum_of_targets", "sum_unit", "response_remarks",
    "sum_of_targets_mm", "response", "response_rule", "response_provisional", "non_targets_progressed_by",
    "patient", "lesion_uid", "series_uid",
)  # fmt: skip
"""What a person reads comes first, identifiers last. Places are LPS mm. The changes are those of the lesion's own
RECIST diameter, against the first and the smallest earlier one. ``node`` is yes for a lymph node, of which RECIST
reads the short axis. ``accepted_by`` is empty for a proposal. From ``criterion`` to ``non_targets_progressed_by`` a
column is of the whole time point, by the study's criterion, and stands in each of its rows;
``response_provisional`` is yes while it rests on proposals. ``axes_by`` is person for axes that were drawn, mask
for those that a mask measures. ``axes_counted`` is no for a measurement that is doubtful and nobody has confirmed,
"too small" for what a person says is too small to measure. ``reason`` says why no place was proposed, or what to
look at."""


def write_csv(study: Study, path: str | Path) -> Path:
    """Write the table, whole or not at all; returns its path.

    It begins with a byte-order mark, without which Excel takes UTF-8 for the code page of its country.
    """
    path = Path(path)
    with atomic_path(path, private=True) as part, open(part, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({key: as_text(value) for key, value in row.items()} for row in rows(study))
    return path


def rows(study: Study) -> list[dict[str, str]]:
    """The table's rows, lesion by lesion in the order of time; what is not known is empty."""
    assessed = {one.timepoint: one for one in assess(study)}
    of_timepoint = {one.name: _of_timepoint(study, one, assessed.get(one.name)) for one in study.timepoints}
    return [
        {key: said[key] for key in COLUMNS}
        for lesion in study.lesions
        for timepoint in study.timepoints
        if timepoint.name in lesion.findings
        for said in [_of_lesion(study, lesion, timepoint) | of_timepoint[timepoint.name]]
    ]


def _of_lesion(study: Study, lesion: Lesion, timepoint: Timepoint) -> dict[str, str]:
    finding = lesion.findings[timepoint.name]
    x, y, z = finding.point_lps_mm or (None, None, None)
    from_baseline, from_nadir = changes(study, lesion, timepoint.name)
    return {
        "lesion": lesion.name,
        "timepoint": timepoint.name,
        "date": timepoint.date,
        "change_from_baseline_percent": _number(from_baseline, 1),
        "change_from_nadir_percent": _number(from_nadir, 1),
        "match_status": finding.state,
        "role": lesion.role,
        "organ": lesion.organ,
        "node": "yes" if lesion.node else "no",
        "comment": finding.comment,
        "accepted_by": finding.decided_by,
        "accepted_at": finding.decided_at,
        "reason": finding.reason,
        "confidence": _number(finding.confidence, 4),
        "presence": _number(finding.presence, 4),
        "cycle_mm": _number(finding.cycle_error_mm),
        "x_mm": _number(x),
        "y_mm": _number(y),
        "z_mm": _number(z),
        "patient": study.patient_key,
        "lesion_uid": lesion.uid,
        "series_uid": timepoint.series_uid,
    } | _of_measurement(finding)


def _of_timepoint(study: Study, timepoint: Timepoint, assessed: Assessment | None) -> dict[str, str]:
    targets = any(one.role == "target" for one in study.lesions)
    response = assessed.response if assessed is not None else None  # the baseline has none
    judged = assessed.non_target_progress if assessed is not None else None
    return {
        "criterion": study.criterion,
        "sum_of_targets": _number(total(study, timepoint.name)) if targets else "",
        "sum_unit": CRITERIA[study.criterion].unit if targets else "",
        "response_remarks": "; ".join(assessed.remarks) if assessed is not None else "",
        "sum_of_targets_mm": _number(sum_mm(study, timepoint.name)) if targets else "",
        "response": response.category if response is not None else "",
        "response_rule": response.rule if response is not None else "",
        "response_provisional": ("yes" if assessed.provisional else "no") if assessed is not None else "",
        "non_targets_progressed_by": judged.by if judged else "",
    }


def _of_measurement(finding: Finding) -> dict[str, str]:
    measured = finding.measurement
    counted = "too small" if finding.too_small else "" if measured is None else "yes"
    return {
        "long_axis_mm": _number(measured and measured.long_axis_mm),
        "short_axis_mm": _number(measured and measured.short_axis_mm),
        "volume_ml": _number(measured and measured.volume_ml, 4),
        "mean_hu": _number(measured and measured.mean_hu, 1),
        "sd_hu": _number(measured and measured.sd_hu, 1),
        "axes_by": "" if measured is None else "person" if measured.drawn else "mask",
        "axes_counted": "no" if finding.doubtful else counted,
        "axes_doubts": "; ".join(finding.plausibility.doubts) if finding.plausibility is not None else "",
        "axes_confirmed_by": finding.measured_by,
    }


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"
