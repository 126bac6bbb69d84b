"""Everything into one folder: which files, and why some are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, generate_uid
from scipy import ndimage

from tapct_core.export.folder import export_all, file_stem, held, plain
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.lesions import Mask, Study, Timepoint
from tapct_core.lesions.grow import grow_mask
from tapct_core.volume import CTVolume


def test_files_and_what_is_said_of_those_that_are_not(tmp_path):
    volume = CTVolume(np.full((4, 20, 20), 40, np.int16), Geometry((4, 20, 20), np.eye(4)))
    study = Study("p07", [Timepoint("first", "a.nii"), Timepoint("second", "b.nii")])
    study.add_lesion("L1", "first", tuple(volume.geometry.to_world((2, 10, 10))), "AB")
    seen = []
    files, notes = export_all(study, {"first": volume}, tmp_path / "out", lambda *at: seen.append(at), lambda: False)
    assert (
        [path.name for path in files]
        == ["lesions.csv", "report.html"]
        == sorted(p.name for p in files[0].parent.iterdir())
    )
    assert seen == [(0, 2), (1, 2)]
    assert any("no SEG and SR for first" in note for note in notes)
    assert any("second: open the scans" in note for note in notes)
    assert export_all(study, {}, tmp_path / "none", lambda *_: None, lambda: True)[0] == []


def test_dicom_series_get_seg_and_sr(data_dir, tmp_path):
    volume = load_ct(_with_uids(data_dir / "dicom" / "ts_example_series", tmp_path / "series"))
    smooth = ndimage.gaussian_filter(volume.hu.astype(np.float32), 2)
    middle = tuple(slice(n // 4, 3 * n // 4) for n in volume.hu.shape)
    index = np.array(np.unravel_index(smooth[middle].argmax(), smooth[middle].shape)) + [part.start for part in middle]
    study = Study("p07", [Timepoint("CT of week 8", "x")])
    place = tuple(volume.geometry.to_world(index))
    uid = study.add_lesion("L1", "CT of week 8", place, "AB").uid
    study.set_mask(uid, "CT of week 8", grow_mask(volume, place), volume)
    files, notes = export_all(study, {"CT of week 8": volume}, tmp_path / "out", lambda *_: None, lambda: False)
    assert notes == held(True, True, False)
    assert [path.name for path in files] == [
        "lesions.csv", "report.html", "01_CT_of_week_8_seg.dcm", "01_CT_of_week_8_sr.dcm",
    ]  # fmt: skip
    assert [pydicom.dcmread(path).Modality for path in files[2:]] == ["SEG", "SR"]


def test_an_export_without_the_patient_names_nobody(data_dir, tmp_path):
    """Neither in a file's name nor in it: not the name that a person gave to a scan or a lesion either."""
    volume = load_ct(_with_uids(data_dir / "dicom" / "ts_example_series", tmp_path / "series"))
    study = Study("p07", [Timepoint("MEIER 2025-01-02", "/data/MEIER", "2025-01-02")])
    place = tuple(volume.geometry.to_world(np.array(volume.hu.shape) // 2))
    mask = np.zeros(volume.hu.shape, bool)
    mask[tuple(slice(n // 2 - 2, n // 2 + 3) for n in volume.hu.shape)] = True
    uid = study.add_lesion("node of Meier", "MEIER 2025-01-02", place, "AB", organ="Meier's liver").uid
    study.set_mask(uid, "MEIER 2025-01-02", Mask.from_array(mask), volume, by="AB")
    study.set_comment(uid, "MEIER 2025-01-02", "Mr Meier")
    out, scans = tmp_path / "out", {"MEIER 2025-01-02": volume}
    files, notes = export_all(study, scans, out, lambda *_: None, lambda: False, deidentified=True)
    assert [path.name for path in files] == ["lesions.csv", "report.html", "01_scan_1_seg.dcm", "01_scan_1_sr.dcm"]
    assert notes == held(True, True, True)
    for path in files:
        assert not [word for word in (b"eier", b"EIER", b"2025-01-02", uid.encode()) if word in path.read_bytes()], path
    seg, sr = (pydicom.dcmread(path) for path in files[2:])
    assert seg.SegmentSequence[0].SegmentLabel == "lesion 1"
    assert seg.SegmentSequence[0].TrackingUID in files[0].read_text()
    assert b"lesion 1" in files[3].read_bytes() and "data:image" in files[1].read_text()
    assert study.lesions[0].name == "node of Meier" and study.lesions[0].uid == uid


def test_names_of_files_are_plain_and_the_same_wherever_a_study_is_exported():
    assert plain("Müller, week 8/2") == "M_ller_week_8_2" and plain("") == "scan" and len(plain("x" * 99)) == 40
    study = Study("p", [Timepoint("week 8 (2)", "a"), Timepoint("week/8/2", "b")])
    assert [file_stem(study, t.name) for t in study.timepoints] == ["01_week_8_2_", "02_week_8_2"]


def _with_uids(source: Path, target: Path) -> Path:
    """The series with UIDs of its own in place of those that its anonymiser has emptied."""
    target.mkdir()
    study, series, frame = (generate_uid() for _ in range(3))
    for number, path in enumerate(sorted(source.iterdir())):
        one = pydicom.dcmread(path)
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.save_as(target / f"{number:03d}.dcm")
    return target
