"""``tapct track`` on a study written by hand: three scans of one chest, moved as a whole, with nodules put in."""

from __future__ import annotations

import csv
import json
import re

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tapct_core.cli import main
from tapct_core.lesions.study_file import load_study, save_study

MOVED = np.array([9.0, -6.0, 14.0])
"""LPS mm from the first scan to the second; the third lies as the first."""
RADII = {"first": (12.0, 12.0), "second": (10.0, 16.0), "third": (None, 9.0)}
"""mm at the first scan and at the others; the third is not there at first."""


@pytest.fixture(scope="module")
def chest(data_dir, tmp_path_factory):
    """(folder, places in the first scan): scans a, b, c with two or three nodules in the lungs."""
    folder = tmp_path_factory.mktemp("track")
    image = nib.load(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    hu = np.asarray(image.dataobj).astype(np.int16)
    spacing = image.header.get_zooms()
    lung = np.asarray(nib.load(data_dir / "ct" / "cip_chest_64_seg.nii.gz").dataobj) > 0
    depth = ndimage.distance_transform_edt(lung, sampling=spacing)
    places, free = {}, depth.copy()
    index = np.stack(np.meshgrid(*map(np.arange, hu.shape), indexing="ij"), axis=-1) * spacing
    for name in RADII:
        voxel = np.unravel_index(free.argmax(), hu.shape)
        places[name] = voxel
        free[np.linalg.norm(index - index[voxel], axis=-1) < 45] = 0
    for when, scan in enumerate("abc"):
        pixels = hu.copy()
        for name, voxel in places.items():
            radius = RADII[name][min(when, 1)]
            if radius:
                pixels[np.linalg.norm(index - index[voxel], axis=-1) <= radius] = 30
        affine = image.affine.copy()
        affine[:3, 3] += MOVED * [-1, -1, 1] * (scan == "b")  # NIfTI is RAS
        nib.save(nib.Nifti1Image(pixels, affine), folder / f"{scan}.nii.gz")
    ras = {name: image.affine @ [*voxel, 1] for name, voxel in places.items()}
    return folder, {name: (p[:3] * [-1, -1, 1]) for name, p in ras.items()}


@pytest.fixture
def study(chest):
    """A fresh study file beside the scans, as a person writes it."""
    folder, places = chest
    file = folder / "study.json"
    lesions = [
        {"name": name, "role": "target", "organ": "lung", "findings": {"a": {"point_lps_mm": places[name].tolist()}}}
        for name in ("first", "second")
    ]
    timepoints = [{"name": name, "path": f"{name}.nii.gz"} for name in "ab"]
    file.write_text(json.dumps({"patient_key": "p1", "timepoints": timepoints, "lesions": lesions}))
    return file


def track(capsys, *argv) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``tapct track`` with HU alone."""
    code = main(["track", *[str(word) for word in argv], "--encoder", "none"])
    return code, *capsys.readouterr()


def test_lesions_are_proposed_measured_and_left_to_a_person(chest, study, capsys):
    _, places = chest
    report = study.parent / "report.html"
    code, out, err = track(capsys, study, "--json", "--out", study.parent / "table.csv", "--report", report)
    assert code == 0, err
    found = load_study(study)
    for lesion in found.lesions:
        finding = found.finding(lesion.uid, "b")
        assert np.linalg.norm(np.array(finding.point_lps_mm) - places[lesion.name] - MOVED) < 2.5
        assert (finding.state, finding.decided, finding.mask_by) == ("proposed", False, "grown")
        assert finding.measurement.long_axis_mm == pytest.approx(2 * RADII[lesion.name][1], abs=5)  # 4.2 mm pixels
        assert finding.cycle_error_mm < 3
        assert len(finding.candidates) >= 1
        assert found.finding(lesion.uid, "a").decided_by == "study file"
    page = report.read_text(encoding="utf-8")
    assert page.count("<image ") == 4 and "provisional: rests on proposals" in page and "p1" in page
    result = json.loads(out)
    assert result["responses"][0]["new_lesions"] == [] and result["responses"][0]["non_target_progress"] is None
    assert result["patient_key"] == "p1"
    assert result["responses"][0]["provisional"] is True
    assert result["responses"][0]["category"] in ("SD", "PD")
    with open(study.parent / "table.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [(row["lesion"], row["timepoint"]) for row in rows] == [(n, t) for n in ("first", "second") for t in "ab"]

    # Again: nothing to do, nothing changes, the UIDs stay.
    before, stamp = study.read_bytes(), study.stat().st_mtime_ns
    code, out, _ = track(capsys, study)
    assert (code, study.read_bytes(), study.stat().st_mtime_ns) == (0, before, stamp)
    assert "research use only" in out

    # A person decides; a third scan is added, in which the first lesion is marked already; what was decided stays
    # to the letter, and the second is searched from where it was last seen.
    uids = {lesion.name: lesion.uid for lesion in found.lesions}
    found.accept(uids["first"], "b", "AB")
    found.not_present(uids["second"], "b", "AB")
    save_study(found, study)
    data = json.loads(study.read_text())
    data["timepoints"].append({"name": "c", "path": "c.nii.gz"})
    data["lesions"][0]["findings"]["c"] = {"point_lps_mm": places["first"].tolist()}
    study.write_text(json.dumps(data))
    whole = (study.parent / "c.nii.gz").read_bytes()
    (study.parent / "c.nii.gz").write_bytes(whole[: len(whole) // 2])
    code, _, err = track(capsys, study)
    assert code == 2
    assert "c.nii.gz is truncated" in err.splitlines()[-1]
    assert [len(lesion.findings) for lesion in load_study(study).lesions] == [3, 2]
    (study.parent / "c.nii.gz").write_bytes(whole)
    assert track(capsys, study)[0] == 0
    again = load_study(study)
    for name in uids:
        assert again.finding(uids[name], "b").decided_at == found.finding(uids[name], "b").decided_at
        assert again.finding(uids[name], "b").state == found.finding(uids[name], "b").state
    assert again.finding(uids["first"], "c").point_lps_mm == pytest.approx(places["first"], abs=1e-5)
    assert again.finding(uids["first"], "c").mask_by == "grown"
    place = again.finding(uids["second"], "c").point_lps_mm
    assert np.linalg.norm(np.array(place) - places["second"]) < 2.5


def test_marks_of_the_follow_up_are_linked_or_called_new(chest, study, capsys):
    _, places = chest
    data = json.loads(study.read_text())
    for name, offset in (("first", 2.0), ("third", 0.0)):  # as a detector writes them: proposed, not linked
        point = (places[name] + MOVED + offset).tolist()
        mark = {"b": {"state": "proposed", "point_lps_mm": point}}
        data["lesions"].append({"name": f"mark {name}", "findings": mark})
    study.write_text(json.dumps(data))
    code, out, err = track(capsys, study)
    assert code == 0, err
    found = {lesion.name: lesion for lesion in load_study(study).lesions}
    assert set(found) == {"first", "second", "mark third"}
    assert found["mark third"].findings["b"].state == "new"
    taken = found["first"].findings["b"]
    assert (taken.state, taken.verdict) == ("proposed", "marked")
    assert np.array(taken.point_lps_mm) == pytest.approx(places["first"] + MOVED + 2.0)
    assert "; a new lesion: mark third (provisional" in out
    before = study.read_bytes()
    assert track(capsys, study)[0] == 0
    assert study.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda d: None, ["--sr", "out"], "a is nifti, not DICOM"),
        (lambda d: None, ["--seg", "out"], "a is nifti, not DICOM"),
        (lambda d: None, ["--report", "."], "is a folder; name the report's file"),
        (lambda d: None, ["--series", "1.2"], "series_uid"),
        (lambda d: d["timepoints"][1].update(path="none.nii.gz"), [], "does not exist"),
        (lambda d: d.update(lesions=[]), [], "no lesion with a place"),
        (lambda d: d.update(version=9), [], "newer version"),
        (lambda d: d["lesions"][0]["findings"]["a"].update(point_lps_mm=[9e3, 0, 0]), [], "first lies outside a"),
    ],
)
def test_bad_studies_end_in_one_line(study, capsys, change, options, words):
    data = json.loads(study.read_text())
    change(data)
    study.write_text(json.dumps(data))
    code, out, err = track(capsys, study, *options)
    assert (code, out) == (2, "")
    assert words in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (study.parent / "out").exists()


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["track", "--help"])
    assert "example:\n  tapct track" in capsys.readouterr().out


def test_without_the_patient_nothing_that_is_written_or_printed_names_anybody(study, capsys):
    table, report = study.parent / "plain.csv", study.parent / "plain.html"
    code, out, err = track(capsys, study, "--json", "--deidentify", "--out", table, "--report", report)
    assert code == 0, err
    result = json.loads(out)
    assert not result["patient_key"]
    assert {row["lesion"] for row in result["findings"]} == {"lesion 1", "lesion 2"}
    assert [one["timepoint"] for one in result["responses"]] == ["scan 2"]
    page = report.read_text(encoding="utf-8")
    for text in (out, table.read_text(), re.sub(r"base64,[\w+/=]+", "", page)):  # pictures may spell anything
        assert "lesion 1" in text and "p1" not in text and "study file" not in text
        assert not [lesion.uid for lesion in load_study(study).lesions if lesion.uid in text]
    assert "scans and lesions are numbered" in err and page.count("<image ") == 4
    assert [lesion.name for lesion in load_study(study).lesions] == ["first", "second"]
