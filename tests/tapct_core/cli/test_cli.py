"""The commands as a script meets them: output, exit codes, one line for a wrong input, nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tapct_core
from tapct_core.cli import build_parser, main
from tapct_core.samples import load_sample_points, sample_paths


@pytest.fixture(scope="module")
def ct(data_dir):
    """A coarse chest CT: quick to read and to embed."""
    return data_dir / "ct" / "cip_chest_64_ct.nii.gz"


def run(capsys, *argv) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    try:
        code = main([str(word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_info_says_what_a_ct_holds(capsys, ct):
    code, out, _ = run(capsys, "info", ct, "--json")
    info = json.loads(out)
    assert code == 0
    assert info["shape"] == [79, 64, 64]
    assert info["kind"] == "nifti"
    assert info["hu_range"][0] >= -1024
    code, out, _ = run(capsys, "info", ct)
    assert code == 0
    assert "79 x 64 x 64" in out


def test_info_of_a_dicom_folder(capsys, data_dir):
    code, out, _ = run(capsys, "info", data_dir / "dicom" / "ts_example_series", "--json")
    assert code == 0
    assert json.loads(out)["shape"] == [20, 512, 512]


def test_encoders_lists_names_and_licences(capsys):
    code, out, _ = run(capsys, "encoders", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert {"tap-ct-b-3d", "tap-ct-s-2-5d", "tap-ct-xs-3d"} <= rows.keys()
    assert "CC BY-NC" in rows["tap-ct-b-3d"]["licence"]
    assert sum(row["default"] for row in rows.values()) == 1
    assert run(capsys, "encoders")[0] == 0


@pytest.mark.parametrize("command", ["info", "encoders", "embed", "match", "probe", "track", "demo"])
def test_help_shows_an_example(capsys, command):
    argv = [command, "fit", "--help"] if command == "probe" else [command, "--help"]
    code, out, _ = run(capsys, *argv)
    assert code == 0
    assert f"example:\n  tapct {command}" in out


def test_bad_input_is_one_line_and_exit_code_2(capsys, ct, tmp_path):
    truncated = tmp_path / "cut.nii.gz"
    truncated.write_bytes(ct.read_bytes()[:20_000])
    no_columns = tmp_path / "a.csv"
    no_columns.write_text("p,q\n1,2\n")
    no_number = tmp_path / "b.csv"
    no_number.write_text("name,x,y,z\na,1,2,3\nb,1,nan,3\n")
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    before = sorted(tmp_path.iterdir())
    none = ("--encoder", "none")
    for argv, words in [
        (("info", tmp_path / "gone.nii.gz"), "does not exist"),
        (("info", truncated), "truncated"),
        (("info", ct, "--series", "1.2"), "no DICOM"),
        (("match", ct, truncated, "--point", 0, 0, 0, *none), "truncated"),
        (("match", ct, ct, "--point", 0, 0, *none), "expected 3 arguments"),
        (("match", ct, ct, "--point", 0, 0, "x", *none), "not a number"),
        (("match", ct, ct, "--points", no_columns, *none), "no column x"),
        (("match", ct, ct, "--points", no_number, *none), "line 3"),
        (("match", ct, ct, "--points", tmp_path / "gone.csv", *none), "does not exist"),
        (("embed", "--out", tmp_path / "o"), "no CT was given"),
        (("embed", "--list", empty, "--out", tmp_path / "o"), "names no scan"),
        (("embed", truncated, "--out", tmp_path / "o", *none), "truncated"),
        (("embed", ct, "--out", truncated, *none), "is a file"),
        (("embed", ct, "--out", tmp_path / "o", "--encoder", "nobody"), "nobody"),
        (("embed", ct, "--out", tmp_path / "o", "--shard", "3/3"), "not I/N"),
        (("embed", ct, "--out", tmp_path / "o", "--overlap", "1"), "below 1"),
        (("embed", ct, "--out", tmp_path / "o", *none, "--plan", "release"), "spacing plan"),
        (("probe", "fit", ct, "--out", tmp_path / "p"), "no partner"),
        (("nothing",), "invalid choice"),
    ]:
        code, out, err = run(capsys, *argv)
        assert code == 2, argv
        assert words in err, (argv, err)
        assert "Traceback" not in err and out == "", argv
        assert err.startswith("tapct") and len(err.strip().splitlines()) == 1, err
        shutil.rmtree(tmp_path / "o", ignore_errors=True)  # an empty folder may have been made
        assert sorted(tmp_path.iterdir()) == before, argv


def test_embed_writes_once_and_continues_a_list(capsys, ct, data_dir, tmp_path):
    other = data_dir / "ct" / "pyradiomics_lung1_ct.nii.gz"
    listing = tmp_path / "list.txt"
    listing.write_text(f"# an archive\n{ct}\n\nmissing.nii.gz\n{other}\n")
    out = tmp_path / "features"
    code, _, err = run(capsys, "embed", "--list", listing, "--out", out, "--encoder", "none")
    assert code == 2  # one scan is missing ...
    assert "missing.nii.gz" in err
    stores = sorted(path.name for path in out.iterdir())
    assert len(stores) == 2  # ... and the others are there
    code, _, err = run(capsys, "embed", ct, "--out", out, "--encoder", "none")
    assert code == 0
    assert "was finished already" in err
    assert sorted(path.name for path in out.iterdir()) == stores


def test_shards_divide_the_list(capsys, ct, data_dir, tmp_path):
    paths = [ct, data_dir / "ct" / "pyradiomics_lung1_ct.nii.gz", data_dir / "ct_limbs" / "sts_019_ct.nii.gz"]
    found = []
    for part in ("0/2", "1/2"):
        out = tmp_path / part.replace("/", "_")
        assert run(capsys, "embed", *paths, "--out", out, "--encoder", "none", "--shard", part)[0] == 0
        found.append({path.name for path in out.iterdir()})
    assert [len(names) for names in found] == [2, 1]
    assert not found[0] & found[1]


def test_match_writes_ranked_candidates_and_takes_stores(capsys, tmp_path):
    paths = sample_paths("breathing_pair")
    names, before, after = load_sample_points()
    points = tmp_path / "points.csv"
    with open(points, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("name", "x", "y", "z"), *[(n, *p) for n, p in zip(names[:10], before[:10], strict=True)]])
    table = tmp_path / "matches.csv"
    argv = ("match", paths["baseline"], paths["followup"], "--points", points, "--encoder", "none", "--out", table)
    assert run(capsys, *argv)[0] == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert list(rows[0]) == ["name", "rank", "x", "y", "z", "similarity", "cycle_error_mm", "confidence"]
    best = {row["name"]: [float(row[c]) for c in "xyz"] for row in rows if row["rank"] == "1"}
    found = np.array([best[name] for name in names[:10]])
    assert np.linalg.norm(found - after[:10], axis=1).mean() < 2  # these points move by 3.9 mm on average
    maps = [tapct_core.embed(tapct_core.load_ct(paths[key]), None) for key in ("baseline", "followup")]
    same = [match.best.point_lps_mm for match in tapct_core.match_points(*maps, before[:10])]
    assert np.allclose(found, same, atol=0.02)  # the table is what the library finds

    out = tmp_path / "features"
    assert run(capsys, "embed", paths["baseline"], paths["followup"], "--out", out, "--encoder", "none")[0] == 0
    stores = sorted(out.iterdir())
    point = [f"{c:.4e}" for c in before[0]]  # negative numbers in scientific notation are numbers
    code, text, _ = run(capsys, "match", *stores, "--point", *point, "--top-k", 2, "--encoder", "none", "--json")
    assert code == 0
    first = json.loads(text)[0]
    assert np.linalg.norm(np.array([first[c] for c in "xyz"]) - best[names[0]]) < 0.5


def test_an_interrupted_command_says_so(monkeypatch, capsys, ct):
    monkeypatch.setattr("tapct_core.io.scan_info", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, err = run(capsys, "info", ct)
    assert code == 130
    assert "stopped" in err


def test_parsing_imports_nothing_heavy():
    code = "import sys, tapct_core.cli as c; c.build_parser(); print('torch' in sys.modules, 'zarr' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "False"]
    assert build_parser().prog == "tapct"


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_name_that_the_terminal_cannot_write_is_escaped(tmp_path, encoding):
    code = "import sys; from tapct_core.cli import main; main(['info', sys.argv[1]]); print('肝臓')"
    command = [sys.executable, "-c", code, str(tmp_path / "肝臓.nii")]
    told = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert told.returncode == 0
    assert b"\\u809d\\u81d3" in told.stdout and b"\\u809d\\u81d3.nii does not exist" in told.stderr


def test_a_persons_word_on_the_values(capsys, tmp_path, ct):
    import nibabel

    image = nibabel.load(ct)
    lost = nibabel.Nifti1Image((np.asanyarray(image.dataobj).astype(np.int32) + 1024).astype(np.int16), image.affine)
    lost.to_filename(tmp_path / "lost.nii.gz")
    code, _, err = run(capsys, "info", tmp_path / "lost.nii.gz")
    assert code == 2 and "--hu-offset -1024" in err
    code, out, _ = run(capsys, "info", tmp_path / "lost.nii.gz", "--hu-offset", "-1024", "--json")
    assert code == 0 and json.loads(out)["hu_range"] == json.loads(run(capsys, "info", ct, "--json")[1])["hu_range"]
    code, _, err = run(capsys, "info", ct, "--phase", "2")
    assert code == 2 and "no phase to choose" in err
