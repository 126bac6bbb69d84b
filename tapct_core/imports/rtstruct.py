"""RT Structure Sets: each region of interest a finding, from its closed contours or its points.

No kept library reads them apart from whole treatment planning packages, so this does: contours of one plane are
combined by even-odd, which covers holes drawn as a contour of their own, keyholes, and CLOSEDPLANAR_XOR alike.
Standard: DICOM PS3.3 C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..io.dicom_slices import text
from .found import Contours, Found, InSpace, made_uid

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(dataset: Any, name: str) -> list[Found]:
    """Findings in the order of the file; regions without a closed contour or a point are left out."""
    series, frames = _referred(dataset)
    rois = {int(roi.ROINumber): roi for roi in dataset.StructureSetROISequence}
    found = []
    for drawn in dataset.get("ROIContourSequence") or []:
        roi = rois.get(int(drawn.ReferencedROINumber))
        closed, points = [], []
        for contour in drawn.get("ContourSequence") or []:
            kind = text(contour, "ContourGeometricType").upper()
            data = np.array(contour.ContourData, float).reshape(-1, 3)
            if kind in CLOSED and len(data) > 2:
                closed.append(data)
            elif kind == "POINT" and len(data):
                points.append(data[:1])
        if roi is None or not (closed or points):
            continue
        what = (Contours(tuple(closed)),) if closed else (InSpace("POINT", points[0]),)
        found.append(
            Found(
                name,
                text(roi, "ROIName") or f"ROI {roi.ROINumber}",
                made_uid(text(dataset, "SOPInstanceUID"), roi.ROINumber),
                what,
                series,
                frame_uid=text(roi, "ReferencedFrameOfReferenceUID") or next(iter(frames), ""),
            )
        )
    return found


def _referred(dataset: Any) -> tuple[frozenset[str], list[str]]:
    """The series and the frames of reference that the structure set says it was drawn on."""
    series: set[str] = set()
    frames = []
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frames.append(text(frame, "FrameOfReferenceUID"))
        for study in frame.get("RTReferencedStudySequence") or []:
            for one in study.get("RTReferencedSeriesSequence") or []:
                series.add(text(one, "SeriesInstanceUID"))
    return frozenset(series - {""}), [frame for frame in frames if frame]
