"""What lies in a folder of any size, as a table: each DICOM series and each volume file a row, from headers alone.

Patients are told apart by a keyed hash of their ID; no name is read. What would keep a row from being opened is said.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..patient_key import patient_key
from .dicom_frames import frames_of
from .dicom_groups import one_stack
from .dicom_slices import Slice, date_of, is_ct_image, plane_of, quiet, read_header, text
from .dicom_stack import stack
from .readers import HEAD_BYTES, reader_named, reader_of
from .suffixes import suffix_of


@dataclass(frozen=True)
class Row:
    """A series or a volume file; ``spacing_mm`` (z, y, x) is () without a grid, ``problem`` "" where it opens."""

    patient: str
    study: str
    date: str
    modality: str
    description: str
    kernel: str
    slices: int
    spacing_mm: tuple[float, ...]
    path: str
    series_uid: str
    problem: str


def inventory(folder: Path) -> list[Row]:
    """Rows in the order of patient, date and description. ``study`` counts a patient's studies by date, from 1.

    Raises UserError for a folder in which nothing is known.
    """
    files: list[Row] = []
    series: dict[tuple, list[Slice]] = defaultdict(list)
    others: dict[tuple, list] = defaultdict(list)
    homes: dict[tuple, Path] = {}
    with quiet():
        for where, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = Path(where, name)
                if name.startswith(".") or name.upper() == "DICOMDIR" or not path.is_file():
                    continue
                if suffix_of(path):
                    files.append(_of_file(path, folder))
                    continue
                _of_slice(path, folder, series, others, homes, files)
        rows = [_of_series(found, others.get(key, []), homes[key]) for key, found in series.items()]
        rows += [_of_others(found, homes[key]) for key, found in others.items() if key not in series]
    if not rows and not files:
        raise UserError(f"{folder.name or folder} holds no scan; choose a folder with CTs")
    return _numbered(rows) + files


def _of_slice(path: Path, folder: Path, series: dict, others: dict, homes: dict, files: list[Row]) -> None:
    """Puts one file that may be DICOM where it belongs; what is none is passed over."""
    try:
        header = read_header(path)
        if header is None:
            return
        key = (text(header, "SeriesInstanceUID") or str(path.parent), text(header, "Modality"))
        homes.setdefault(key, path.parent.relative_to(folder))
        frames = frames_of(path, header)
        plane = None if frames or "LOCALIZER" in text(header, "ImageType").upper() else plane_of(path, header)
    except UserError as error:
        files.append(_row(path.relative_to(folder), problem=str(error)))
        return
    if frames or plane is not None:
        series[key] += frames or [Slice(path, header, *plane)]
    else:
        others[key].append(header)


def _of_series(slices: list[Slice], placeless: list, home: Path) -> Row:
    unique = list({(s.uid or str(s.path), s.frame, *s.position): s for s in slices}.values())
    header = unique[0].header
    spacing: tuple[float, ...] = ()
    lost = sum(is_ct_image(one) and "LOCALIZER" not in text(one, "ImageType").upper() for one in placeless)
    problem = f"{lost} images without a place" if lost else ""
    try:
        if text(header, "Modality") not in ("CT", ""):
            raise UserError(f"not a CT ({text(header, 'Modality')})")
        if len({tuple(np.round([*s.position, *s.axes.ravel()], 2)) for s in unique}) < len(unique):
            raise UserError("positions repeat: phases, or duplicates")
        affine, _, _ = stack(one_stack(unique))
        spacing = tuple(round(float(s), 4) for s in np.linalg.norm(affine[:3, [2, 1, 0]], axis=0))
    except UserError as error:
        problem = problem or str(error)
    return _row(home, header, len(unique), spacing, problem)


def _of_others(headers: list, home: Path) -> Row:
    return _row(home, headers[0], len(headers), (), "no images with a place in the patient")


def _of_file(path: Path, folder: Path) -> Row:
    """A volume file by its header."""
    where = path.relative_to(folder)
    try:
        with open(path, "rb") as file:
            reader = reader_of(file.read(HEAD_BYTES)) or reader_named(path)
        source = reader.read_source(path)
    except (UserError, OSError) as error:
        return _row(where, problem=str(error))
    spacing = tuple(round(float(s), 4) for s in np.linalg.norm(source.file_affine[:3, :3], axis=0))
    axes = source.orientation.axes
    return _row(where, None, source.file_shape[axes[0]], tuple(spacing[a] for a in axes))


def _row(path: Path, header=None, slices: int = 0, spacing: tuple[float, ...] = (), problem: str = "") -> Row:
    def said(key: str) -> str:
        return text(header, key) if header is not None else ""

    patient = said("PatientID")
    return Row(
        patient=patient_key(patient) if patient else "",
        study=said("StudyInstanceUID"),
        date=date_of(header) if header is not None else "",
        modality=said("Modality"),
        description=said("SeriesDescription"),
        kernel=said("ConvolutionKernel").split("\\")[0],
        slices=slices,
        spacing_mm=spacing,
        path=str(path),
        series_uid=said("SeriesInstanceUID"),
        problem=problem,
    )


def _numbered(rows: list[Row]) -> list[Row]:
    """Sorted, each study's UID replaced by its number among its patient's by date."""
    from dataclasses import replace

    rows = sorted(rows, key=lambda row: (row.patient, row.date, row.study, row.description, row.series_uid))
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        numbers[row.patient].setdefault(row.study, len(numbers[row.patient]) + 1)
    return [replace(row, study=str(numbers[row.patient][row.study])) for row in rows]
