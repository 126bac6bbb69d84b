"""A study's findings for others: a table (CSV), a report (HTML), masks (DICOM SEG) and measurements (DICOM SR)."""

from .csv import COLUMNS, write_csv
from .dicom_seg import write_seg
from .dicom_sr import write_sr
from .report import write_report

__all__ = ["COLUMNS", "write_csv", "write_report", "write_seg", "write_sr"]
