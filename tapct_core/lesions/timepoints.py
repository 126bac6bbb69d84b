"""Changes of a study that are no judgement of a lesion: its copy, and which time points it has, in which order."""

from __future__ import annotations

import copy
from dataclasses import replace

from ..patient_key import current_key
from .study import Study, Timepoint


def snapshot(study: Study) -> Study:
    """A copy that later changes do not reach; masks and measurements never change and are shared."""
    lesions = [
        replace(lesion, findings={name: copy.copy(found) for name, found in lesion.findings.items()})
        for lesion in study.lesions
    ]
    return Study(study.patient_key, [replace(timepoint) for timepoint in study.timepoints], lesions)


def insert_timepoint(study: Study, timepoint: Timepoint, patient_key: str = "") -> None:
    """Puts a time point where its date belongs; at the end without a date. Does nothing where the name is known.

    The first scan that knows its patient's key gives it to the study.
    """
    study.patient_key = current_key(study.patient_key) or patient_key
    if all(known.name != timepoint.name for known in study.timepoints):
        later = [i for i, known in enumerate(study.timepoints) if timepoint.date and known.date > timepoint.date]
        study.timepoints.insert(later[0] if later else len(study.timepoints), timepoint)


def set_date(study: Study, name: str, date: str) -> None:
    """Gives a time point its date (YYYY-MM-DD), and the place in the order that goes with it."""
    known = [timepoint for timepoint in study.timepoints if timepoint.name == name]
    study.timepoints = [timepoint for timepoint in study.timepoints if timepoint.name != name]
    for timepoint in known:
        timepoint.date = date
        insert_timepoint(study, timepoint)


def set_series(study: Study, name: str, series_uid: str) -> None:
    """Gives a time point the UID of its DICOM series, where it has none yet."""
    for timepoint in study.timepoints:
        if timepoint.name == name:
            timepoint.series_uid = timepoint.series_uid or series_uid


def rename_timepoint(study: Study, old: str, new: str) -> None:
    """Another name for a time point, in all its findings."""
    for timepoint in study.timepoints:
        if timepoint.name == old:
            timepoint.name = new
    for lesion in study.lesions:
        lesion.findings = {new if name == old else name: found for name, found in lesion.findings.items()}


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
