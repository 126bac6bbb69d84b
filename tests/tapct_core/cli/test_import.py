"""``tapct import`` as a script meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tapct_core.cli import main
from tapct_core.lesions.study_file import load_study
from tests.tapct_core.io import writing


@pytest.fixture
def study(tmp_path):
    (tmp_path / "ct").mkdir()
    rng = np.random.default_rng(0)
    for z in range(6):
        hu = (np.where(np.arange(48) < 30, 45, -900) + rng.normal(0, 9, (40, 48))).astype(np.int16)
        (tmp_path / "ct" / f"{z}.dcm").write_bytes(writing.ct_slice(hu, z))
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"timepoints": [{"name": "now", "path": "ct"}]}))
    return path


def test_points_become_lesions_and_what_has_no_place_is_listed(study, tmp_path, capsys):
    (tmp_path / "points.csv").write_text("name,x,y,z\nliver 1,-12,-6,-95\nfar,900,0,0\n")
    assert main(["import", str(study), str(tmp_path / "points.csv"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["lesion"] for row in said["placed"]] == ["liver 1"]
    assert said["not_placed"][0]["lesion"] == "far" and "outside" in said["not_placed"][0]["result"]
    (lesion,) = load_study(study).lesions
    assert lesion.findings["now"].point_lps_mm == (-12.0, -6.0, -95.0)
    assert main(["import", str(study), str(tmp_path / "points.csv")]) == 0
    assert "left as it is" in capsys.readouterr().out and len(load_study(study).lesions) == 1


def test_nothing_placed_is_a_wrong_input_and_leaves_the_study(study, tmp_path, capsys):
    (tmp_path / "points.csv").write_text("name,x,y,z\nfar,900,0,0\n")
    before = study.read_bytes()
    assert main(["import", str(study), str(tmp_path / "points.csv")]) == 2
    assert "nothing could be placed: far: it lies outside the scan" in capsys.readouterr().err
    assert study.read_bytes() == before


def test_who_does_not_say_where_is_told_how(study, tmp_path, capsys):
    data = json.loads(study.read_text())
    data["timepoints"].append({"name": "later", "path": "ct"})
    study.write_text(json.dumps(data))
    (tmp_path / "points.csv").write_text("name,x,y,z,timepoint\na,-12,-6,-95,now\nb,-12,-6,-95,\n")
    assert main(["import", str(study), str(tmp_path / "points.csv")]) == 0
    assert "with --timepoint" in capsys.readouterr().err and len(load_study(study).lesions) == 1
    (tmp_path / "points.csv").write_text("name,x,y,z\nb,-12,-6,-95\n")
    assert main(["import", str(study), str(tmp_path / "points.csv")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "with --timepoint" in said
    assert main(["import", str(study), str(tmp_path / "points.csv"), "--timepoint", "later"]) == 0
    assert "later" in load_study(study).lesions[1].findings


def test_a_scan_is_read_as_a_person_said(tmp_path, capsys):
    (tmp_path / "ct").mkdir()
    rng = np.random.default_rng(0)
    for phase in (1, 2):
        for z in range(6):
            hu = (np.where(np.arange(48) < 30, 45, -900) + rng.normal(0, 9, (40, 48))).astype(np.int16)
            over = {"TemporalPositionIdentifier": phase, "SOPInstanceUID": f"1.2.{phase}.{z + 1}"}
            (tmp_path / "ct" / f"{phase}_{z}.dcm").write_bytes(writing.ct_slice(hu, z, **over))
    (tmp_path / "points.csv").write_text("name,x,y,z\nb,-12,-6,-95\n")
    command = ["import", str(tmp_path / "study.json"), str(tmp_path / "points.csv")]
    for reading, code in (({}, 2), ({"phase": 3}, 2), ({"phase": 0}, 2), ({"fase": 1}, 2), ({"phase": 2}, 0)):
        timepoint = {"name": "now", "path": "ct", "reading": reading}
        (tmp_path / "study.json").write_text(json.dumps({"timepoints": [timepoint]}))
        assert main(command) == code, reading
        assert capsys.readouterr().err.count("\n") == (1 if code else 0)
    assert load_study(tmp_path / "study.json").timepoints[0].reading == {"phase": 2}
