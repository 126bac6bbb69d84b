"""Where a scan came from, as a study says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...scan import Scan


def origin(scan: Scan) -> tuple[str, str]:
    """File or folder of a scan, absolute, "" if it has none, and its series UID, "" if it is no DICOM."""
    source = scan.volume.source
    path = str(Path(source.path).absolute()) if source.path else ""
    return path, source.dicom.series_instance_uid if source.dicom else ""


def patient_of(scan: Scan) -> str:
    """The key that tells a scan's patient from others, "" where it is not known."""
    return scan.volume.source.dicom.patient_key if scan.volume.source.dicom else ""


def same_path(a: str, b: str) -> bool:
    """Whether two paths lead to the same place."""
    return bool(a) and bool(b) and os.path.realpath(a) == os.path.realpath(b)


def shortened(path: str, study_path: Path) -> str:
    """A scan's path as the study's file says it: relative when it lies in the study's folder or below."""
    folder = study_path.absolute().parent
    return str(Path(path).relative_to(folder)) if path and Path(path).is_relative_to(folder) else path
