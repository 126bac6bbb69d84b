"""Enhanced multi-frame CT: each frame as a slice of its own, with a header that says of it what a single image says.

What belongs to a frame stands in its functional groups, or in those shared by all.
Standard: DICOM PS3.3 A.38 (Enhanced CT Image), C.7.6.16 (Multi-frame Functional Groups), A.70 (Legacy Converted).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError
from .dicom_slices import Slice, number, plane_of, text

ENHANCED = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP classes of Enhanced CT and Legacy Converted Enhanced CT (DICOM PS3.6)."""
FROM_FILE = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "SeriesDescription", "SeriesNumber", "SeriesDate", "StudyDate", "AcquisitionDate", "PatientID", "Rows",
    "Columns", "BitsAllocated", "SamplesPerPixel", "ConvolutionKernel", "WindowWidth", "WindowCenter",
)  # fmt: skip
FROM_FRAME = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing"},
    "PixelValueTransformationSequence": {
        "RescaleSlope": "RescaleSlope",
        "RescaleIntercept": "RescaleIntercept",
        "RescaleType": "RescaleType",
    },
    "FrameContentSequence": {
        "TemporalPositionIndex": "TemporalPositionIdentifier",
        "FrameAcquisitionNumber": "AcquisitionNumber",
    },
    "CardiacSynchronizationSequence": {"NominalPercentageOfCardiacPhase": "NominalPercentageOfCardiacPhase"},
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
    "FrameVOILUTSequence": {"WindowWidth": "WindowWidth", "WindowCenter": "WindowCenter"},
    "CTImageFrameTypeSequence": {"FrameType": "ImageType"},
}
"""Functional group -> its attribute, and what a single image calls it."""


def frames_of(path: Path, header: Any) -> list[Slice]:
    """The frames of an enhanced CT as slices, localizers left out; none for any other file.

    Raises UserError for an enhanced CT whose frames do not say where they lie.
    """
    if not {text(header, "SOPClassUID"), text(header.file_meta, "MediaStorageSOPClassUID")} & set(ENHANCED):
        return []
    damaged = UserError(f"{path.name} is a multi-frame CT whose frames do not all say where they lie; copy it again")
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    if len(groups) != number(header, "NumberOfFrames", 1):
        raise damaged
    slices = []
    for index in range(len(groups)):
        made = frame_header(header, index)
        if "LOCALIZER" in text(made, "ImageType").upper():
            continue
        plane = plane_of(path, made)
        if plane is None:
            raise damaged
        slices.append(Slice(path, made, *plane, frame=index, frames=len(groups)))
    return slices


def frame_header(header: Any, index: int) -> Any:
    """What a single image would say of a frame, counted from 0."""
    from pydicom.dataset import Dataset

    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    group = header.PerFrameFunctionalGroupsSequence[index]
    made = Dataset()
    made.file_meta = header.file_meta
    for key in FROM_FILE:
        if key in header:
            made[key] = header[key]
    for sequence, keys in FROM_FRAME.items():
        found = next((one[sequence][0] for one in (group, shared) if one is not None and one.get(sequence)), None)
        for theirs, ours in keys.items() if found is not None else ():
            if theirs in found:
                setattr(made, ours, found[theirs].value)
    return made
