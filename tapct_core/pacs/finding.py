"""What a PACS has of a patient: CT series with their dates (QIDO-RS), and those of prior studies that go with one.

Standard: DICOM PS3.18 10.6 (Search Transaction).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any

from ..errors import UserError
from ..io.dicom_slices import day
from .connection import Connection

PAGE = 100
"""Results asked for at once; servers have limits of their own, so what comes back is counted."""
MOST = 20_000
"""Results of one search; a question that has more is none about a patient."""
SPECIAL = re.compile(r"[^A-Za-z0-9._*?-]+")
"""Not every server undoes the escapes of an address, so these are asked for as ``*``, and the answers gone through."""
STUDY_FIELDS = ("StudyDescription", "ModalitiesInStudy", "AccessionNumber")
SERIES_FIELDS = ("SeriesDescription", "SeriesDate", "NumberOfSeriesRelatedInstances", "BodyPartExamined")
TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "InstanceNumber": "00200013",
    "AccessionNumber": "00080050",
    "PatientID": "00100020",
    "PatientName": "00100010",
    "StudyDate": "00080020",
    "SeriesDate": "00080021",
    "StudyDescription": "00081030",
    "SeriesDescription": "0008103E",
    "NumberOfSeriesRelatedInstances": "00201209",
    "Modality": "00080060",
}


@dataclass(frozen=True)
class RemoteSeries:
    """A CT series of a PACS. ``date`` is YYYYMMDD, "" for none; ``images`` 0 where the server does not say.

    The patient's ID and name are here for the person who asks, to be sure of whom they see; they go nowhere else.
    """

    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    date: str
    study_description: str
    description: str
    images: int


def value(item: dict, keyword: str) -> str:
    """An attribute of DICOM's JSON model (PS3.18 F) in words; "" where there is none."""
    values = (item.get(TAGS[keyword]) or {}).get("Value") or [""]
    first = values[0]
    if isinstance(first, dict):  # a person's name, in up to three scripts
        first = "=".join(first.get(script) or "" for script in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return "" if first is None else str(first).strip()


def find_series(
    server: Connection, *, patient: str = "", name: str = "", accession: str = "", study: str = ""
) -> list[RemoteSeries]:
    """CT series by the patient's ID or name (``*`` and ``?`` stand for others), accession number or study UID.

    In the order of patient, date and description. Raises UserError where nothing is said of whom, and as
    :meth:`Connection.asked`.
    """
    asked = {"PatientID": patient, "PatientName": name, "AccessionNumber": accession, "StudyInstanceUID": study}
    asked = {key: words.strip() for key, words in asked.items() if words.strip(" *?")}
    if not asked:
        raise UserError("whose scans? give a patient's ID or name, an accession number or a study's UID")
    found: dict[str, RemoteSeries] = {}
    loose = {key: SPECIAL.sub("*", words) for key, words in asked.items()}
    with server.asked() as client:
        for one in pages(client.search_for_studies, STUDY_FIELDS, loose, "StudyInstanceUID"):
            if not all(_matches(words, value(one, key)) for key, words in asked.items()):
                continue
            uid = value(one, "StudyInstanceUID")
            for row in pages(client.search_for_series, SERIES_FIELDS, {"Modality": "CT"}, "SeriesInstanceUID", uid):
                if value(row, "Modality") in ("CT", ""):
                    series = _series(one, row)
                    found[series.series_uid] = series
    return sorted(found.values(), key=lambda one: (one.patient_id, one.date, one.study_uid, one.description))


def with_priors(server: Connection, found: Sequence[RemoteSeries]) -> list[RemoteSeries]:
    """What was found, and all other CT series of the same patients: one with no ID has no other studies."""
    everything = {one.series_uid: one for one in found}
    for patient in sorted({one.patient_id for one in found} - {""}):
        if not set(patient) & set("*?\\"):  # a server would take these for wildcards, and other patients come along
            for one in find_series(server, patient=patient):
                if one.patient_id == patient:
                    everything.setdefault(one.series_uid, one)
    return sorted(everything.values(), key=lambda one: (one.patient_id, one.date, one.study_uid, one.description))


def proposed(series: Sequence[RemoteSeries], chosen: RemoteSeries | None = None) -> list[RemoteSeries]:
    """One series of each study of one patient, for a follow-up: ``chosen`` and what is most like it elsewhere.

    Without ``chosen`` it is the series of the latest study with most images, and its patient's. Alike are a series'
    description and number of images; studies in which nothing has at least two images are left out.
    """
    volumes = [one for one in series if one.images != 1]
    if chosen is None:
        latest = max(volumes, key=lambda one: (one.date, one.images), default=None)
        if latest is None:
            return []
        chosen = max((one for one in volumes if one.study_uid == latest.study_uid), key=lambda one: one.images)
    picked = [chosen]
    for uid in dict.fromkeys(one.study_uid for one in volumes):
        own = [one for one in volumes if one.study_uid == uid and one.patient_id == chosen.patient_id]
        if uid != chosen.study_uid and own and chosen.patient_id:
            picked.append(max(own, key=lambda one: _likeness(one, chosen)))
    return sorted(picked, key=lambda one: (one.date, one.study_uid))


def pages(search: Any, fields: Sequence[str], filters: dict, key: str, *where: str) -> Iterator[dict]:
    """All results of a search, page after page, each once; a server that knows no pages gives the same again."""
    seen: set[str] = set()
    offset = 0
    while True:
        page = search(*where, fields=list(fields), search_filters=filters, limit=PAGE, offset=offset)
        fresh = [one for one in page if value(one, key) not in seen]
        for one in fresh:
            seen.add(value(one, key))
            yield one
        if not fresh:
            return
        if len(seen) > MOST:
            raise UserError(f"the PACS has more than {MOST} answers to that; ask more narrowly")
        offset += len(page)


def _matches(pattern: str, words: str) -> bool:
    """Whether a value is what was asked for, with ``*`` and ``?`` for others; a name in any of its scripts."""
    plain = pattern.lower().rstrip("^").replace("[", "[[]")
    return any(fnmatchcase(part.rstrip("^ "), plain) for part in (words.lower(), *words.lower().split("=")))


def _series(study: dict, row: dict) -> RemoteSeries:
    count = value(row, "NumberOfSeriesRelatedInstances")
    return RemoteSeries(
        patient_id=value(study, "PatientID"),
        patient_name=value(study, "PatientName"),
        study_uid=value(study, "StudyInstanceUID"),
        series_uid=value(row, "SeriesInstanceUID"),
        date=day(value(row, "SeriesDate")) or day(value(study, "StudyDate")),
        study_description=value(study, "StudyDescription"),
        description=value(row, "SeriesDescription"),
        images=int(count) if count.isdigit() else 0,
    )


def _likeness(one: RemoteSeries, other: RemoteSeries) -> float:
    words = SequenceMatcher(None, one.description.lower(), other.description.lower()).ratio()
    low, high = sorted((one.images, other.images))
    return words + (low / high if high else 0.0)
