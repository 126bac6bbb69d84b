"""The whole task on miniature data sets: what can be told is told, what cannot is said to be luck."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.training.evaluate import labelled_data as data
from training.evaluate.__main__ import main
from training.evaluate.heads.classifiers import HEADS
from training.evaluate.report.tables import read_tables, words_of
from training.evaluate.runs.run_folder import RunFolder

SCANS = 20


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return [data.tiny_encoder(folder, name, seed) for seed, name in enumerate(("one", "other"))]


@pytest.fixture(scope="module")
def scans(tmp_path_factory, data_dir):
    """20 scans of 10 patients; "density" can be read from the image, "coin" cannot."""
    folder = tmp_path_factory.mktemp("scans")
    dense = [(n // 2) % 2 == 0 for n in range(SCANS)]
    listing = data.labelled_scans(folder, data_dir, ["dense" if d else "plain" for d in dense], dense)
    coins = "aabbbbaabbaaaabbaabb"  # by patient, balanced over density
    rows = [line.split(",") for line in listing.read_text().split()[1:]]
    return data.write_csv(
        listing, "case,ct,density,patient,coin", [[*row, coin] for row, coin in zip(rows, coins, strict=True)]
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def quick(monkeypatch):
    """Attention heads of few steps: what they learn here shows early."""
    for name in ("abmil", "abmil-gated"):
        monkeypatch.setitem(HEADS, name, replace(HEADS[name], settings=(20, 100)))


def classify(root, out, store, encoders, *words, layout="folder"):
    words = ["--root", root, "--out", out, "--features", store, "--encoder", *encoders, "--device", "cpu", *words]
    words += [] if "--permutations" in words else ["--permutations", 0]
    return main(["classification", "--dataset", layout, *map(str, words)])


def table(out, number=0):
    """The rows of a table as (encoder, head) -> {column: cell}."""
    found = read_tables(RunFolder(out)).tables[number]
    return {tuple(row[:2]): dict(zip(found.columns, row, strict=True)) for row in found.rows}


def test_a_separable_task_reaches_one_and_a_coin_is_called_luck(scans, encoders, store, tmp_path):
    words = ["--runs", 3, "--folds", 2, "--heads", "cls", "mean"]
    assert classify(scans, tmp_path / "density", store, encoders[:1], "--label", "density", *words) == 0
    assert classify(scans, tmp_path / "coin", store, encoders[:1], "--label", "coin", *words) == 0
    told = table(tmp_path / "density")["one", "cls"]
    assert told["AUROC (95 %)"] == {"value": 1.0, "low": 1.0, "high": 1.0, "digits": 3}
    assert told["AP (95 %)"]["value"] == 1.0 and told["balanced accuracy (95 %)"]["value"] > 0.9
    for head in ("cls", "mean"):
        assert table(tmp_path / "coin")["one", head]["AUROC (95 %)"]["low"] <= 0.5
    for name, better in (("density", 2), ("coin", 0)):
        findings = read_tables(RunFolder(tmp_path / name)).words
        assert sum("better than chance" in finding for finding in findings) == better
        assert any("only 3 runs" in finding for finding in findings)


def test_what_luck_reaches_is_found_by_training_again(scans, encoders, store, tmp_path):
    words = ["--label", "density", "--runs", 2, "--folds", 2, "--heads", "cls", "--permutations", 14]
    assert classify(scans, tmp_path / "run", store, encoders, *words) == 0
    found = table(tmp_path / "run")
    assert found["one", "cls"]["p against chance"] <= 2 / 15  # of ten patients, a permutation may give the truth back
    results = read_tables(RunFolder(tmp_path / "run"))
    assert "14 runs with labels permuted by patient, trained anew" in results.tables[0].caption
    folder = tmp_path / "run" / "rows"
    luck = [json.loads((folder / "one" / "permuted-cls" / f"run-{n:02d}.json").read_text()) for n in range(14)]
    values = np.array([one["result"]["auroc"] for one in luck], dtype=float)
    assert np.nanmean(values) < 0.75 and np.nanstd(values) > 0.05


def test_attention_over_windows_tells_the_same(quick, scans, encoders, store, tmp_path):
    words = ["--label", "density", "--runs", 1, "--folds", 2, "--heads", "abmil-gated"]
    assert classify(scans, tmp_path / "run", store, encoders[:1], *words) == 0
    assert table(tmp_path / "run")["one", "abmil-gated"]["AUROC (95 %)"]["value"] == 1.0


def test_swapped_encoders_give_swapped_rows(scans, encoders, store, tmp_path):
    words = ["--label", "coin", "--runs", 2, "--folds", 2, "--heads", "mean"]
    classify(scans, tmp_path / "ab", store, encoders, *words)
    classify(scans, tmp_path / "ba", store, encoders[::-1], *words)
    there, back = table(tmp_path / "ab"), table(tmp_path / "ba")
    assert list(there) == [("one", "mean"), ("other", "mean"), ("guessing", "")]
    assert list(back) == [("other", "mean"), ("one", "mean"), ("guessing", "")]
    assert all(there[key] == back[key] for key in there) and there["one", "mean"] != there["other", "mean"]
    (gap,), (turned,) = (read_tables(RunFolder(tmp_path / name)).tables[1].rows for name in ("ab", "ba"))
    assert gap[3]["value"] == pytest.approx(-turned[3]["value"]) and gap[4] == turned[4]
    assert gap[3]["low"] == pytest.approx(-turned[3]["high"])


def test_an_interrupted_run_goes_on_and_ends_the_same(scans, encoders, store, tmp_path, monkeypatch):
    words = ["--label", "coin", "--runs", 3, "--folds", 2, "--heads", "cls"]
    classify(scans, tmp_path / "whole", store, encoders[:1], *words)
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    runs = tmp_path / "part" / "rows" / "one" / "runs-cls"
    (tmp_path / "part" / "table.json").unlink()
    (runs / "run-01.json").unlink()
    kept = (runs / "run-00.json").stat().st_mtime_ns
    classify(scans, tmp_path / "part", store, encoders[:1], *words)
    assert (tmp_path / "part" / "table.json").read_text() == (tmp_path / "whole" / "table.json").read_text()
    assert (runs / "run-00.json").stat().st_mtime_ns == kept


def test_more_runs_and_another_encoder_are_added_to_a_finished_run(scans, encoders, store, tmp_path):
    words = ["--label", "coin", "--folds", 2, "--heads", "cls"]
    classify(scans, tmp_path / "run", store, encoders[:1], *words, "--runs", 1)
    first = (tmp_path / "run" / "rows" / "one" / "runs-cls" / "run-00.json").read_text()
    assert classify(scans, tmp_path / "run", store, encoders, *words, "--runs", 2) == 0
    assert (tmp_path / "run" / "rows" / "one" / "runs-cls" / "run-00.json").read_text() == first
    assert len(table(tmp_path / "run")) == 3


def test_other_labels_or_folds_do_not_go_into_the_same_folder(scans, encoders, store, tmp_path, capsys):
    words = ["--runs", 1, "--heads", "cls"]
    classify(scans, tmp_path / "run", store, encoders[:1], *words, "--folds", 2, "--label", "coin")
    for other in (["--folds", 3, "--label", "coin"], ["--folds", 2, "--label", "density"]):
        assert classify(scans, tmp_path / "run", store, encoders[:1], *words, *other) == 2
        assert "other settings" in capsys.readouterr().err


def test_a_broken_scan_is_named_and_left_out_of_every_row(scans, encoders, store, tmp_path, capsys):
    shutil.copytree(scans.parent, tmp_path / "data")
    (tmp_path / "data" / "ct" / "scan03.nii.gz").write_bytes(b"\x1f\x8bno scan")
    (tmp_path / "data" / "ct" / "scan05.nii.gz").unlink()
    words = ["--label", "density", "--runs", 1, "--folds", 2, "--heads", "cls"]
    assert classify(tmp_path / "data" / scans.name, tmp_path / "run", store, encoders, *words) == 0
    error = capsys.readouterr().err
    assert "left out: scan03" in error and "2 of 20 cases are left out" in error
    results = read_tables(RunFolder(tmp_path / "run"))
    assert set(results.left_out) == {"scan03", "scan05"} and "18 samples" in results.tables[0].caption
    # put right, the next start takes it in
    shutil.copy(scans.parent / "ct" / "scan03.nii.gz", tmp_path / "data" / "ct" / "scan03.nii.gz")
    classify(tmp_path / "data" / scans.name, tmp_path / "run", store, encoders, *words)
    assert set(read_tables(RunFolder(tmp_path / "run")).left_out) == {"scan05"}


def test_luna16_as_distributed_on_its_own_folds(data_dir, encoders, store, tmp_path):
    nodules = data.luna16(tmp_path / "LUNA16", data_dir)
    words = ["--runs", 2, "--heads", "point", "mean", "cls"]
    assert classify(tmp_path / "LUNA16", tmp_path / "run", store, encoders[:1], *words, layout="luna16") == 0
    found = table(tmp_path / "run")
    assert found["one", "point"]["AUROC (95 %)"]["value"] > 0.9
    results = read_tables(RunFolder(tmp_path / "run"))
    assert "the data set's own 3 folds" in results.tables[0].caption
    samples = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert sum(samples["labels"]) == 2 * len(nodules) and set(samples["cases"]) == set(nodules)
    record = tmp_path / "run" / "rows" / "one" / "runs-point" / "run-00.json"
    of_scan = dict(zip(samples["cases"], json.loads(record.read_text())["result"]["folds"], strict=True))
    assert [of_scan[uid] for uid in sorted(nodules)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.slow
def test_attention_over_the_surroundings_of_candidates(quick, data_dir, encoders, store, tmp_path):
    data.luna16(tmp_path / "LUNA16", data_dir)
    words = ["--runs", 1, "--folds", 2, "--heads", "abmil"]
    assert classify(tmp_path / "LUNA16", tmp_path / "run", store, encoders[:1], *words, layout="luna16") == 0
    assert table(tmp_path / "run")["one", "abmil"]["AUROC (95 %)"]["value"] > 0.75


def test_published_splits_and_odd_requests(scans, encoders, store, tmp_path, capsys):
    rows = [line.split(",") for line in scans.read_text().split()[1:]]
    split = data.write_csv(
        scans.with_name("split.csv"), "case,ct,label,patient,split",
        [[*row[:4], "train" if n < 10 else "test"] for n, row in enumerate(rows)],
    )  # fmt: skip
    assert classify(split, tmp_path / "a", store, encoders[:1], "--runs", 1, "--heads", "cls") == 0
    caption = read_tables(RunFolder(tmp_path / "a")).tables[0].caption
    assert "10 samples of 5 patients" in caption and "own split" in caption
    for words, said in (
        (["--folds", 1], "--folds 2 or more"),
        (["--folds", 9, "--label", "coin"], "use fewer with --folds"),
        (["--heads", "point"], "for points"),
        (["--label", "nothing"], "has no column nothing"),
        (["--positive", "green"], "positive class"),
    ):
        root = scans if "coin" in words else split
        assert classify(root, tmp_path / "b", store, encoders[:1], *words) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "b" / "table.json").exists()
    assert classify(split, tmp_path / "c", store, ["none"]) == 2
    assert "untrained:NAME" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_give_the_table_of_one(scans, encoders, launch, tmp_path):
    words = ["classification", "--dataset", "folder", "--root", scans, "--encoder", encoders[0], "--device", "cpu"]
    words += ["--label", "coin", "--runs", 3, "--permutations", 4, "--folds", 2, "--heads", "cls"]
    for ranks in (1, 2):
        launch(ranks, *words, "--out", tmp_path / str(ranks), module="training.evaluate")
    one, two = ((tmp_path / str(ranks) / "table.json").read_text() for ranks in (1, 2))
    assert one == two


def test_cells_are_readable(scans, encoders, store, tmp_path, capsys):
    words = ["--label", "coin", "--runs", 1, "--folds", 2, "--heads", "cls"]
    classify(scans, tmp_path / "run", store, encoders[:1], *words)
    out = capsys.readouterr().out
    assert "| encoder | head | AUROC (95 %) |" in out and "| guessing |" in out
    assert words_of(table(tmp_path / "run")["guessing", ""]["AUROC (95 %)"]) == "0.500"
