"""``tapct match --mask``: lesions named by their labels, the columns that scripts rely on, one line for a bad map."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from tapct_core.cli import main


@pytest.fixture(scope="module")
def scan(data_dir):
    """A chest CT with an expert's mask of one lesion."""
    folder = data_dir / "ct"
    return folder / "pyradiomics_lung2_ct.nii.gz", folder / "pyradiomics_lung2_seg.nii.gz"


def test_a_masked_lesion_is_found_again_in_the_same_scan(scan, tmp_path, capsys):
    ct, labels = scan
    image = nib.load(labels)
    voxels = np.argwhere(np.asarray(image.dataobj) == 1)
    centroid = (image.affine @ [*voxels.mean(axis=0), 1])[:3] * (-1, -1, 1)  # LPS
    names = tmp_path / labels.name
    names.write_bytes(labels.read_bytes())
    sidecar = names.with_name(names.name.replace(".nii.gz", ".labels.json"))
    sidecar.write_text(json.dumps({"labels": {"1": {"name": "right upper lobe"}}}))
    table = tmp_path / "found.csv"
    argv = ["match", ct, ct, "--mask", names, "--encoder", "none", "--out", table, "--json"]
    assert main([str(word) for word in argv]) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert list(rows[0]) == ["name", "rank", "x", "y", "z", "similarity", "cycle_error_mm", "confidence"]
    assert {row["name"] for row in rows} == {"right upper lobe"}
    assert [row["confidence"] for row in rows] == [""] * len(rows)
    best = np.array([float(rows[0][axis]) for axis in "xyz"])
    assert np.linalg.norm(best - centroid) < 6
    assert json.loads(capsys.readouterr().out)[0]["name"] == "right upper lobe"


def test_a_refused_point_is_a_row_with_its_reason_and_stops_no_other(scan, tmp_path, capsys):
    ct, _ = scan
    image = nib.load(ct)
    good = (image.affine @ [*(np.array(image.shape) // 2), 1])[:3] * (-1, -1, 1)
    points, table = tmp_path / "points.csv", tmp_path / "found.csv"
    rows = [("far", 9000, 0, 0), ("good", *good), ("further", 0, 9000, 0)]
    points.write_text("name,x,y,z\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    argv = ["match", ct, ct, "--points", points, "--encoder", "none", "--out", table, "--json"]
    assert main([str(word) for word in argv]) == 0
    out, err = capsys.readouterr()
    found = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["name"] for row in found if not row["rank"]] == ["far", "further"]
    assert all("outside the baseline scan" in row["reason"] and row["x"] == "" for row in found if not row["rank"])
    best = next(row for row in found if row["name"] == "good")
    assert (best["rank"], best["reason"]) == ("1", "")
    assert np.linalg.norm(np.array([float(best[axis]) for axis in "xyz"]) - good) < 3
    assert [row["reason"] is None for row in json.loads(out)] == [row["reason"] == "" for row in found]
    assert "1 of 3 matched, 2 refused" in err
    assert main(["match", str(ct), str(ct), "--point", "9000", "0", "0", "--encoder", "none"]) == 0
    assert "refused: the point (9000.0, 0.0, 0.0) lies outside" in capsys.readouterr().out


def test_an_empty_map_and_two_ways_of_asking_are_refused(scan, tmp_path, capsys):
    ct, labels = scan
    image = nib.load(labels)
    empty = tmp_path / "empty.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), empty)
    assert main(["match", str(ct), str(ct), "--mask", str(empty), "--encoder", "none"]) == 2
    assert "the label map is empty" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit) as stop:
        main(["match", str(ct), str(ct), "--mask", str(labels), "--point", "0", "0", "0"])
    assert stop.value.code == 2
