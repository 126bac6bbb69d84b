"""Changes of a study that are no judgement of a lesion: its copy, and which time points it has, in which order."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..patient_key import current_key
from .study import Study, Timepoint


def snapshot(study: Study) -> Study:
    """A copy that later changes do not reach; masks and measurements never change and are shared."""
    lesions = [
        replace(lesion, findings={name: copy.copy(found) for name, found in lesion.findings.items()})
        for lesion in study.lesions
    ]
    return replace(study, timepoints=[replace(timepoint) for timepoint in study.timepoints], lesions=lesions)


def calendar_date(words: str) -> str:
    """A date as studies hold it (YYYY-MM-DD), from that or from DICOM's YYYYMMDD; "" for what no calendar has."""
    found = re.fullmatch(r"(\d{4})[-.]?(\d{2})[-.]?(\d{2})", words.strip(), re.ASCII)
    try:
        return date(*map(int, found.groups())).isoformat() if found else ""
    except ValueError:
        return ""


def in_order(study: Study) -> bool:
    """Whether the dates that are known rise with the time points."""
    dates = [timepoint.date for timepoint in study.timepoints if timepoint.date]
    return dates == sorted(dates)


def fill_in_date(study: Study, name: str, words: str) -> str:
    """Gives a time point without a date the one that its scan's header has -> why not, "" where it was or had one.

    A date that no calendar has, or that contradicts the order in which the study names its scans, is left out.
    """
    timepoint, found = study.timepoints[study.order(name)], calendar_date(words)
    if timepoint.date or not words.strip("0. "):
        return ""
    if not found:
        return f"the date {words} of {name} is in no calendar and was left out"
    timepoint.date = found
    if in_order(study):
        return ""
    timepoint.date = ""
    return f"the date {found} of {name} contradicts the order of the study's scans and was left out"


def insert_timepoint(study: Study, timepoint: Timepoint, patient_key: str = "") -> None:
    """Puts a time point where its date belongs; at the end without a date. Does nothing where the name is known.

    The first scan that knows its patient's key gives it to the study.
    """
    study.patient_key = current_key(study.patient_key) or patient_key
    timepoint.date = calendar_date(timepoint.date)
    if all(known.name != timepoint.name for known in study.timepoints):
        later = [i for i, known in enumerate(study.timepoints) if timepoint.date and known.date > timepoint.date]
        study.timepoints.insert(later[0] if later else len(study.timepoints), timepoint)


def set_date(study: Study, name: str, when: str) -> None:
    """Gives a time point its date (YYYY-MM-DD, "" for none), and the place in the order that goes with it.

    Raises UserError for a date that no calendar has.
    """
    if when and calendar_date(when) != when:
        raise UserError(f"{when!r} is no date; write it as YYYY-MM-DD")
    known = [timepoint for timepoint in study.timepoints if timepoint.name == name]
    study.timepoints = [timepoint for timepoint in study.timepoints if timepoint.name != name]
    for timepoint in known:
        timepoint.date = when
        insert_timepoint(study, timepoint)


def set_series(study: Study, name: str, series_uid: str, reading: dict[str, float] | None = None) -> None:
    """Gives a time point the UID of its DICOM series, where it has none yet, and what a person said of its scan."""
    for timepoint in study.timepoints:
        if timepoint.name == name:
            timepoint.series_uid = timepoint.series_uid or series_uid
            timepoint.reading = dict(reading) if reading is not None else timepoint.reading


def how_to_read(timepoint: Timepoint, path: Path) -> dict[str, Any]:
    """The keywords of ``load_ct`` for a time point's scan, which lies at ``path``."""
    return {"series": (timepoint.series_uid or None) if path.is_dir() else None, **timepoint.reading}


def rename_timepoint(study: Study, old: str, new: str) -> None:
    """Another name for a time point, in all its findings."""
    for timepoint in study.timepoints:
        if timepoint.name == old:
            timepoint.name = new
    for lesion in study.lesions:
        lesion.findings = {new if name == old else name: found for name, found in lesion.findings.items()}


def move_timepoint(study: Study, name: str, order: int) -> None:
    """Puts a time point at another place in the order of time. Raises UserError where dates say otherwise."""
    before = list(study.timepoints)
    moved = study.timepoints.pop(study.order(name))
    study.timepoints.insert(order, moved)
    if not in_order(study):
        study.timepoints = before
        raise UserError(f"the dates of the scans say otherwise; correct the date of {name} first")


def forget_timepoint(study: Study, name: str) -> None:
    """Takes a time point out of the study if it is there and nothing was found at it."""
    if not any(name in lesion.findings for lesion in study.lesions):
        study.timepoints = [timepoint for timepoint in study.timepoints if timepoint.name != name]


def remove_timepoint(study: Study, name: str) -> None:
    """Takes a time point out of the study with its findings; a lesion without any other finding goes too."""
    study.order(name)
    study.timepoints = [timepoint for timepoint in study.timepoints if timepoint.name != name]
    for lesion in study.lesions:
        lesion.findings.pop(name, None)
    study.lesions = [lesion for lesion in study.lesions if lesion.findings]
