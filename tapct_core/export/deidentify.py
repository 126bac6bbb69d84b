"""SEG and SR without the patient, after the Basic Application Level Confidentiality Profile.

Standard: DICOM PS3.15, annex E, table E.1-1. What our objects hold of it is known, so the table's actions are applied
by kind: people's names, IDs and dates are emptied, or made a dummy where a value is needed; free text about patient,
visit and place is removed; every UID that names something of this patient becomes another, the same wherever and
whenever it occurs for this person, so that SEG and SR still fit each other. They no longer fit the original images.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from ..errors import UserError
from ..lesions import Study
from ..lesions.timepoints import snapshot
from ..patient_key import config_folder, secret_key

STANDARD_UIDS = "1.2.840.10008."
"""Root of what DICOM itself defines: classes, transfer syntaxes, coding schemes."""
DUMMIES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000", "PN": "Anonymous", "AS": "000Y"}
REMOVED = (
    "AccessionNumber", "AdditionalPatientHistory", "AdmissionID", "AdmittingDiagnosesDescription", "ContentCreatorName",
    "CurrentPatientLocation", "DeviceSerialNumber", "EthnicGroup", "ImageComments", "InstitutionAddress",
    "InstitutionName", "InstitutionalDepartmentName", "IssuerOfPatientID", "MedicalRecordLocator", "Occupation",
    "OperatorsName", "OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "PatientAddress", "PatientAge",
    "PatientComments", "PatientSize", "PatientTelephoneNumbers", "PatientWeight", "PerformedProcedureStepDescription",
    "PerformedProcedureStepID", "PerformingPhysicianName", "PhysiciansOfRecord", "RequestAttributesSequence",
    "RequestedProcedureDescription", "RequestingPhysician", "StationName", "StudyDescription", "StudyID",
    "StudyComments", "VerifyingObserverSequence", "VerifyingOrganization",
)  # fmt: skip
EMPTY = (
    "AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex", "ReferringPhysicianName",
    "StudyDate", "StudyID", "StudyTime",
)  # fmt: skip
"""Of type 2: they have to be there and may say nothing."""


def deidentify(dataset: Any) -> None:
    """Take the patient out of a SEG or SR, in place. Raises UserError where no secret for new UIDs can be kept."""
    secret = secret_key()
    if not secret:
        raise UserError(
            f"new UIDs need a key in {config_folder()}, which cannot be written; set TAPCT_CONFIG to a folder"
        )
    dataset.remove_private_tags()
    _walk(dataset, secret)
    for keyword in EMPTY:
        setattr(dataset, keyword, "")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "DICOM PS3.15 Basic Application Confidentiality Profile"
    dataset.DeidentificationMethodCodeSequence = [_basic_profile()]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def without_patient(study: Study) -> Study:
    """A copy of a study for tables and reports: no key, dates, UIDs and initials. Names of scans and lesions stay."""
    plain = snapshot(study)
    plain.patient_key = ""
    for timepoint in plain.timepoints:
        timepoint.date = timepoint.series_uid = ""
    for lesion in plain.lesions:
        for found in lesion.findings.values():
            found.decided_by, found.decided_at = "person" if found.decided_by else "", ""
    return plain


def new_uid_of(uid: str, secret: bytes) -> str:
    """The UID that stands for another: 2.25 and 128 bits of a keyed hash (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(hmac.new(secret, uid.encode(), hashlib.sha256).digest()[:16], 'big')}"


def _walk(dataset: Any, secret: bytes) -> None:
    for keyword in REMOVED:
        if keyword in dataset:
            delattr(dataset, keyword)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _walk(item, secret)
        elif element.VR == "UI" and element.value:
            several = [element.value] if isinstance(element.value, str) else element.value
            new = [uid if uid.startswith(STANDARD_UIDS) else new_uid_of(uid, secret) for uid in several]
            element.value = new[0] if len(new) == 1 else new
        elif element.VR in DUMMIES and element.value:
            element.value = DUMMIES[element.VR]


def _basic_profile() -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    return code
