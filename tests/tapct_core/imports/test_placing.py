"""Findings into a study: to the scan they name, under their tracking UID, and back again as they were exported."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.export import write_seg, write_sr
from tapct_core.imports import import_findings
from tapct_core.io import load_ct, save_labels
from tapct_core.lesions import Finding, Mask, Study, Timepoint
from tapct_core.lesions.study_file import study_json
from tapct_core.volume import LabelMap
from tests.tapct_core.imports.test_dicom_sr import group, in_space, length, on_image, report
from tests.tapct_core.imports.test_rtstruct import structure_set
from tests.tapct_core.io import writing

NAMES = ("baseline", "week 8")


@pytest.fixture
def scans(tmp_path):
    """Two made-up series of one patient on one grid, each a frame of reference of its own -> volume by name."""
    volumes = {}
    for k, name in enumerate(NAMES):
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(k)
        for z in range(8):
            hu = (np.where(np.arange(48) < 30, 45, -900) + rng.normal(0, 9, (40, 48))).astype(np.int16)
            facts = {"SeriesInstanceUID": f"1.2.30.{k}", "FrameOfReferenceUID": f"1.2.40.{k}",
                     "SOPInstanceUID": f"1.2.50.{k}.{z}", "StudyInstanceUID": f"1.2.60.{k}"}  # fmt: skip
            (folder / f"{z}.dcm").write_bytes(writing.ct_slice(hu, z, **facts))
        volumes[name] = load_ct(folder)
    return volumes


def ball(volume, centre, radius=6.0):
    index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.shape), indexing="ij"), axis=-1)
    return np.linalg.norm(volume.geometry.to_world(index) - centre, axis=-1) <= radius


@pytest.fixture
def study(scans):
    """One lesion measured at both time points, one only placed, one that has gone, one that is a mere proposal."""
    study = Study("p", [Timepoint(name, name) for name in NAMES])
    places = [(-12.0, -6.0, -90.0), (-20.0, 10.0, -95.0), (-5.0, 14.0, -88.0), (-25.0, -10.0, -92.0)]
    for lesion, place in zip(("measured", "placed", "gone", "proposed"), places, strict=True):
        study.add_lesion(lesion, "baseline", place, "AB", role="target" if lesion == "measured" else "non-target")
    first = study.lesions[0].uid
    study.move(first, "week 8", (-10.0, -4.0, -90.0), "AB")
    for name, centre in zip(NAMES, ((-12.0, -6.0, -90.0), (-10.0, -4.0, -90.0)), strict=True):
        mask = Mask.from_array(ball(scans[name], centre))
        study.set_mask(first, name, mask, scans[name], by="AB")
    study.not_present(study.lesions[2].uid, "week 8", "AB")
    study.propose(study.lesions[3].uid, "week 8", Finding("proposed", places[3]))
    return study


@pytest.fixture
def exported(study, scans, tmp_path):
    return [write(study, name, scans[name], tmp_path / f"{name}_{kind}.dcm")
            for name in NAMES for kind, write in (("seg", write_seg), ("sr", write_sr))]  # fmt: skip


def empty():
    return Study("p", [Timepoint(name, name) for name in NAMES])


def test_what_was_exported_changes_nothing_in_the_study_it_came_from(study, scans, exported):
    before = study_json(study)
    placed = import_findings(study, exported, scans.__getitem__)
    assert not any(one.failed for one in placed) and {one.timepoint for one in placed} == set(NAMES)
    kept = study_json(study)
    undecided = study.lesions[3].findings["week 8"]
    assert not undecided.decided and undecided.state == "proposed"
    assert {line for line in before.splitlines() if "bits" in line} == {
        line for line in kept.splitlines() if "bits" in line
    }
    for lesion in study.lesions[:3]:
        for finding in lesion.findings.values():
            assert finding.decided_by == "AB"


def test_an_empty_study_gets_the_same_lesions_back(study, scans, exported):
    again = empty()
    placed = import_findings(again, exported, scans.__getitem__)
    assert not any(one.failed for one in placed)
    assert {lesion.uid: lesion.name for lesion in again.lesions} == {l.uid: l.name for l in study.lesions}  # noqa: E741
    for lesion in study.lesions:
        new = again.lesion(lesion.uid)
        assert new.role == lesion.role and set(new.findings) == set(lesion.findings)
        for name, finding in lesion.findings.items():
            back = new.findings[name]
            assert back.present == finding.present and back.decided == finding.decided, (lesion.name, name)
            if finding.mask is not None:
                assert np.array_equal(back.mask.to_array(), finding.mask.to_array())
                assert back.measurement == finding.measurement
            elif finding.present:
                assert np.linalg.norm(np.subtract(back.point_lps_mm, finding.point_lps_mm)) < 1.3  # to the slice
    twice = study_json(again)
    import_findings(again, exported, scans.__getitem__)
    assert len(again.lesions) == len(study.lesions) and study_json(again) == twice


def test_a_decision_of_a_person_is_never_changed(study, scans, exported):
    uid = study.lesions[0].uid
    study.move(uid, "week 8", (-20.0, 0.0, -90.0), "CD")
    study.set_mask(uid, "week 8", Mask.from_array(ball(scans["week 8"], (-20.0, 0.0, -90.0))), scans["week 8"], by="CD")
    before = study_json(study)
    placed = import_findings(study, exported, scans.__getitem__)
    assert "left as it is" in next(one.done for one in placed if one.timepoint == "week 8" and one.found.uid == uid)
    assert study.lesions[0].findings["week 8"].decided_by == "CD"
    assert study_json(study).count("CD") == before.count("CD")


def test_axes_drawn_by_others_are_the_diameters(scans, tmp_path):
    sop = scans["week 8"].source.dicom.sop_instance_uids[3]
    long = length(("103339001", "Long axis", "SCT"), 18, on_image("POLYLINE", [[10.5, 20.5], [22.5, 20.5]], sop))
    short = length(("103340004", "Short axis", "SCT"), 9, on_image("POLYLINE", [[16.5, 17.5], [16.5, 23.5]], sop))
    path = report(tmp_path / "sr.dcm", group("node A", "1.2.3.1", long, short), evidence=[("1.2.30.1", [sop])])
    study = empty()
    (placed,) = import_findings(study, [path], scans.__getitem__)
    finding = study.lesions[0].findings["week 8"]
    assert placed.timepoint == "week 8" and finding.state == "new" and finding.decided_by == "imported"
    assert (finding.measurement.long_axis_mm, finding.measurement.short_axis_mm) == pytest.approx((18, 9))
    assert finding.measurement.slice_index == 3 and finding.mask.voxels.shape[0] == 1
    ends = np.array(finding.measurement.long_axis_ends)
    expected = scans["week 8"].geometry.to_world([[3, 20, 10], [3, 20, 22]])
    assert np.allclose(ends, expected)


@pytest.mark.parametrize("graphic", ["ELLIPSE", "POLYGON", "POINT"])
def test_coordinates_in_the_patient_go_to_the_scan_of_their_frame(scans, tmp_path, graphic):
    centre = np.array([-12.0, -6.0, -90.0])
    points = {
        "ELLIPSE": centre + [[-9, 0, 0], [9, 0, 0], [0, -4.5, 0], [0, 4.5, 0]],
        "POLYGON": centre + [[-6, -6, 0], [6, -6, 0], [6, 6, 0], [-6, 6, 0], [-6, -6, 0]],
        "POINT": centre[None],
    }[graphic]
    path = report(tmp_path / "sr.dcm", group("a", "1.2.3.1", in_space(graphic, points, "1.2.40.1")))
    study = empty()
    import_findings(study, [path], scans.__getitem__)
    finding = study.lesions[0].findings["week 8"]
    assert np.linalg.norm(np.subtract(finding.point_lps_mm, centre)) < 2.2
    long = None if finding.measurement is None else finding.measurement.long_axis_mm
    diagonal = pytest.approx(np.hypot(12, 12), abs=2)
    assert long == {"ELLIPSE": pytest.approx(18), "POLYGON": diagonal, "POINT": None}[graphic]


def test_a_label_map_goes_to_the_one_scan_on_whose_grid_it_lies(scans, tmp_path):
    volume = scans["baseline"]
    values = np.where(ball(volume, (-12.0, -6.0, -90.0)), 1, 0) + np.where(ball(volume, (-25.0, 12.0, -92.0), 4), 2, 0)
    path = save_labels(LabelMap(values.astype(np.uint8), volume.geometry, names={1: "liver"}), tmp_path / "a.nii.gz")
    study = empty()
    placed = import_findings(study, [path], scans.__getitem__)
    said = "it does not say to which scan it belongs"  # both scans' grid
    assert all(one.failed and one.done == said for one in placed) and not study.lesions
    import_findings(study, [path], scans.__getitem__, timepoint="week 8")
    assert [lesion.name for lesion in study.lesions] == ["liver", "label 2"]
    found = study.lesions[0].findings["week 8"].mask.to_array()
    assert np.array_equal(found, values == 1)
    alone = Study("p", [Timepoint("baseline", "baseline")])
    assert not any(one.failed for one in import_findings(alone, [path], scans.__getitem__))


def test_points_of_a_table_go_where_it_says(scans, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("name,x,y,z,timepoint,role\na,-12,-6,-90,baseline,target\nb,-10,-4,-90,week 8,\nc,0,0,0,week 9,\n"
                    "d,900,0,0,baseline,\n")  # fmt: skip
    study = empty()
    placed = import_findings(study, [path], scans.__getitem__)
    assert [one.timepoint for one in placed] == ["baseline", "week 8", "", ""]
    assert "no time point 'week 9'" in placed[2].done and "outside the scan" in placed[3].done
    assert [lesion.name for lesion in study.lesions] == ["a", "b"] and study.lesions[0].role == "target"


def test_contours_of_another_patient_are_listed_and_change_nothing(scans, tmp_path):
    square = np.array([[-15.0, -9, -90], [-9, -9, -90], [-9, -3, -90], [-15, -3, -90]])
    path = structure_set(tmp_path / "rt.dcm", {"GTV": [("CLOSED_PLANAR", square)]}, series="9.9", frame="9.8")
    study = empty()
    (placed,) = import_findings(study, [path], scans.__getitem__)
    assert placed.failed and "no scan of the study" in placed.done and not study.lesions
    path = structure_set(tmp_path / "rt.dcm", {"GTV": [("CLOSED_PLANAR", square)]}, series="9.9", frame="1.2.40.1")
    (placed,) = import_findings(study, [path], scans.__getitem__)
    assert placed.timepoint == "week 8" and study.lesions[0].findings["week 8"].mask.voxels.sum() == 16


def test_broken_and_foreign_files_are_one_line(scans, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.dcm").write_bytes(writing.ct_slice(np.zeros((4, 4), np.int16), 0))
    whole = structure_set(tmp_path / "c.dcm", {"a": [("CLOSED_PLANAR", np.ones((3, 3)))]}).read_bytes()
    (tmp_path / "d.dcm").write_bytes(whole[: len(whole) - 60])
    for name, words in (("a.csv", "no column"), ("b.dcm", "another kind"), ("d.dcm", "."), ("e.dcm", "does not exist")):
        with pytest.raises(UserError, match=words) as caught:
            import_findings(empty(), [tmp_path / name], scans.__getitem__)
        assert "\n" not in str(caught.value)
