"""SEG and SR without the patient, after the Basic Application Level Confidentiality Profile.

Standard: DICOM PS3.15, annex E, table E.1-1. What our objects hold of it is known, so the table's actions are applied
by kind: people's names, IDs and dates are emptied, or made a dummy where a value is needed; whatever else came along
from the images is removed; free text that a person wrote is replaced by numbers; every UID that names something of this
patient becomes another, the same wherever and whenever it occurs for this person, so that SEG, SR and table still fit
each other. They no longer fit the original images.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

from ..errors import UserError
from ..lesions import Judgement, Study
from ..lesions.timepoints import snapshot
from ..patient_key import config_folder, secret_key

STANDARD_UIDS = "1.2.840.10008."
"""Root of what DICOM itself defines: classes, transfer syntaxes, coding schemes."""
DUMMIES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000", "PN": "Anonymous", "AS": "000Y"}
EMPTY = (
    "AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex", "ReferringPhysicianName",
    "StudyDate", "StudyID", "StudyTime",
)  # fmt: skip
"""Of type 2: they have to be there and may say nothing."""
KEPT = {
    "BitsAllocated", "BitsStored", "Columns", "CompletionFlag", "ConceptNameCodeSequence", "ContentDate",
    "ContentDescription", "ContentLabel", "ContentSequence", "ContentTemplateSequence", "ContentTime",
    "ContinuityOfContent", "ContributingEquipmentSequence", "CurrentRequestedProcedureEvidenceSequence",
    "DeviceSerialNumber", "DimensionIndexSequence", "DimensionOrganizationSequence", "DimensionOrganizationType",
    "FrameOfReferenceUID", "HighBit", "ImageType", "InstanceCreationDate", "InstanceCreationTime", "InstanceNumber",
    "LossyImageCompression", "Manufacturer", "ManufacturerModelName", "Modality", "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence", "PerformedProcedureCodeSequence", "PhotometricInterpretation", "PixelData",
    "PixelRepresentation", "PositionReferenceIndicator", "PreliminaryFlag", "PresentationLUTShape",
    "ReferencedPerformedProcedureStepSequence", "ReferencedSeriesSequence", "Rows", "SOPClassUID", "SOPInstanceUID",
    "SamplesPerPixel", "SegmentSequence", "SegmentationType", "SegmentsOverlap", "SeriesDescription",
    "SeriesInstanceUID", "SeriesNumber", "SharedFunctionalGroupsSequence", "SoftwareVersions", "SourceImageSequence",
    "SpecificCharacterSet", "StudyInstanceUID", "ValueType", "VerificationFlag",
}  # fmt: skip
"""What our own writers fill. All else came along from the images, and there is no end to what may stand in it."""
_ANATOMY = """
abdomen abdominal adrenal aorta arm axilla axillary bladder bone brain breast bronchus caecum cervical cervix chest
colon diaphragm duodenum esophagus femur gallbladder gland head heart hilar hip i ii iii ileum iliac inguinal
intestine iv ix jejunum kidney large left leg liver lobe lower lumbar lung lymph mediastinal mediastinum mesenteric
mesentery middle muscle neck nodal node nodes oesophagus of omentum ovary pancreas pelvic pelvis peritoneum pleura
prostate rectum retroperitoneal retroperitoneum rib right sacrum segment shoulder skin small soft spine spleen stomach
thigh thoracic thyroid tissue upper uterus v vertebra vi vii viii x
"""
ANATOMY = frozenset(_ANATOMY.split())
"""An organ that is named by these words alone may keep its name: it says nothing of who has it."""


def deidentify(dataset: Any, study: Study) -> None:
    """Take the patient out of a SEG or SR of ``study``, which is :func:`without_patient` already, in place."""
    secret, own = _secret(), {lesion.uid for lesion in study.lesions}
    dataset.remove_private_tags()
    for element in list(dataset):
        if element.keyword not in KEPT:
            del dataset[element.tag]
    _walk(dataset, secret, own)
    for keyword in EMPTY:
        setattr(dataset, keyword, "")
    if "PositionReferenceIndicator" in dataset:
        dataset.PositionReferenceIndicator = ""
    if dataset.Modality == "SEG":
        dataset.ContentCreatorName = ""
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "DICOM PS3.15 Basic Application Confidentiality Profile"
    dataset.DeidentificationMethodCodeSequence = [_basic_profile()]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def without_patient(study: Study) -> Study:
    """A copy of a study that says nothing of who it is about: no key, paths, dates, initials and words of a person.

    Scans and lesions, whose names are free text and often hold a name or a date, are numbered in their order
    ("scan 1", "lesion 1"), organs too unless they are plain anatomy; tracking UIDs become others. Its time points
    stand in the order of ``study``'s. Raises UserError where no secret for new UIDs can be kept.
    """
    secret, plain = _secret(), snapshot(study)
    scans = {one.name: f"scan {k}" for k, one in enumerate(study.timepoints, start=1)}
    others = {one.uid: new_uid_of(one.uid, secret) for one in study.lesions}
    organs = _organs(study)
    plain.patient_key = ""
    for timepoint in plain.timepoints:
        timepoint.name = scans[timepoint.name]
        timepoint.path = timepoint.date = timepoint.series_uid = ""
        timepoint.non_target_progress = _nameless(timepoint.non_target_progress)
        timepoint.no_recurrence = _nameless(timepoint.no_recurrence)
    for number, lesion in enumerate(plain.lesions, start=1):
        lesion.name, lesion.uid, lesion.organ = f"lesion {number}", others[lesion.uid], organs[lesion.organ]
        lesion.findings = {scans[name]: found for name, found in lesion.findings.items() if name in scans}
        for found in lesion.findings.values():
            found.decided_by, found.decided_at = "person" if found.decided_by else "", ""
            found.measured_by = "person" if found.measured_by else ""
            found.mask_by = "person" if found.mask_by else ""
            found.related = tuple(others.get(uid, new_uid_of(uid, secret)) for uid in found.related)
            found.comment = found.reason = ""  # what is written there may name scans and lesions
    return plain


def _nameless(judgement: Judgement | None) -> Judgement | None:
    return None if judgement is None else Judgement("person", "")


def _organs(study: Study) -> dict[str, str]:
    """What each organ is called: as it was where that is plain anatomy, else by a number."""
    known: dict[str, str] = {"": ""}
    for lesion in study.lesions:
        words = re.findall(r"[^\W_]+", lesion.organ.lower())
        plain = bool(words) and ANATOMY.issuperset(words)
        known.setdefault(lesion.organ, lesion.organ if plain else f"organ {len(known)}")
    return known


def _secret() -> bytes:
    secret = secret_key()
    if not secret:
        raise UserError(
            f"new UIDs need a key in {config_folder()}, which cannot be written; set TAPCT_CONFIG to a folder"
        )
    return secret


def new_uid_of(uid: str, secret: bytes) -> str:
    """The UID that stands for another: 2.25 and 128 bits of a keyed hash (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(hmac.new(secret, uid.encode(), hashlib.sha256).digest()[:16], 'big')}"


def _walk(dataset: Any, secret: bytes, own: set[str]) -> None:
    """New UIDs for all but the standard's and ``own``, dummies for people and times, at every depth."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _walk(item, secret, own)
        elif element.VR == "UI" and element.value:
            several = [element.value] if isinstance(element.value, str) else element.value
            kept = [uid.startswith(STANDARD_UIDS) or uid in own for uid in several]
            new = [uid if keep else new_uid_of(uid, secret) for uid, keep in zip(several, kept, strict=True)]
            element.value = new[0] if len(new) == 1 else new
        elif element.VR in DUMMIES and element.value:
            element.value = DUMMIES[element.VR]


def _basic_profile() -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    return code
