"""All that others may want of a study, into one folder: table, report, DICOM SEG and SR."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tapct_core.errors import UserError
from tapct_core.lesions import ABSENT, Study

from .recovery import plain

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume

TABLE, REPORT = "lesions.csv", "report.html"


def export_all(
    study: Study,
    volumes: dict[str, CTVolume],
    folder: Path,
    report: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> tuple[list[Path], list[str]]:
    """Writes everything into ``folder`` -> the files, and why some were not written.

    ``volumes`` by time point are those that are open. SEG and SR refer to DICOM slices and are written for DICOM
    series alone. Each file is whole or not there.
    """
    from tapct_core.export import write_csv
    from tapct_core.export.report import write_report

    folder.mkdir(parents=True, exist_ok=True)
    jobs: list[tuple[str, Callable[[], Path]]] = [
        (TABLE, lambda: write_csv(study, folder / TABLE)),
        (REPORT, lambda: write_report(study, volumes, folder / REPORT)),
        *_dicom_jobs(study, volumes, folder),
    ]
    files, notes = [], []
    for number, (name, write) in enumerate(jobs):
        report(number, len(jobs))
        if cancelled():
            break
        try:
            files.append(write() or folder / name)
        except UserError as error:
            notes.append(f"{name}: {error}")
    plain_files = [t.name for t in study.timepoints if t.name in volumes and volumes[t.name].source.kind != "dicom"]
    if plain_files:
        notes.append(f"no SEG and SR for {', '.join(plain_files)}: these refer to DICOM slices, and that is none")
    unopened = [t.name for t in study.timepoints if t.name not in volumes]
    if unopened:
        notes.append(f"no pictures, SEG and SR of {', '.join(unopened)}: open the scans and export again")
    return files, notes


def _dicom_jobs(study: Study, volumes: dict[str, CTVolume], folder: Path) -> list[tuple[str, Callable[[], Path]]]:
    from tapct_core.export import write_seg, write_sr

    jobs: list[tuple[str, Callable[[], Path]]] = []
    for number, timepoint in enumerate(study.timepoints, start=1):
        volume = volumes.get(timepoint.name)
        if volume is None or volume.source.kind != "dicom":
            continue
        here = [lesion.findings[timepoint.name] for lesion in study.lesions if timepoint.name in lesion.findings]
        stem = f"{number:02d}_{plain(timepoint.name)}"
        if any(finding.mask is not None for finding in here):
            path = folder / f"{stem}_seg.dcm"
            jobs.append((path.name, lambda n=timepoint.name, v=volume, p=path: write_seg(study, n, v, p)))
        if any(finding.present or finding.state in ABSENT for finding in here):
            path = folder / f"{stem}_sr.dcm"
            jobs.append((path.name, lambda n=timepoint.name, v=volume, p=path: write_sr(study, n, v, p)))
    return jobs
