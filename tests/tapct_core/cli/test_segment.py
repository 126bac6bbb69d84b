"""``tapct segment``: strokes in, a mask on the scan's grid out, and the errors a person makes."""

from __future__ import annotations

import numpy as np
import pytest

import tapct_core as tc
from tapct_core.cli import main
from tapct_core.io import load_ct, load_labels, save_labels
from tapct_core.volume import LabelMap
from tests.tapct_core.delineation.scene import NAMES, dice, painted, trunk

BARE = ["--encoder", "none"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment")
    volume, truth = trunk()
    save_labels(LabelMap((volume.hu + 1024).astype(np.uint16), volume.geometry), folder / "raw.nii.gz")
    import nibabel as nib

    image = nib.load(folder / "raw.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata().astype(np.int16) - 1024, image.affine), folder / "ct.nii.gz")
    volume = load_ct(folder / "ct.nii.gz")
    strokes = painted(truth, volume)
    save_labels(strokes, folder / "strokes.nii.gz", like=volume)
    return folder / "ct.nii.gz", folder / "strokes.nii.gz", truth


def run(*words: object) -> int:
    return main(["segment", *(str(w) for w in words)])


def test_writes_what_segment_gives_with_names(files, tmp_path):
    ct, strokes, truth = files
    assert run(ct, strokes, "--out", tmp_path / "seg", *BARE) == 0
    found = load_labels(tmp_path / "seg.nii.gz")
    volume = load_ct(ct)
    assert found.geometry.matches(volume.geometry) and found.names == {1: "liver", 2: "kidney"}
    expected = tc.segment(volume, load_labels(strokes), tc.embed(volume, None))
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert dice(found.labels, truth, 1) > 0.85


def test_background_by_number(files, tmp_path):
    ct, strokes, _ = files
    bare = load_labels(strokes)
    save_labels(LabelMap(bare.labels, bare.geometry, bare.source), tmp_path / "bare.nii.gz")
    assert run(ct, tmp_path / "bare.nii.gz", "--background", 9, "--out", tmp_path / "a.nii.gz", *BARE) == 0
    assert run(ct, strokes, "--out", tmp_path / "b.nii.gz", *BARE) == 0
    np.testing.assert_array_equal(load_labels(tmp_path / "a.nii.gz").labels, load_labels(tmp_path / "b.nii.gz").labels)


def test_says_what_is_missing_where_a_result_is_possible(files, tmp_path, capsys):
    ct, strokes, _ = files
    bare = load_labels(strokes)
    save_labels(LabelMap(bare.labels, bare.geometry, bare.source), tmp_path / "bare.nii.gz")
    assert run(ct, tmp_path / "bare.nii.gz", "--out", tmp_path / "a.nii.gz", *BARE) == 0
    assert "No class is named background" in capsys.readouterr().err


def test_a_probe_needs_no_strokes_of_every_class(files, tmp_path):
    ct, strokes, truth = files
    volume = load_ct(ct)
    masks = LabelMap(truth, volume.geometry, volume.source, {1: "liver", 2: "kidney"})
    save_labels(masks, tmp_path / "masks.nii.gz")
    fit = ["probe", "fit", ct, tmp_path / "masks.nii.gz", "--out", tmp_path / "p.safetensors", "--head", "ridge"]
    assert main([str(w) for w in [*fit, "--hu-features", "voxel", *BARE]]) == 0
    one = load_labels(strokes)
    one = LabelMap(np.where(one.labels == 1, 1, 0).astype(np.uint8), one.geometry, one.source, NAMES)
    save_labels(one, tmp_path / "one.nii.gz")
    assert (
        run(ct, tmp_path / "one.nii.gz", "--probe", tmp_path / "p.safetensors", "--out", tmp_path / "seg.nii.gz") == 0
    )
    found = load_labels(tmp_path / "seg.nii.gz").labels
    assert dice(found, truth, 1) > 0.8 and dice(found, truth, 2) > 0.8


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (lambda s: np.where(s == 1, 1, 0), [], "only liver is painted"),
        (lambda s: 0 * s, [], "no voxel is painted"),
        (lambda s: s, ["--background", "7"], "holds no label 7"),
        (lambda s: s, ["--out", "seg.xyz"], "not written as .xyz"),
    ],
)
def test_one_line_exit_code_two_and_no_output(files, tmp_path, capsys, change, words, said):
    ct, strokes, _ = files
    labels = load_labels(strokes)
    changed = LabelMap(change(labels.labels).astype(np.uint8), labels.geometry, labels.source, NAMES)
    save_labels(changed, tmp_path / "s.nii.gz")
    out = tmp_path / "out" / "seg.nii.gz"
    words = [str(out.with_name(w)) if w == "seg.xyz" else w for w in words]
    assert run(ct, tmp_path / "s.nii.gz", "--out", out, *BARE, *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not list(tmp_path.glob("out/*"))


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert "tapct segment scan.nii.gz strokes.nii.gz --out" in capsys.readouterr().out
