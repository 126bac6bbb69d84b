"""A study's findings for others: a table (CSV), a report (HTML), masks (DICOM SEG) and measurements (DICOM SR).

Each writer waits until somebody asks for it: who only wants the report's words or colours need not load pydicom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import fetch

if TYPE_CHECKING:
    from .csv import COLUMNS, write_csv
    from .dicom_seg import write_seg
    from .dicom_sr import write_sr
    from .report import write_report

__all__ = ["COLUMNS", "write_csv", "write_report", "write_seg", "write_sr"]

_WHERE = {
    "COLUMNS": "csv",
    "write_csv": "csv",
    "write_report": "report",
    "write_seg": "dicom_seg",
    "write_sr": "dicom_sr",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, _WHERE, name)
