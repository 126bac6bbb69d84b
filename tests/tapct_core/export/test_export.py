"""CSV, SEG and SR of a real series at two time points: read back by highdicom, and valid by an independent checker."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest

from tapct_core.cli import main
from tapct_core.errors import UserError
from tapct_core.export import COLUMNS, write_csv, write_seg, write_sr
from tapct_core.geometry import Orientation
from tapct_core.io import load_ct
from tapct_core.lesions import Finding, Mask, Study, Timepoint
from tapct_core.lesions.assessment import assess
from tapct_core.lesions.study_file import load_study
from tests.tapct_core.studies import study_and_volumes

NAMES = ("baseline", "follow-up")


def ellipse(volume, centre_lps, half=(14.0, 9.0, 5.0)) -> Mask:
    index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.shape), indexing="ij"), axis=-1)
    offset = volume.geometry.to_world(index) - centre_lps
    return Mask.from_array(((offset / half) ** 2).sum(axis=-1) <= 1)


@pytest.fixture(scope="module")
def study(dicom_pair):
    """Two measured lesions that overlap, a non-target that is only placed and progresses, one that goes."""
    volumes = dicom_pair.volumes
    study = Study("p7", [Timepoint(n, str(f)) for n, f in zip(NAMES, dicom_pair.folders, strict=True)])
    first = volumes[0].geometry.to_world([10, 100, 60])
    marks = (("liver 1", (0, 0, 0)), ("liver 2", (12, 5, 0)), ("seen only", (30, 10, 4)), ("gone", (5, 30, 4)))
    for name, offset in marks:
        role = "non-target" if name == "seen only" else "target"
        study.add_lesion(name, "baseline", tuple(first + offset), "AB", role=role, organ="liver")
    for lesion in study.lesions[:2]:
        for name, volume, moved in zip(NAMES, volumes, (0.0, dicom_pair.moved_mm), strict=True):
            place = np.array(lesion.findings["baseline"].point_lps_mm) + moved
            if name != "baseline":
                study.move(lesion.uid, name, tuple(place), "AB")
            by = "AB" if lesion.name == "liver 1" else ""
            study.set_mask(lesion.uid, name, ellipse(volume, place), volume, by=by)
    study.propose(study.lesions[3].uid, "follow-up", Finding("disappeared"))
    study.move(study.lesions[2].uid, "follow-up", tuple(first + marks[2][1] + dicom_pair.moved_mm), "AB")
    study.judge_non_targets("follow-up", True, "AB")
    return study


@pytest.fixture(scope="module")
def written(study, dicom_pair, tmp_path_factory):
    """(seg, sr) paths of both time points."""
    folder = tmp_path_factory.mktemp("out")
    return [
        (write_seg(study, n, v, folder / f"{i}_seg.dcm"), write_sr(study, n, v, folder / f"{i}_sr.dcm"))
        for i, (n, v) in enumerate(zip(NAMES, dicom_pair.volumes, strict=True))
    ]


def test_masks_come_back_on_the_voxels_they_were_drawn_on(study, dicom_pair, written):
    for name, volume, (seg_path, _) in zip(NAMES, dicom_pair.volumes, written, strict=True):
        seg = hd.seg.segread(seg_path)
        assert seg.number_of_segments == 2
        pixels = seg.get_pixels_by_source_instance(list(volume.source.dicom.sop_instance_uids))
        for number, lesion in enumerate(study.lesions[:2]):
            mask = lesion.findings[name].mask.to_array()
            # The files run foot to head, rows to posterior, columns to left: the house's own order.
            assert np.array_equal(pixels[..., number] > 0, mask)
        assert [str(d.TrackingUID) for d in seg.SegmentSequence] == [lesion.uid for lesion in study.lesions[:2]]
        assert [d.SegmentAlgorithmType for d in seg.SegmentSequence] == ["MANUAL", "SEMIAUTOMATIC"]
        assert seg.FrameOfReferenceUID == volume.source.dicom.frame_of_reference_uid


def test_measurements_come_back_under_one_tracking_uid(study, dicom_pair, written):
    for name, volume, (_, sr_path) in zip(NAMES, dicom_pair.volumes, written, strict=True):
        report = hd.sr.srread(sr_path)
        planar = report.content.get_planar_roi_measurement_groups()
        assert report.content.__class__.__name__ == "MeasurementReport"
        by_uid = {group.tracking_uid: group for group in planar}
        lesion = study.lesions[0]
        found = lesion.findings[name]
        measurements = by_uid[lesion.uid].get_measurements()
        values = {(m.name.value, m.derivation.value if m.derivation else ""): m for m in measurements}
        long_axis = values["103339001", ""]
        assert long_axis.value == pytest.approx(found.measurement.long_axis_mm, abs=1e-3)
        assert long_axis.unit.value == "mm"
        assert values["103340004", ""].value == pytest.approx(18, abs=1.2)
        assert long_axis.value == pytest.approx(28, abs=1.2)
        assert values["118565006", ""].value == pytest.approx(4 / 3 * np.pi * 14 * 9 * 5 / 1000, rel=0.05)
        assert {"373098007", "386136009"} <= {derivation for _, derivation in values}
        region = by_uid[lesion.uid].roi
        slice_uid = volume.source.dicom.sop_instance_uids[found.measurement.slice_index]
        assert region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == slice_uid
        centre = volume.geometry.to_index(found.point_lps_mm)[[2, 1]] + 0.5
        assert region.value[:-1].mean(axis=0) == pytest.approx(centre, abs=1.0)
        groups = report.content.get_image_measurement_groups()
        assert [g.tracking_uid for g in groups] == ([study.lesions[3].uid] if name == "follow-up" else [])
    status = groups[0].get_qualitative_evaluations()[0].value.meaning
    assert status == "disappeared (proposed)"
    assert report.CompletionFlag == "PARTIAL"


def test_the_report_says_each_lesions_role_and_what_was_judged_of_the_non_targets(study, written):
    for (_, sr_path), progressed in zip(written, (False, True), strict=True):
        content = hd.sr.srread(sr_path).content
        groups = content.get_planar_roi_measurement_groups() + content.get_image_measurement_groups()
        said = {
            group.tracking_identifier: {e.name.meaning: e.value.meaning for e in group.get_qualitative_evaluations()}
            for group in groups
        }
        for lesion in study.lesions[:3]:
            assert said[lesion.name]["Lesion role"] == lesion.role
            judged = said[lesion.name].get("Non-target lesions")
            assert judged == ("unequivocal progression" if progressed and lesion.role == "non-target" else None)


def test_one_tracking_uid_at_all_time_points(written):
    uids = []
    for _, sr_path in written:
        content = hd.sr.srread(sr_path).content
        groups = content.get_planar_roi_measurement_groups() + content.get_image_measurement_groups()
        uids.append({group.tracking_identifier: group.tracking_uid for group in groups})
    shared = uids[0].keys() & uids[1].keys()
    assert {"liver 1", "liver 2", "gone"} <= shared
    assert all(uids[0][name] == uids[1][name] for name in shared)


def test_an_independent_checker_accepts_them(checker_errors, written):
    for path in [path for pair in written for path in pair]:
        assert checker_errors(path) == []


def test_the_table_has_one_row_a_lesion_and_time_point(study, tmp_path):
    path = write_csv(study, tmp_path / "table.csv")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and path.read_bytes().startswith(b"\xef\xbb\xbflesion,timepoint,")
    assert COLUMNS[-3:] == ("patient", "lesion_uid", "series_uid") and {row["node"] for row in rows} <= {"yes", "no"}
    assert len(rows) == 4 * 2
    first, second = rows[:2]
    assert first["lesion_uid"] == second["lesion_uid"] == study.lesions[0].uid
    assert float(second["x_mm"]) - float(first["x_mm"]) == pytest.approx(4 * 0.9765625, abs=1e-3)
    assert abs(float(second["change_from_baseline_percent"])) < 5
    assert (first["accepted_by"], rows[-1]["accepted_by"], rows[-1]["match_status"]) == ("AB", "", "disappeared")
    assert rows[-1]["change_from_baseline_percent"] == ""  # it was never measured


def test_each_row_of_the_table_says_how_its_time_point_is_judged(tmp_path):
    study, _ = study_and_volumes()
    study.judge_non_targets("week 16", True, "AB", "effusion, now on both sides")
    with open(write_csv(study, tmp_path / "table.csv"), newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    said, judged = {}, COLUMNS[COLUMNS.index("sum_of_targets_mm") : COLUMNS.index("patient")]
    for row in rows:
        of_timepoint = tuple(row[column] for column in judged)
        assert said.setdefault(row["timepoint"], of_timepoint) == of_timepoint
    assert list(said) == [one.name for one in study.timepoints]
    for one in assess(study):
        total, category, rule, provisional, judged = said[one.timepoint]
        assert float(total) == pytest.approx(one.response.sum_mm, abs=1e-3)
        assert (category, rule) == (one.response.category, one.response.rule)
        assert provisional == ("yes" if one.timepoint == "week 24" else "no"), "only the last is proposed"
        assert judged == ("AB" if one.timepoint in ("week 16", "week 24") else "")
    assert float(said["baseline"][0]) > 0 and said["baseline"][1:] == ("", "", "", "")
    assert said["week 8"][1] != "PD" and said["week 16"][1] == "PD" and "non-targets" in said["week 16"][2]


def test_sources_that_cannot_be_referred_to_are_refused(study, data_dir, dicom_pair, tmp_path):
    nifti = load_ct(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    bare = load_ct(data_dir / "dicom" / "ts_example_series")  # its UIDs were emptied by an anonymiser
    other = dicom_pair.volumes[0]
    for write, kind in ((write_seg, "SEG"), (write_sr, "SR")):
        with pytest.raises(UserError, match=f"DICOM {kind} refers to .* came from nifti"):
            write(study, "baseline", nifti, tmp_path / "x.dcm")
        with pytest.raises(UserError, match="has no valid S[a-zA-Z]*UID"):
            write(study, "baseline", bare, tmp_path / "x.dcm")
        with pytest.raises(UserError, match="no time point"):
            write(study, "week 9", other, tmp_path / "x.dcm")
        with pytest.raises(UserError, match="no lesion has"):
            write(Study("p", [Timepoint("a", "a")]), "a", other, tmp_path / "x.dcm")
    source = replace(other.source, orientation=Orientation((0, 2, 1)))
    with pytest.raises(UserError, match="not taken in axial slices"):
        write_sr(study, "baseline", replace(other, source=source), tmp_path / "x.dcm")
    assert list(tmp_path.iterdir()) == []


def test_track_follows_dicom_from_two_scans_to_reports(dicom_pair, tmp_path, capsys):
    """From a study written by hand: the moved anatomy is found, measured, and reported under one tracking UID."""
    first = dicom_pair.volumes[0].geometry
    marks = {"shrinks": [9, 70, 60], "stays": [10, 120, 60]}
    lesions = [
        {"name": name, "role": "target", "findings": {"baseline": {"point_lps_mm": first.to_world(index).tolist()}}}
        for name, index in marks.items()
    ]
    timepoints = [{"name": n, "path": str(f)} for n, f in zip(NAMES, dicom_pair.folders, strict=True)]
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"timepoints": timepoints, "lesions": lesions}))
    argv = ["track", file, "--encoder", "none", "--seg", tmp_path / "seg", "--sr", tmp_path / "sr"]
    argv += ["--out", tmp_path / "t.csv"]
    assert main([str(word) for word in argv]) == 0
    study = load_study(file)
    assert study.timepoints[1].date == "2025-04-05"
    assert study.timepoints[1].series_uid == dicom_pair.volumes[1].source.dicom.series_instance_uid
    for lesion in study.lesions:
        before, after = (lesion.findings[name] for name in NAMES)
        assert not after.decided
        shift = np.array(after.point_lps_mm) - before.point_lps_mm
        assert np.linalg.norm(shift - dicom_pair.moved_mm) < 3.0
        for finding, millimetres in ((before, {"shrinks": 24, "stays": 18}), (after, {"shrinks": 16, "stays": 18})):
            assert finding.measurement.long_axis_mm == pytest.approx(millimetres[lesion.name], abs=2.5)
    for number, name in enumerate(("01_baseline", "02_follow-up")):
        report = hd.sr.srread(tmp_path / "sr" / f"{name}_sr.dcm")
        groups = report.content.get_planar_roi_measurement_groups()
        assert {g.tracking_uid for g in groups} == {lesion.uid for lesion in study.lesions}, number
        assert hd.seg.segread(tmp_path / "seg" / f"{name}_seg.dcm").PatientID == "phantom-7"
    for text in (file.read_text(), (tmp_path / "t.csv").read_text(), *capsys.readouterr()):
        assert "Secret" not in text
        assert "phantom-7" not in text


def test_track_refuses_two_patients(dicom_pair, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(dicom_pair.folders[1], other)
    for path in other.iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.PatientID = "phantom-8"
        slice_.save_as(path)
    point = dicom_pair.volumes[0].geometry.to_world([10, 107, 92]).tolist()
    file = tmp_path / "study.json"
    timepoints = [{"name": "a", "path": str(dicom_pair.folders[0])}, {"name": "b", "path": "other"}]
    file.write_text(json.dumps({"timepoints": timepoints, "lesions": [{"findings": {"a": {"point_lps_mm": point}}}]}))
    assert main(["track", str(file), "--encoder", "none"]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert "different patients" in err
    assert "phantom" not in err
