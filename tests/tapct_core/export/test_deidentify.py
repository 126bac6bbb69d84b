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
from tapct_core.lesions import Mask, Study, Timepoint
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
    study = without_patient(study)  # a copy
    study.lesions[0].name = name
    path = write_csv(study, tmp_path / "a.csv")
    with open(path, newline="", encoding="utf-8") as file:
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
