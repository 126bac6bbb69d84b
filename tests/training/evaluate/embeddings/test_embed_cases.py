"""Rows and frozen embeddings: cut networks, input sizes, what is made once, and what is wrong with a case."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tapct_core import embed, load_ct, load_encoder, load_labels
from tapct_core.encoders.outputs import Outputs
from tapct_core.errors import UserError
from tests.tapct_core.encoders.own_network import SPEC, ConvNet, make
from training.evaluate.datasets import read_dataset
from training.evaluate.datasets.cases import Case
from training.evaluate.embeddings import embed_cases as module
from training.evaluate.embeddings.embed_cases import announce_needs, embed_cases, labels_of, open_store, read_labels
from training.evaluate.embeddings.rows import LoadedRow, Row, cut_after, load_rows
from training.evaluate.runs.run_folder import RunFolder

from ..labelled_data import tiny_encoder, write
from ..segmented_data import case


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoders"), "tiny")


@pytest.fixture(scope="module")
def scans(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("scans")
    for number in range(3):
        case(data_dir, folder / f"c{number}.nii.gz", folder / f"c{number}_seg.nii.gz", number)
    return folder


def cases_in(folder, count=2):
    return {f"c{n}": Case(f"c{n}", folder / f"c{n}.nii.gz", folder / f"c{n}_seg.nii.gz") for n in range(count)}


def test_a_cut_network_gives_its_last_blocks_features(encoder):
    whole = load_encoder(encoder, device="cpu")
    hu = torch.randint(-1000, 1000, (1, 8, 32, 32), dtype=torch.int16)
    cut = cut_after(whole, 0)
    assert torch.equal(cut.encode(hu).patches, whole.encode(hu, block=0).patches)
    assert cut.weights_hash != whole.weights_hash
    assert cut_after(whole, -1).weights_hash == whole.weights_hash
    several = replace(whole, outputs=Outputs((0, 1), (0.5, 1.0)))
    assert torch.equal(cut_after(several, 0).encode(hu).patches, cut.encode(hu).patches)
    with pytest.raises(UserError, match="has 2 blocks"):
        cut_after(whole, 2)


def test_rows_are_named_by_what_makes_them_different(encoder):
    rows = [
        Row(encoder), Row(f"untrained:{encoder}"), Row(encoder, block=0), Row(encoder, overlap=0.5),
        Row(encoder, spacing_mm=(5, 4, 4)), Row(encoder, in_plane=96), Row(encoder, window=(4, 16, 16)), Row("none"),
    ]  # fmt: skip
    names = [row.name for row in load_rows(rows, "cpu")]
    assert names == [
        "tiny", "tiny (untrained twin)", "tiny, block 1 of 2", "tiny, overlap 0.5", "tiny, 5 x 4 x 4 mm", "tiny, 96 px",
        "tiny, window 4 x 16 x 16", "none",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([Row("nobody")], "nobody"),
        ([Row("none", block=1)], "has no encoder"),
        ([Row("none"), Row("none")], "two rows"),
        ([Row("none", in_plane=96, spacing_mm=(1, 1, 1))], "release plan"),
    ],
)
def test_rows_that_cannot_be_are_refused(rows, words):
    with pytest.raises(UserError, match=words):
        load_rows(rows, "cpu")


def test_a_window_must_be_whole_patches(encoder):
    with pytest.raises(UserError, match="whole number of patches"):
        Row(encoder, window=(3, 16, 16)).load("cpu")


def test_224_pixels_are_the_release_plan(encoder, scans, tmp_path):
    """The input size in pixels goes another way, by a spacing that follows from the field of view."""
    (row,) = load_rows([Row(encoder, in_plane=224)], "cpu")
    store = open_store(tmp_path / "features")
    embedded = embed_cases(RunFolder(tmp_path), row, cases_in(scans, 1), store)
    found = embedded.features("c0")
    release = embed(load_ct(scans / "c0.nii.gz"), row.encoder, plan="release")
    assert found.geometry.matches(release.geometry, tolerance_mm=1e-6)
    assert np.mean(found.tokens == release.tokens) > 0.99  # HU may be rounded the other way here and there
    assert found.provenance["spacing_mm"] == "224 pixels a side"


def test_embeddings_are_made_once_and_shared(encoder, scans, tmp_path, monkeypatch):
    (row,) = load_rows([Row(encoder)], "cpu")
    store = open_store(tmp_path / "features")
    first = embed_cases(RunFolder(tmp_path / "a"), row, cases_in(scans), store)
    facts = first.outcome.results["c0"]
    assert facts["seconds"] > 0 and facts["gflop"] > 0 and facts["dim"] == 24
    assert facts["labels"].keys() <= {"0", "1", "2"}
    monkeypatch.setattr(module, "embed", lambda *a, **k: pytest.fail("embedded again"))
    other_run = embed_cases(RunFolder(tmp_path / "b"), row, cases_in(scans), store)
    assert other_run.outcome.results["c0"]["seconds"] is None
    assert np.array_equal(first.features("c1").tokens, other_run.features("c1").tokens)


def test_features_that_have_gone_are_made_again(encoder, scans, tmp_path):
    (row,) = load_rows([Row(encoder)], "cpu")
    store = open_store(tmp_path / "features")
    embedded = embed_cases(RunFolder(tmp_path), row, cases_in(scans, 1), store)
    before = embedded.features("c0")
    shutil.rmtree(store.folder)
    assert np.array_equal(embedded.features("c0").tokens, before.tokens)


def test_cases_that_cannot_be_used_are_named(encoder, scans, tmp_path):
    (row,) = load_rows([Row(encoder)], "cpu")
    cases = cases_in(scans)
    write(tmp_path / "small.nii.gz", np.zeros((24, 48, 40), np.uint8))
    write(tmp_path / "moved.nii.gz", np.zeros((24, 48, 48), np.uint8), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    (tmp_path / "cut.nii.gz").write_bytes((scans / "c0.nii.gz").read_bytes()[:3000])
    trouble = {
        "no-labels": (cases["c0"].ct, tmp_path / "gone.nii.gz", "gone.nii.gz is not there"),
        "other-grid": (cases["c0"].ct, tmp_path / "small.nii.gz", "has another shape"),
        "elsewhere": (cases["c0"].ct, tmp_path / "moved.nii.gz", "lies elsewhere"),
        "damaged": (tmp_path / "cut.nii.gz", cases["c0"].labels, "truncated"),
        "no-scan": (tmp_path / "gone.nii.gz", cases["c0"].labels, "does not exist"),
    }
    cases |= {id: Case(id, ct, labels) for id, (ct, labels, _) in trouble.items()}
    outcome = embed_cases(RunFolder(tmp_path / "run"), row, cases, open_store(tmp_path / "features")).outcome
    assert list(outcome.results) == ["c0", "c1"]
    assert outcome.broken.keys() == trouble.keys()
    for id, (_, _, words) in trouble.items():
        assert words in outcome.broken[id]


def test_needs_are_said_and_a_small_disk_is_refused(encoder, scans, tmp_path, capsys, monkeypatch):
    rows = load_rows([Row(encoder), Row("none")], "cpu")
    run, store, cases = RunFolder(tmp_path / "run"), open_store(tmp_path / "features"), cases_in(scans)
    announce_needs(rows, cases, run, store)
    said = capsys.readouterr().err
    assert "2 cases, 2 rows" in said and "GB of features" in said and "GB of memory" in said
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="--features"):
        announce_needs(rows, cases, run, store)
    monkeypatch.undo()
    for row in rows:
        embed_cases(run, row, cases, store)
    capsys.readouterr()
    announce_needs(rows, cases, run, store)
    assert capsys.readouterr().err == ""


def test_the_need_on_disk_is_about_what_is_taken(encoder, scans, tmp_path):
    (row,) = load_rows([Row(encoder)], "cpu")
    store = open_store(tmp_path / "features")
    embedded = embed_cases(RunFolder(tmp_path / "run"), row, cases_in(scans, 1), store)
    needed, _ = module._needs(row, load_ct(scans / "c0.nii.gz"))
    taken = sum(file.stat().st_size for file in store.folder.rglob("*") if file.is_file())
    assert embedded.outcome.results and 0.7 < needed / taken < 1.5


def test_the_row_of_a_network_of_somebody_elses():
    row = LoadedRow("conv-net", Row("conv-net"), make(), SPEC)
    facts = row.facts()
    assert facts["blocks"] is None and facts["parameters"] == sum(p.numel() for p in ConvNet().parameters())
    # 4 x 8 x 8 tokens: 16 kernels of 4^3 voxels, then 24 kernels of 3^3 places of 16; two operations each.
    window = SimpleNamespace(window_tokens=SPEC.window_tokens, windows=np.zeros((3, 3)))
    assert module.gflop(row, window) == pytest.approx(3 * 2 * 256 * (16 * 64 + 24 * 16 * 27) / 1e9)


def test_a_label_map_with_a_false_header_takes_the_scans_where_the_data_set_is_known_for_it(tmp_path, data_dir):
    """As LiTS17 has them: the voxels are the scan's, the header an identity matrix."""
    import nibabel as nib

    case(data_dir, tmp_path / "volume-0.nii", tmp_path / "segmentation-0.nii", 0)
    volume, right = load_ct(tmp_path / "volume-0.nii"), load_labels(tmp_path / "segmentation-0.nii")
    stored = np.array(nib.load(tmp_path / "segmentation-0.nii").dataobj)  # a copy: the file is written over
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "segmentation-0.nii")
    (one,) = read_dataset("lits17", tmp_path).cases
    assert not load_labels(one.labels).geometry.matches(volume.geometry)
    found = read_labels(one, volume)
    assert np.array_equal(found.labels, right.labels) and found.geometry is volume.geometry
    assert np.array_equal(labels_of(one).labels, right.labels)
    with pytest.raises(UserError, match="lies elsewhere|another shape"):
        read_labels(replace(one, scan_header=False), volume)
    nib.save(nib.Nifti1Image(stored[:-1], np.eye(4)), tmp_path / "segmentation-0.nii")
    with pytest.raises(UserError, match="another shape"):
        read_labels(one, volume)
