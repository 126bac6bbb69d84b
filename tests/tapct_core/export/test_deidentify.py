"""SEG and SR without the patient; tables that no spreadsheet runs; a page that loads nothing."""

from __future__ import annotations

import csv
import re
import stat

import numpy as np
import pydicom
import pytest

from tapct_core.export import write_csv, write_report, write_seg, write_sr
from tapct_core.export.deidentify import new_uid_of, without_patient
from tapct_core.io import load_ct
from tapct_core.lesions import Judgement, Mask, Study, Timepoint
from tapct_core.lesions.timepoints import snapshot
from tapct_core.tables import as_text

from .conftest import LESIONS


@pytest.fixture(scope="module")
def study(dicom_pair):
    volume = dicom_pair.volumes[0]
    study = Study("p07", [Timepoint("baseline", str(dicom_pair.folders[0]), "2025-01-02", "1.2.3")])
    for name, ((row, column, slice_), _) in LESIONS.items():
        mask = np.zeros(volume.geometry.shape, bool)
        mask[slice_, row - 4 : row + 5, column - 4 : column + 5] = True
        point = tuple(float(c) for c in volume.geometry.to_world(np.argwhere(mask).mean(axis=0)[None])[0])
        lesion = study.add_lesion(name, "baseline", point, "AB", role="target", organ="liver")
        study.set_mask(lesion.uid, "baseline", Mask.from_array(mask), volume, by="AB")
    return study


def values(dataset) -> str:
    return "\n".join(f"{element.keyword} {element.value}" for element in dataset.iterall() if element.VR != "SQ")


@pytest.mark.parametrize("write", [write_seg, write_sr])
def test_what_names_the_patient_is_gone_only_when_asked(study, dicom_pair, tmp_path, write):
    volume = dicom_pair.volumes[0]
    named = pydicom.dcmread(write(study, "baseline", volume, tmp_path / "named.dcm"))
    assert named.PatientName == "Secret^Name" and named.PatientID == "phantom-7"
    path = write(study, "baseline", volume, tmp_path / "plain.dcm", deidentified=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    plain, raw = pydicom.dcmread(path), path.read_bytes()
    series = volume.source.dicom
    secret = (
        b"Secret",
        b"phantom-7",
        b"20250102",
        series.series_instance_uid.encode(),
        series.study_instance_uid.encode(),
    )
    assert not [one for one in (*secret, *(uid.encode() for uid in series.sop_instance_uids)) if one in raw]
    assert plain.PatientIdentityRemoved == "YES" and plain.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert plain.file_meta.MediaStorageSOPInstanceUID == plain.SOPInstanceUID != named.SOPInstanceUID
    assert plain.PatientName == "" and plain.PatientBirthDate == "" and plain.SOPClassUID == named.SOPClassUID
    assert "Anonymous" not in values(plain) or write is write_sr


@pytest.mark.parametrize("write", [write_seg, write_sr])
def test_nothing_comes_along_from_the_images_that_the_profile_takes_away(study, dicom_pair, tmp_path, write):
    """Whatever the patient's modules may hold (PS3.3 C.7.1, C.7.2): of free text, of people, of places, of trials."""
    series = tmp_path / "series"
    series.mkdir()
    marked = {
        "PatientComments": "LO", "ResponsiblePerson": "PN", "ClinicalTrialSubjectID": "LO", "Allergies": "LO",
        "ClinicalTrialSponsorName": "LO", "AdmissionID": "LO", "ServiceEpisodeDescription": "LO", "Occupation": "SH",
        "ConsultingPhysicianName": "PN", "PatientState": "LO", "MedicalAlerts": "LO", "InstitutionName": "LO",
        "ClinicalTrialSiteName": "LO", "PatientReligiousPreference": "LO", "StudyDescription": "LO",
        "PositionReferenceIndicator": "LO", "ReasonForVisit": "LO", "PatientMotherBirthName": "PN",
    }  # fmt: skip
    for path in dicom_pair.folders[0].iterdir():
        image = pydicom.dcmread(path)
        for keyword in marked:
            setattr(image, keyword, "Marked")
        image.TimezoneOffsetFromUTC, image.PatientAge, image.LastMenstrualDate = "+0100", "077Y", "20250102"
        image.PatientID, image.StudyID, image.OtherPatientIDsSequence = "Marked", "Marked", [pydicom.Dataset()]
        image.OtherPatientIDsSequence[0].PatientID = "Marked"
        image.save_as(series / path.name)
    for deidentified in (False, True):
        path = write(study, "baseline", load_ct(series), tmp_path / "a.dcm", deidentified=deidentified)
        assert (b"Marked" in path.read_bytes()) is not deidentified  # so the marks do come along
    left = {element.keyword for element in pydicom.dcmread(path)}
    gone = {*marked, "PatientAge", "TimezoneOffsetFromUTC", "LastMenstrualDate"} - {"PositionReferenceIndicator"}
    assert not left & gone
    assert b"077Y" not in path.read_bytes() and b"20250102" not in path.read_bytes()


def test_names_are_numbers_and_anatomy_stays(study):
    copy = snapshot(study)
    for lesion, organ in zip(copy.lesions, ("Left lung, upper lobe", "lung of Mr Lung-Meier"), strict=False):
        lesion.organ = organ
    copy.set_comment(copy.lesions[0].uid, "baseline", "Meier")
    copy.timepoints[0].non_target_progress = Judgement("AB", "2025-01-02", "Meier")
    plain = without_patient(copy)
    assert [one.name for one in plain.timepoints] == ["scan 1"] and plain.timepoints[0].path == ""
    assert [one.name for one in plain.lesions] == [f"lesion {k + 1}" for k in range(len(plain.lesions))]
    assert [one.organ for one in plain.lesions][:2] == ["Left lung, upper lobe", "organ 2"]
    assert plain.timepoints[0].non_target_progress == Judgement("person", "")
    found = plain.lesions[0].findings["scan 1"]
    assert (found.comment, found.mask_by, found.decided_by) == ("", "person", "person")
    assert plain.lesions[0].uid != copy.lesions[0].uid == study.lesions[0].uid
    assert plain.lesions[0].uid == without_patient(copy).lesions[0].uid  # the same each time


def test_seg_and_sr_still_fit_each_other(study, dicom_pair, tmp_path):
    volume = dicom_pair.volumes[0]
    seg = pydicom.dcmread(write_seg(study, "baseline", volume, tmp_path / "a.dcm", deidentified=True))
    sr = pydicom.dcmread(write_sr(study, "baseline", volume, tmp_path / "b.dcm", deidentified=True))
    assert seg.StudyInstanceUID == sr.StudyInstanceUID
    tracked = {one.TrackingUID for one in seg.SegmentSequence}
    assert tracked and all(uid in values(sr) for uid in tracked)
    assert new_uid_of("1.2.3", b"a") == new_uid_of("1.2.3", b"a") != new_uid_of("1.2.3", b"b")
    assert re.fullmatch(r"2\.25\.\d{1,39}", new_uid_of("1.2.3", b"a"))


def test_tables_without_the_patient(study, tmp_path):
    text = write_csv(without_patient(study), tmp_path / "a.csv").read_text()
    assert not [word for word in ("p07", "2025", "1.2.3,", "AB") if word in text] and "accepted" in text
    assert study.patient_key == "p07" and study.lesions[0].findings["baseline"].decided_by == "AB"


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\tx", "=cmd|' /C calc'!A0", "\uff1d1"])
def test_no_cell_is_a_formula(study, tmp_path, name):
    study = snapshot(study)
    study.lesions[0].name = name
    path = write_csv(study, tmp_path / "a.csv")
    with open(path, newline="", encoding="utf-8-sig") as file:
        cells = list(csv.DictReader(file))
    assert cells[0]["lesion"] == "'" + name
    assert float(cells[0]["x_mm"]) == pytest.approx(study.lesions[0].findings["baseline"].point_lps_mm[0], abs=1e-3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_numbers_are_no_formulas():
    assert [as_text(text) for text in ("-46.5", "+1e3", "a", "", "1=2")] == ["-46.5", "+1e3", "a", "", "1=2"]
    assert as_text("-46.5+1") == "'-46.5+1"


def test_the_page_may_load_and_run_nothing(study, tmp_path):
    page = write_report(study, {}, tmp_path / "a.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "script" not in policy
    assert page.index("Content-Security-Policy") < page.index("<style>") and "<script" not in page
