"""Masks of one time point as a DICOM Segmentation, one segment a lesion, with the lesion's Tracking UID.

Standard: DICOM PS3.3 C.8.20 (Segmentation), written by highdicom.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..atomic import atomic_path
from ..errors import UserError
from ..lesions import Finding, Lesion, Study, new_uid
from ..volume import CTVolume
from .deidentify import deidentify, without_patient
from .dicom_source import (
    MANUFACTURER,
    MODEL,
    each_by_itself,
    file_order,
    findings_at,
    label_text,
    refer_to_frames,
    said_in_one_line,
    software_version,
    source_images,
)


def write_seg(study: Study, timepoint: str, volume: CTVolume, path: str | Path, deidentified: bool = False) -> Path:
    """Write the masks of ``timepoint``, whose scan is ``volume``; returns the path.

    It holds the patient as the images do, or ``deidentified`` after PS3.15's basic profile.

    Raises UserError for a scan that was not DICOM, one without UIDs, and where no lesion has a mask.
    """
    import highdicom as hd

    order = study.order(timepoint)
    if deidentified:
        study = without_patient(study)
        timepoint = study.timepoints[order].name
    images = source_images(volume, "SEG")
    masked = [(lesion, found) for lesion, found in findings_at(study, timepoint) if found.mask is not None]
    if not masked:
        raise UserError(f"no lesion has a mask at {timepoint}; grow or draw one first")
    shape = volume.geometry.shape
    wrong = [lesion.name for lesion, found in masked if found.mask.grid != shape]
    if wrong:
        raise UserError(f"the mask of {wrong[0]} was drawn on another grid than this scan's; draw it again")
    # Lesions may overlap once they have merged, so each has its own plane.
    pixels = np.stack([file_order(found.mask.to_array(), volume) for _, found in masked], axis=-1).astype(np.uint8)
    with said_in_one_line("SEG"):
        images, stands_for = each_by_itself(volume, images)
        segmentation = hd.seg.Segmentation(
            source_images=images,
            pixel_array=pixels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(i, *one) for i, one in enumerate(masked, start=1)],
            series_instance_uid=new_uid(),
            series_number=900,
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=software_version(),
            device_serial_number="0",
            content_label="LESIONS",
            series_description="Lesion masks, research use only",
            omit_empty_frames=True,
        )
        refer_to_frames(segmentation, stands_for)
    path = Path(path)
    with said_in_one_line("SEG"), atomic_path(path, private=True) as part:
        if deidentified:
            deidentify(segmentation, study)
        segmentation.save_as(part)
    return path


def _describe(number: int, lesion: Lesion, finding: Finding):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    by_hand = finding.mask_by == "person"
    kinds = hd.seg.SegmentAlgorithmTypeValues
    algorithm = hd.AlgorithmIdentificationSequence(
        name="grow_mask", version=software_version(), family=codes.DCM.ArtificialIntelligence
    )
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label_text(lesion.name),
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=kinds.MANUAL if by_hand else kinds.SEMIAUTOMATIC,
        algorithm_identification=None if by_hand else algorithm,
        tracking_uid=lesion.uid,
        tracking_id=label_text(lesion.name),
    )
