"""``tapct probe``: fitted on one real scan and applied to it, with the errors a person makes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tapct_core.cli import Parser, main
from tapct_core.cli import probe as command
from tapct_core.errors import UserError
from tapct_core.io import load_ct, load_labels, save_labels
from tapct_core.volume import LabelMap

COMMON = ["--encoder", "none", "--spacing", "8", "8", "8"]


@pytest.fixture(scope="module")
def files(data_dir, tmp_path_factory):
    """A real chest CT, and lung against the rest as a mask on its grid."""
    ct = data_dir / "ct" / "cip_chest_64_ct.nii.gz"
    volume = load_ct(ct)
    lungs = LabelMap(
        (load_labels(data_dir / "ct" / "cip_chest_64_seg.nii.gz").labels > 0).astype(np.uint8),
        volume.geometry,
        volume.source,
        {1: "lungs"},
    )
    folder = tmp_path_factory.mktemp("probe")
    save_labels(lungs, folder / "lungs.nii.gz")
    return ct, folder / "lungs.nii.gz", folder


def run(*words: object) -> int:
    """The command as `tapct` runs it, by itself."""
    parser = Parser(prog="tapct")
    command.add_parser(parser.add_subparsers(dest="command", required=True))
    args = parser.parse_args([str(w) for w in words])
    return args.run(args) or 0


@pytest.fixture(scope="module")
def probe(files):
    ct, lungs, folder = files
    options = ["--hu-features", "token", "--head", "ridge", *COMMON]
    assert run("probe", "fit", ct, lungs, "--out", folder / "lungs.probe", *options) == 0
    return folder / "lungs.probe"


def test_fit_then_predict_writes_labels_on_the_scans_grid_with_a_report(files, probe, tmp_path, capsys):
    ct, lungs, _ = files
    out = tmp_path / "seg.nii.gz"
    # Neither --encoder nor --spacing: they are the probe's own.
    assert run("probe", "predict", ct, "--probe", probe, "--out", out, "--labels", lungs, "--json") == 0
    report = json.loads(capsys.readouterr().out)[str(ct)]
    assert report["classes"]["1"]["name"] == "lungs" and report["mean_dice"] > 0.6
    found = load_labels(out)
    assert found.geometry.matches(load_ct(ct).geometry) and found.names[1] == "lungs"


def test_several_scans_go_into_a_folder_and_one_failure_is_named(files, probe, tmp_path, capsys):
    ct, _, _ = files
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not a scan")
    assert run("probe", "predict", ct, bad, "--probe", probe, "--out", tmp_path / "out") == 2
    assert [p.name for p in (tmp_path / "out").glob("*.nii.gz")] == ["cip_chest_64_ct_seg.nii.gz"]
    assert "1 of 2 scans failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "{ct}", "--out", "{tmp}/p"], "has no partner"),
        (["fit", "{ct}", "{empty}", "--out", "{tmp}/p"], "holds no label above 0"),
        (["fit", "{ct}", "{lungs}", "--out", "{folder}"], "folder with other things"),
        (["fit", "{ct}", "{stroke}", "--out", "{tmp}/p"], "only class 1 is labelled"),
        (["fit", "{ct}", "{stroke}", "--out", "{tmp}/p", "--head", "conv"], "full masks"),
        (["predict", "{ct}", "--probe", "{tmp}/none", "--out", "{tmp}/s.nii.gz"], "is no probe"),
        (["predict", "{ct}", "{ct}", "--probe", "{probe}", "--out", "{tmp}/s.nii.gz"], "--out a folder"),
        (["predict", "{ct}", "{ct}", "--probe", "{probe}", "--out", "{tmp}/s"], "overwrite the other"),
        (
            ["predict", "{ct}", "--probe", "{probe}", "--out", "{tmp}/s.nii.gz", "--labels", "a", "b"],
            "1 CTs and 2 label",
        ),
        (
            ["predict", "{ct}", "--probe", "{probe}", "--out", "{tmp}/s.mha", "--spacing", "9", "9", "9"],
            "spacing_mm 8 8 8",
        ),
    ],
)
def test_what_people_get_wrong_is_one_line_and_leaves_nothing(files, probe, tmp_path, words, message):
    ct, lungs, folder = files
    volume = load_ct(ct)
    stroke = np.zeros(volume.geometry.shape, np.uint8)
    save_labels(LabelMap(stroke, volume.geometry, volume.source), tmp_path / "empty.nii.gz")
    stroke[40, 30, 20:40] = 1
    save_labels(LabelMap(stroke, volume.geometry, volume.source), tmp_path / "stroke.nii.gz")
    places = {
        "ct": ct,
        "lungs": lungs,
        "folder": folder,
        "probe": probe,
        "tmp": tmp_path,
        "empty": tmp_path / "empty.nii.gz",
        "stroke": tmp_path / "stroke.nii.gz",
    }
    before = sorted(p.name for p in tmp_path.iterdir())
    common = COMMON if words[0] == "fit" else []
    with pytest.raises(UserError, match=message):
        run("probe", *[w.format(**places) for w in words], *common)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_the_command_is_part_of_tapct(files, capsys):
    assert main(["probe", "fit", str(files[0]), "--out", "p"]) == 2
    assert "has no partner" in capsys.readouterr().err


def test_without_an_encoder_a_probe_learns_from_hu(tmp_path, capsys):
    import numpy as np

    from tapct_core.geometry import Geometry
    from tapct_core.io import save_labels
    from tapct_core.io.nifti import write_nifti
    from tapct_core.volume import LabelMap, Source

    rng = np.random.default_rng(7)
    values = np.zeros((12, 40, 48), np.uint8)
    values[3:9, 10:20, 10:18], values[3:9, 22:32, 22:34] = 1, 2
    hu = (np.array([-900, 45, 700])[values] + rng.normal(0, 9, values.shape)).astype(np.int16)
    grid = Geometry.from_spacing(values.shape, (2.5, 1.5, 1.5))
    save_labels(LabelMap(values, grid), tmp_path / "seg.nii.gz")
    source = Source("array", file_shape=values.shape[::-1], file_affine=grid.affine[:, [2, 1, 0, 3]])
    write_nifti(tmp_path / "ct.nii.gz", np.asfortranarray(hu.T), source, LabelMap(values, grid))
    fit = ["probe", "fit", str(tmp_path / "ct.nii.gz"), str(tmp_path / "seg.nii.gz"), "--encoder", "none", "--out"]
    assert main([*fit, str(tmp_path / "p.probe")]) == 0
    words = ["--probe", str(tmp_path / "p.probe"), "--out", str(tmp_path / "o.nii.gz"), "--json"]
    capsys.readouterr()
    assert (
        main(["probe", "predict", str(tmp_path / "ct.nii.gz"), *words, "--labels", str(tmp_path / "seg.nii.gz")]) == 0
    )
    (report,) = json.loads(capsys.readouterr().out).values()
    assert report["mean_dice"] > 0.8
    assert main([*fit, str(tmp_path / "q.probe"), "--hu-features", "none"]) == 2
    assert "HU alone" in capsys.readouterr().err and not (tmp_path / "q.probe").exists()
