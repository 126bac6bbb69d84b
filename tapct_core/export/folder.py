"""All that others may want of a study, into folders: table, report, DICOM SEG and SR; and how the files are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import UserError
from ..lesions import ABSENT, Study
from ..volume import CTVolume
from .csv import write_csv
from .deidentify import without_patient
from .report import write_report

TABLE, REPORT = "lesions.csv", "report.html"


def plain(name: str) -> str:
    """A name for files: letters, digits and dashes, an underscore for any run of others, 40 characters at most."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", name)[:40] or "scan"


def file_stem(study: Study, timepoint: str) -> str:
    """How the files of a time point begin: its number in time, from 01, and its plain name."""
    return f"{study.order(timepoint) + 1:02d}_{plain(timepoint)}"


def dicom_files(
    study: Study, volumes: Mapping[str, CTVolume], seg: Path | None, sr: Path | None, deidentified: bool = False
) -> Iterator[tuple[Path, Callable[[], Path]]]:
    """Each SEG for the folder ``seg`` and SR for ``sr`` (None: not wanted), and what writes it.

    ``deidentified``: without the patient, in the files' names too.

    A time point that has nothing to say gets no file. A scan is asked for when its file is written.
    """
    if seg is None and sr is None:
        return
    from . import write_seg, write_sr  # highdicom: not needed for tables

    called = without_patient(study) if deidentified else study
    for number, timepoint in enumerate(study.timepoints):
        if timepoint.name not in volumes:
            continue
        here = [lesion.findings[timepoint.name] for lesion in study.lesions if timepoint.name in lesion.findings]
        wanted = (
            (seg, "seg", write_seg, any(finding.mask is not None for finding in here)),
            (sr, "sr", write_sr, any(finding.present or finding.state in ABSENT for finding in here)),
        )
        for folder, kind, write, has_something in wanted:
            if folder is not None and has_something:
                path = folder / f"{file_stem(called, called.timepoints[number].name)}_{kind}.dcm"
                yield path, lambda n=timepoint.name, w=write, p=path: w(study, n, volumes[n], p, deidentified)


def held(dicom: bool, tables: bool, deidentified: bool) -> list[str]:
    """What files hold of the patient, in words: of SEG and SR (``dicom``), and of table and report (``tables``)."""
    if deidentified and (dicom or tables):
        return ["the files hold neither the patient's name, ID, key nor dates; scans and lesions are numbered"]
    lines = ["SEG and SR hold the patient's name, ID and dates, as their images do"] if dicom else []
    return lines + (["table and report hold the patient's key, dates and initials"] if tables else [])


def for_tables(study: Study, volumes: Mapping[str, CTVolume]) -> tuple[Study, Mapping[str, CTVolume]]:
    """A study without its patient, and its scans by the names that they have there."""
    plain = without_patient(study)
    pairs = zip(plain.timepoints, study.timepoints, strict=True)
    return plain, _Renamed(volumes, {new.name: old.name for new, old in pairs})


class _Renamed(Mapping):
    """Scans under other names; asked for only when they are needed."""

    def __init__(self, volumes: Mapping[str, CTVolume], old: Mapping[str, str]) -> None:
        self._volumes, self._old = volumes, old

    def __getitem__(self, name: str) -> CTVolume:
        return self._volumes[self._old[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._old and self._old[name] in self._volumes

    def __iter__(self) -> Iterator[str]:
        return (new for new, old in self._old.items() if old in self._volumes)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def export_all(
    study: Study,
    volumes: Mapping[str, CTVolume],
    folder: Path,
    report: Callable[[int, int], None],
    cancelled: Callable[[], bool],
    deidentified: bool = False,
) -> tuple[list[Path], list[str]]:
    """Writes everything into ``folder`` -> the files, and what they hold of the patient and why some were not written.

    ``volumes`` by time point are those that are open. SEG and SR refer to DICOM slices and are written for DICOM
    series alone. Each file is whole or not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = {name: volume for name, volume in volumes.items() if volume.source.kind == "dicom"}
    told, pictured = for_tables(study, volumes) if deidentified else (study, volumes)
    jobs: list[tuple[Path, Callable[[], Path]]] = [
        (folder / TABLE, lambda: write_csv(told, folder / TABLE)),
        (folder / REPORT, lambda: write_report(told, pictured, folder / REPORT)),
        *dicom_files(study, series, folder, folder, deidentified),
    ]
    files, notes = [], []
    for number, (path, write) in enumerate(jobs):
        report(number, len(jobs))
        if cancelled():
            break
        try:
            write()
            files.append(path)
        except UserError as error:
            notes.append(f"{path.name}: {error}")
    dicom = any(path.suffix == ".dcm" for path in files)
    notes = [*held(dicom, any(path.name in (TABLE, REPORT) for path in files), deidentified), *notes]
    names = [timepoint.name for timepoint in study.timepoints]
    if no_series := [name for name in names if name in volumes and name not in series]:
        notes.append(f"no SEG and SR for {', '.join(no_series)}: these refer to DICOM slices, and that is none")
    if unopened := [name for name in names if name not in volumes]:
        notes.append(f"no pictures, SEG and SR of {', '.join(unopened)}: open the scans and export again")
    return files, notes
