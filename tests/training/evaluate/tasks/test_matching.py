"""Given points found again: errors are distances to the given places, and a moved copy is found where it was moved."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.synthetic import STANDARD, make_follow_up
from tapct_core.volume import CTVolume
from tests.training.evaluate import labelled_data as data
from training.evaluate.__main__ import main
from training.evaluate.report.tables import read_tables
from training.evaluate.runs.run_folder import RunFolder, read_json

HEADER = "baseline,followup,x0,y0,z0,x1,y1,z1,patient"
MOVED = np.array([20.0, -12.0, 8.0])


@pytest.fixture(scope="module")
def pair(tmp_path_factory, data_dir):
    """A chest and its copy 24.7 mm away, with five points inside the body; rows of the CSV."""
    folder = tmp_path_factory.mktemp("pair")
    hu = data.chest(data_dir).hu[20:60].copy()
    image = data.write(folder / "before.nii.gz", hu)
    image.SetOrigin((np.array(image.GetOrigin()) + MOVED).tolist())
    import SimpleITK as sitk

    sitk.WriteImage(image, str(folder / "after.nii.gz"))
    inside = np.argwhere(hu[8:-8, 14:-14, 14:-14] > -50) + (8, 14, 14)
    chosen = inside[np.random.default_rng(0).choice(len(inside), 5, replace=False)]
    points = Geometry.from_spacing(hu.shape, data.SPACING_MM, (-90.0, -100.0, 40.0)).to_world(chosen)
    return folder, [["before.nii.gz", "after.nii.gz", *p, *(p + MOVED), "p1"] for p in points]


def match(root, out, *encoders, features=None):
    words = ["matching", "--dataset", "folder", "--root", root, "--out", out, "--device", "cpu", "--encoder", *encoders]
    return main([*map(str, words), *(["--features", str(features)] if features else [])])


def test_a_moved_copy_is_found_where_it_was_moved(pair, tmp_path):
    folder, rows = pair
    data.write_csv(folder / "points.csv", HEADER, rows)
    encoder = data.tiny_encoder(tmp_path, "one")
    assert match(folder / "points.csv", tmp_path / "run", encoder, "none") == 0
    results = read_tables(RunFolder(tmp_path / "run"))
    found = {tuple(row[:2]): [c["value"] for c in row[2:]] for row in results.tables[0].rows}
    names = [("one", "tokens alone"), ("one", "all steps"), ("none", "all steps"), ("the same coordinates", "")]
    assert list(found) == names
    assert found["the same coordinates", ""][:2] == pytest.approx([np.linalg.norm(MOVED)] * 2)
    for row in (("one", "all steps"), ("none", "all steps")):
        assert found[row][0] < 2.0 and found[row][3:] == [100.0, 100.0]
    assert found["one", "tokens alone"][0] < np.linalg.norm(MOVED)
    assert "one patient gives none" in results.tables[0].caption
    (record,) = (tmp_path / "run" / "rows" / "none" / "found-all-steps").glob("*.json")
    result = read_json(record)["result"]
    truth = np.array([row[5:8] for row in rows], dtype=float)
    assert np.allclose(np.linalg.norm(np.array(result["found"]) - truth, axis=1), result["error_mm"])


def test_a_broken_pair_is_named_and_left_out(pair, tmp_path, capsys):
    folder, rows = pair
    far = ["after.nii.gz", "before.nii.gz", 900, 0, 0, 0, 0, 0, "p2"]
    gone = ["before.nii.gz", "gone.nii.gz", *rows[0][2:8], "p3"]
    data.write_csv(folder / "some.csv", HEADER, [*rows[:2], far, gone])
    assert match(folder / "some.csv", tmp_path / "run", "none") == 0
    error = capsys.readouterr().err
    assert "after to before" in error and "outside the baseline" in error
    assert "gone.nii.gz does not exist" in error and "2 of 3 cases" in error
    results = read_tables(RunFolder(tmp_path / "run"))
    assert len(results.left_out) == 2 and "2 points in 1 pair of 1 patient" in results.tables[0].caption


@pytest.mark.slow
def test_intervals_go_by_patient_and_encoders_are_compared(data_dir, tmp_path):
    """Two synthetic follow-ups of a real CT with known motion."""
    rows = []
    for number in range(2):
        hu = data.chest(data_dir).hu[10 + 20 * number :][:40]
        volume = CTVolume(hu.copy(), Geometry.from_spacing(hu.shape, data.SPACING_MM))
        made = make_follow_up(volume, STANDARD, 7 + number, 3)
        for name, one in (("before", made.baseline), ("after", made.follow_up)):
            data.write_volume(tmp_path / f"{name}{number}.nii.gz", one)
        for lesion in made.lesions:
            if lesion.in_view and lesion.baseline_radius_mm and lesion.follow_up_radius_mm:
                places = [*lesion.baseline_lps_mm, *lesion.follow_up_lps_mm]
                rows.append([f"before{number}.nii.gz", f"after{number}.nii.gz", *places, f"p{number}"])
    data.write_csv(tmp_path / "points.csv", HEADER, rows)
    encoders = [data.tiny_encoder(tmp_path, name, seed) for seed, name in enumerate(("one", "other"))]
    assert match(tmp_path, tmp_path / "ab", *encoders, features=tmp_path / "features") == 0
    assert match(tmp_path, tmp_path / "ba", *encoders[::-1], features=tmp_path / "features") == 0
    there, back = (read_tables(RunFolder(tmp_path / name)) for name in ("ab", "ba"))
    by_name = [{tuple(row[:2]): row[2:] for row in results.tables[0].rows} for results in (there, back)]
    assert by_name[0] == by_name[1] and by_name[0]["one", "tokens alone"][0]["low"] is not None
    assert len(there.words) == 2 and all("one" in words and "other" in words for words in there.words)
