"""SEG and SR to the study they belong to (STOW-RS): checked against what the PACS has of it, and never twice.

Standard: DICOM PS3.18 10.5 (Store Transaction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..io.dicom_opening import open_dicom
from ..io.dicom_slices import quiet, text
from ..progress import Cancel, Progress
from .connection import Connection
from .finding import pages, value

SENT = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",  # label map
    "1.2.840.10008.5.1.4.1.1.88.22": "SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "SR",
}
"""SOP classes (DICOM PS3.6) that go back to a PACS; images are not ours to send."""
LARGEST_PIXELS = 2**30


@dataclass(frozen=True)
class Sent:
    """A file and what became of it. ``stored`` is False for one that was there already."""

    path: Path
    kind: str
    stored: bool


def send_files(
    server: Connection, files: Sequence[str | Path], progress: Progress | None = None, cancel: Cancel | None = None
) -> list[Sent]:
    """Store SEG and SR files in their studies -> one Sent each; fewer where ``cancel`` said stop.

    All are checked before the first is sent. Raises UserError for what is no SEG or SR, for a study that the server
    does not have (de-identified files name none that it has) or has of another patient, and where it refuses.
    """
    read = [(Path(path), _read(Path(path))) for path in files]
    for path, dataset in read:
        _check_study(server, path, dataset)
    sent = []
    for number, (path, dataset) in enumerate(read):
        if progress is not None:
            progress(number, len(read))
        if cancel is not None and cancel():
            break
        there = _is_there(server, dataset)
        if not there:
            _store(server, path, dataset)
        sent.append(Sent(path, SENT[text(dataset, "SOPClassUID")], not there))
    return sent


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path")
    with quiet():
        try:
            dataset = open_dicom(path, pixel_bytes=LARGEST_PIXELS)
            kind = SENT.get(text(dataset, "SOPClassUID"))
        except UserError:
            raise
        except Exception:  # a broken file can raise anything; its words help nobody
            kind = None
    if kind is None or not text(dataset, "StudyInstanceUID") or not text(dataset, "SOPInstanceUID"):
        raise UserError(f"{path.name} is no DICOM SEG or SR; only these are sent")
    return dataset


def _check_study(server: Connection, path: Path, dataset: Any) -> None:
    uid = text(dataset, "StudyInstanceUID")
    with server.asked() as client:
        rows = list(pages(client.search_for_studies, (), {"StudyInstanceUID": uid}, "StudyInstanceUID"))
    known = next((row for row in rows if value(row, "StudyInstanceUID") == uid), None)
    if known is None:
        raise UserError(
            f"{server.host} has no study that {path.name} belongs to; send it where the scan came from, "
            "and not de-identified"
        )
    if value(known, "PatientID") != text(dataset, "PatientID"):
        raise UserError(
            f"{path.name} has another patient ID than {server.host} has for its study; make it again from the "
            "images that are there"
        )


def _is_there(server: Connection, dataset: Any) -> bool:
    uid = text(dataset, "SOPInstanceUID")
    with server.asked() as client:
        where = text(dataset, "StudyInstanceUID"), text(dataset, "SeriesInstanceUID")
        rows = list(pages(client.search_for_instances, (), {"SOPInstanceUID": uid}, "SOPInstanceUID", *where))
    return any(value(row, "SOPInstanceUID") == uid for row in rows)


def _store(server: Connection, path: Path, dataset: Any) -> None:
    with server.asked() as client, quiet():
        answer = client.store_instances([dataset], study_instance_uid=text(dataset, "StudyInstanceUID"))
    stored = [text(one, "ReferencedSOPInstanceUID") for one in answer.get("ReferencedSOPSequence") or []]
    if answer.get("FailedSOPSequence") or text(dataset, "SOPInstanceUID") not in stored:
        raise UserError(f"{server.host} did not store {path.name}; ask those who run it whether it takes SEG and SR")
