"""Measurements of one time point as a DICOM Structured Report, TID 1500, one group a lesion with its Tracking UID.

A measured lesion is a planar ROI (TID 1410) on the slice of its longest axial diameter, since viewers re-create
axial measurements; one that is only placed is a point; one that is gone is a group without a region (TID 1501).
Axes that a person has drawn are a group of measurements each with its own line (TID 1501, 300 and 320): in the image
that they were drawn on, or in the patient where they were drawn across images.
Each says its match status and its RECIST role; a non-target one also what a person has judged of the non-targets.
Standard: DICOM PS3.16 TID 1500, written by highdicom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from ..errors import UserError
from ..lesions import ABSENT, Finding, Lesion, Study, new_uid
from ..lesions.body_sites import site_of
from ..lesions.recist import Measurement, axial_outline
from ..volume import CTVolume
from .deidentify import deidentify, without_patient
from .dicom_source import (
    MANUFACTURER,
    MODEL,
    findings_at,
    label_text,
    nearest_slice,
    pixel_of,
    said_in_one_line,
    software_version,
    source_images,
)

SCHEME = "99TAPCT"
"""Private coding scheme (99 marks one) of the match status and what goes with it, which have no standard code here."""


DRAWN = ("AXES", "Axes", "drawn by hand")
ON_IMAGE_MM = 0.01
"""Axes whose ends leave an image by less lie on it."""


def write_sr(study: Study, timepoint: str, volume: CTVolume, path: str | Path, deidentified: bool = False) -> Path:
    """Write the findings of ``timepoint``, whose scan is ``volume``; returns the path.

    Raises UserError for a scan that was not DICOM, one without UIDs, one whose slices are not axial, and where
    there are no findings.
    """
    order = study.order(timepoint)
    if deidentified:
        study = without_patient(study)
        timepoint = study.timepoints[order].name
    progressed = study.timepoints[order].non_target_progress is not None
    images = source_images(volume, "SR")
    if volume.source.orientation.axes[0] != 2:
        raise UserError("this series was not taken in axial slices, so the SR cannot show axial diameters; write a CSV")
    findings = [one for one in findings_at(study, timepoint) if one[1].present or one[1].state in ABSENT]
    if not findings:
        raise UserError(f"no lesion has a finding at {timepoint}; run `tapct track`, or place one")
    with said_in_one_line("SR"):
        report = _report(findings, volume, images, progressed)
    path = Path(path)
    with said_in_one_line("SR"), atomic_path(path, private=True) as part:
        if deidentified:
            deidentify(report, study)
        report.save_as(part)
    return path


def _report(findings: list, volume: CTVolume, images: list, progressed: bool):
    import highdicom as hd

    planar, others, used, kind = [], [], {}, hd.sr.ComprehensiveSR
    for lesion, found in findings:
        if not found.present:
            others.append(_with_comment(_absent_group(lesion, found, progressed), found))
            continue
        if found.counted is not None and found.counted.drawn:
            group, image = _drawn_group(lesion, found, volume, images, progressed)
            others.append(_with_comment(group, found))
            if image is None:
                kind = hd.sr.Comprehensive3DSR
            else:
                used[image.SOPInstanceUID] = image
            continue
        group, image = _planar_group(lesion, found, volume, images, progressed)
        used[image.SOPInstanceUID] = image
        planar.append(_with_comment(group, found))
    return kind(
        evidence=list(used.values()) or images[:1],
        content=_content(planar, others),
        series_instance_uid=new_uid(),
        series_number=901,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=all(found.decided for _, found in findings),
        is_final=False,
        series_description="Lesion measurements, research use only",
    )


def _content(planar: list, others: list):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=new_uid(), name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=f"{MODEL} {software_version()}"
        ),
    )
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[*planar, *others],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _planar_group(
    lesion: Lesion, finding: Finding, volume: CTVolume, images: list, progressed: bool
) -> tuple[Any, Any]:
    """The lesion's group, and the image it refers to."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    measured = finding.counted if finding.mask is not None else None  # nothing that is doubtful goes out as a fact
    if measured is not None:
        if finding.mask.grid != volume.geometry.shape:
            raise UserError(f"the mask of {lesion.name} was drawn on another grid than this scan's; draw it again")
        grid = volume.geometry.cropped(finding.mask.start, finding.mask.voxels.shape)
        outline = axial_outline(finding.mask.voxels, grid, measured.slice_index - finding.mask.start[0])
        kind = hd.sr.GraphicTypeValues.POLYLINE
    else:
        outline = np.array([finding.point_lps_mm])
        kind = hd.sr.GraphicTypeValues.POINT
    slice_ = nearest_slice(outline[0], images)
    image, frames = images[slice_], volume.source.dicom.frames
    corners = np.clip(pixel_of(outline, image), 0, [image.Columns, image.Rows])
    if len(corners) > 1:
        corners[-1] = corners[0]  # closed to the last bit
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=lesion.uid, identifier=label_text(lesion.name, 1024)),
        referenced_region=hd.sr.ImageRegion(
            graphic_type=kind, graphic_data=corners,
            source_image=hd.sr.SourceImageForRegion(
                image.SOPClassUID, image.SOPInstanceUID, [frames[slice_]] if frames else None
            ),
        ),
        finding_type=codes.SCT.Lesion,
        measurements=[] if measured is None else _measurements(measured),
        qualitative_evaluations=_evaluations(lesion, finding, progressed),
        finding_sites=_sites(lesion),
    )
    return group, image


def _absent_group(lesion: Lesion, finding: Finding, progressed: bool):
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=lesion.uid, identifier=label_text(lesion.name, 1024)),
        finding_type=codes.SCT.Lesion,
        qualitative_evaluations=_evaluations(lesion, finding, progressed),
        finding_sites=_sites(lesion),
    )


def _drawn_group(
    lesion: Lesion, finding: Finding, volume: CTVolume, images: list, progressed: bool
) -> tuple[Any, Any]:
    """The lesion's group, each axis with its line, and the image that they lie on; None for lines across images."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    measured = finding.counted
    axes = np.array([measured.long_axis_ends, measured.short_axis_ends])
    slice_ = nearest_slice(axes[0].mean(axis=0), images)
    image, frames = images[slice_], volume.source.dicom.frames
    along, down = np.array(image.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    off = (axes - np.array(image.ImagePositionPatient, dtype=np.float64)) @ np.cross(along, down)
    if np.abs(off).max() > ON_IMAGE_MM:
        kind, frame = hd.sr.GraphicTypeValues3D.POLYLINE, image.FrameOfReferenceUID
        lines, image = [hd.sr.CoordinatesForMeasurement3D(kind, ends, frame) for ends in axes], None
    else:
        kind, numbers = hd.sr.GraphicTypeValues.POLYLINE, [frames[slice_]] if frames else None
        source = hd.sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID, numbers)
        size = [image.Columns, image.Rows]
        corners = [np.clip(pixel_of(ends, image), 0, size) for ends in axes]
        lines = [hd.sr.CoordinatesForMeasurement(kind, ends, source) for ends in corners]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=lesion.uid, identifier=label_text(lesion.name, 1024)),
        finding_type=codes.SCT.Lesion,
        measurements=_measurements(measured, lines),
        qualitative_evaluations=[*_evaluations(lesion, finding, progressed), _evaluation(*DRAWN)],
        finding_sites=_sites(lesion),
    )
    return group, image


def _measurements(measured: Measurement, lines: list | None = None) -> list:
    """``lines`` are those of the long and the short axis. What was not measured is left out."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    hounsfield = hd.sr.CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit")
    attenuation = hd.sr.CodedConcept("112031", "DCM", "Attenuation Coefficient")
    millilitre = hd.sr.CodedConcept("ml", "UCUM", "milliliter")
    rows = [
        (hd.sr.CodedConcept("103339001", "SCT", "Long axis"), measured.long_axis_mm, codes.UCUM.Millimeter, None),
        (hd.sr.CodedConcept("103340004", "SCT", "Short axis"), measured.short_axis_mm, codes.UCUM.Millimeter, None),
        (codes.SCT.Volume, measured.volume_ml, millilitre, None),
        (attenuation, measured.mean_hu, hounsfield, codes.SCT.Mean),
        (attenuation, measured.sd_hu, hounsfield, codes.SCT.StandardDeviation),
    ]
    # DS holds 16 characters.
    return [
        hd.sr.Measurement(
            name=name, value=round(value, 4), unit=unit, derivation=derivation,
            referenced_coordinates=[lines[k]] if lines is not None and k < len(lines) else None,
        )
        for k, (name, value, unit, derivation) in enumerate(rows)
        if value is not None
    ]  # fmt: skip


def _sites(lesion: Lesion) -> list | None:
    """Where it lies, as a code of SNOMED CT; None where its location has none here, and is words alone."""
    import highdicom as hd

    site = site_of(lesion.organ)
    if site is None:
        return None
    return [hd.sr.FindingSite(anatomic_location=hd.sr.CodedConcept(site[0], "SCT", site[1]))]


def _with_comment(group: Any, finding: Finding) -> Any:
    """A group with the reader's comment as its text: TID 1500's groups may be extended."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    if finding.comment:
        kind = hd.sr.RelationshipTypeValues.CONTAINS
        text = hd.sr.TextContentItem(name=codes.DCM.Comment, value=finding.comment[:1024], relationship_type=kind)
        group[0].ContentSequence.append(text)
    return group


def _evaluations(lesion: Lesion, finding: Finding, progressed: bool) -> list:
    """The match status, with "(proposed)" while nobody has decided; the role; progression of a non-target.

    RECIST 1.1 judges non-targets as a whole, so all of them say the same.
    """
    status = finding.state if finding.decided or finding.state == "proposed" else f"{finding.state} (proposed)"
    said = [("MATCH_STATUS", "Match status", status)]
    if lesion.role:
        said.append(("LESION_ROLE", "Lesion role", lesion.role))
    site = site_of(lesion.organ)
    if lesion.organ and (site is None or lesion.organ != site[1]):
        said.append(("LOCATION", "Location", label_text(lesion.organ, 64)))
    if progressed and lesion.role == "non-target":
        said.append(("NON_TARGETS", "Non-target lesions", "unequivocal progression"))
    return [_evaluation(*one) for one in said]


def _evaluation(code: str, name: str, words: str):
    import highdicom as hd

    value = "".join(c if c.isalnum() else "_" for c in words.upper())[:16].rstrip("_")
    return hd.sr.QualitativeEvaluation(
        name=hd.sr.CodedConcept(code, SCHEME, name), value=hd.sr.CodedConcept(value, SCHEME, words)
    )
