"""The whole task on miniature data sets in their own layouts: what is broken is named, what is finished stays."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tapct_core import load_ct, load_labels
from tapct_core.errors import UserError
from training.evaluate.__main__ import main
from training.evaluate.datasets import read_dataset
from training.evaluate.metrics.statistics import interval
from training.evaluate.report.tables import read_tables
from training.evaluate.runs.run_folder import RunFolder
from training.evaluate.tasks.segmentation_tables import _mean_of_held, mean_by_class, mean_over_classes

from .. import segmented_data as data
from ..labelled_data import tiny_encoder, write_csv


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return [tiny_encoder(folder, name, seed) for seed, name in enumerate(("one", "other"))]


@pytest.fixture(scope="module")
def own(tmp_path_factory, data_dir):
    """Six cases in the layout of a folder, two of them to be tested."""
    root = tmp_path_factory.mktemp("own")
    data.folder(root, data_dir, 6, split=True)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


def segment(layout, root, out, store, encoders, *words):
    words = ["--root", root, "--out", out, "--features", store, "--device", "cpu", "--encoder", *encoders, *words]
    return main(["segmentation", "--dataset", layout, *map(str, words)])


def summary(out):
    """Rows of the first table: name -> {column: cell}."""
    table = read_tables(RunFolder(out)).tables[0]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


@pytest.fixture(scope="module")
def finished(own, encoders, store, tmp_path_factory):
    """One encoder and HU alone, run to the end."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert segment("folder", own, out, store, [encoders[0], "none"], "--steps", 120) == 0
    return out


def test_tissues_defined_by_hu_are_learnt_from_hu(finished):
    rows = summary(finished)
    assert list(rows) == ["one", "none"]
    assert rows["none"]["mean Dice"]["value"] > 0.45  # tokens are 8 mm apart, bones thinner
    assert rows["none"]["cases"] == 2 and rows["none"]["left out"] == 0
    low, high = (rows["none"]["mean Dice"][side] for side in ("low", "high"))
    assert 0 <= low <= rows["none"]["mean Dice"]["value"] <= high <= 1


def test_segmentations_lie_on_the_scans_own_grid_and_have_the_dice_that_is_told(own, finished):
    truth = load_labels(own / "labels" / "c2.nii.gz")
    found = load_labels(finished / "rows" / "none" / "segmentations" / "c2.nii.gz")
    assert found.geometry.matches(load_ct(own / "ct" / "c2.nii.gz").geometry)
    told = json.loads((finished / "rows" / "none" / "scores" / "c2.json").read_text())["result"]["classes"]
    for value in (data.SOFT, data.BONE):
        a, b = found.labels == value, truth.labels == value
        assert told[str(value)]["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_finished_run_does_nothing_again(own, finished, store, encoders):
    def stamps():
        files = [f for f in finished.rglob("*") if f.is_file() and f.parent.name in ("embed", "heads", "scores")]
        return {file: file.stat().st_mtime_ns for file in files}

    before, told = stamps(), (finished / "table.json").read_bytes()
    assert len(before) == 2 * (6 + 2 + 2)
    assert segment("folder", own, finished, store, [encoders[0], "none"], "--steps", 120) == 0
    assert stamps() == before and (finished / "table.json").read_bytes() == told


def test_a_lost_piece_is_made_again_and_no_other(own, finished, store, encoders):
    told = (finished / "table.json").read_bytes()
    piece, other = (finished / "rows" / "one" / "scores" / f"{id}.json" for id in ("c2", "c5"))
    piece.unlink()
    before = other.stat().st_mtime_ns
    assert segment("folder", own, finished, store, [encoders[0], "none"], "--steps", 120) == 0
    assert piece.is_file() and other.stat().st_mtime_ns == before
    assert json.loads((finished / "table.json").read_text()) == json.loads(told)


def test_swapped_encoders_give_swapped_rows(own, encoders, store, tmp_path):
    for name, order in (("ab", encoders), ("ba", encoders[::-1])):
        assert segment("folder", own, tmp_path / name, store, order, "--steps", 60) == 0
    first, second = summary(tmp_path / "ab"), summary(tmp_path / "ba")
    assert list(first) == ["one", "other"] and list(second) == ["other", "one"]
    for name in first:
        assert first[name]["mean Dice"] == second[name]["mean Dice"]
    gap, back = (found[name]["Dice against the first row"] for found, name in ((first, "other"), (second, "one")))
    assert gap["value"] == pytest.approx(-back["value"]) and gap["low"] == pytest.approx(-back["high"])


def test_other_settings_want_another_folder(own, finished, store, encoders, capsys):
    assert segment("folder", own, finished, store, [encoders[0]], "--steps", 119) == 2
    assert "steps was 120, now 119" in capsys.readouterr().err


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_other_heads_learn_too(own, store, tmp_path, head):
    assert segment("folder", own, tmp_path / head, store, ["none"], "--head", head, "--folds", 2) == 0
    row = summary(tmp_path / head)["none"]
    assert row["mean Dice"]["value"] > 0.4 and row["cases"] == 6


def test_amos22_takes_cts_and_names_what_is_broken(data_dir, encoders, tmp_path, capsys):
    data.amos22(tmp_path / "amos", data_dir)
    out = tmp_path / "run"
    assert segment("amos22", tmp_path / "amos", out, tmp_path / "features", encoders[:1], "--steps", 40) == 0
    results = read_tables(RunFolder(out))
    assert results.left_out.keys() == {"amos_0004", "amos_0005", "amos_0007"}
    assert "is not there" in results.left_out["amos_0004"] and "another shape" in results.left_out["amos_0005"]
    assert "77" in results.left_out["amos_0007"]
    row = summary(out)["one"]
    assert row["cases"] == 2 and row["left out"] == 3
    said = capsys.readouterr().err
    assert "3 of 9 cases are left out" in said and "1 MR scans" in said
    notes = " ".join(results.notes)
    assert "1 tested cases hold none of the classes and enter no mean: amos_0006" in notes
    by_class = {line[0]: line[1:] for line in results.tables[1].rows}
    assert list(by_class) == list(data.AMOS_ORGANS[1:])
    assert by_class["spleen"][0] == 2 and by_class["liver"][0] == 0 and by_class["liver"][1]["value"] is None
    split = json.loads((out / "split.json").read_text())["folds"]
    assert [(len(fold["train"]), len(fold["test"])) for fold in split] == [(6, 3)]


def test_lits17_is_read_from_its_batches_with_a_seeded_split(data_dir, store, tmp_path):
    data.lits17(tmp_path / "lits", data_dir)
    assert segment("lits17", tmp_path / "lits", tmp_path / "run", store, ["none"], "--steps", 40, "--seed", 3) == 0
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert "seed 3" in split["words"] and sorted(split["folds"][0]["train"] + split["folds"][0]["test"]) == [
        f"lits-{number}" for number in range(5)
    ]
    assert {row[0] for row in read_tables(RunFolder(tmp_path / "run")).tables[1].rows} == {"liver", "tumour"}


def test_class_names_come_from_the_label_maps_where_no_list_gives_them(data_dir, store, tmp_path):
    root = tmp_path / "own"
    data.folder(root, data_dir, 3, split=True)
    (root / "classes.csv").unlink()
    (root / "labels" / "c0.labels.json").write_text('{"labels": {"1": {"name": "soft tissue"}}}')
    assert segment("folder", root, tmp_path / "run", store, ["none"], "--steps", 20) == 0
    assert [row[0] for row in read_tables(RunFolder(tmp_path / "run")).tables[1].rows] == ["soft tissue", "label 2"]


def broken_layouts(root):
    """layout, root, words of the one line that is said."""
    (root / "empty").mkdir()
    (root / "amos").mkdir()
    (root / "amos" / "dataset.json").write_text('{"labels": {"0": "background", "1": "spleen"}}')
    write_csv(root / "columns.csv", "case,image", [["a", "a.nii"]])
    write_csv(root / "line.csv", "ct,labels", [["a.nii", "b.nii"], ["c.nii", ""]])
    write_csv(root / "split.csv", "ct,labels,split", [["a.nii", "b.nii", "validation"]])
    write_csv(root / "half.csv", "ct,labels,split", [["a.nii", "a2.nii", "train"], ["b.nii", "b2.nii", ""]])
    write_csv(root / "twice.csv", "case,ct,labels", [["a", "a.nii", "b.nii"], ["a", "c.nii", "d.nii"]])
    (root / "bytes.csv").write_bytes(b"\xff\xfe\x00ct")
    return [
        ("amos22", "empty", "no dataset.json"),
        ("amos22", "amos", "lists no CT"),
        ("lits17", "empty", "no volume-N.nii"),
        ("lits17", "gone", "is no folder"),
        ("folder", "empty", "does not exist"),
        ("folder", "columns.csv", "no column ct or labels"),
        ("folder", "line.csv", "line 3: labels is empty"),
        ("folder", "split.csv", "it is train, test or empty"),
        ("folder", "half.csv", "all of them one, or none"),
        ("folder", "twice.csv", "names the case a twice"),
        ("folder", "bytes.csv", "cannot be read as text (truncated data); save it as UTF-8: a CSV"),
    ]


def test_layouts_that_are_not_are_said_in_one_line(tmp_path):
    for layout, root, words in broken_layouts(tmp_path):
        with pytest.raises(UserError, match=re.escape(words)) as error:
            read_dataset(layout, tmp_path / root)
        assert "\n" not in str(error.value)


def test_a_wrong_command_is_exit_code_2_and_leaves_nothing(own, tmp_path, capsys):
    out = tmp_path / "run"
    for layout, encoder, words, said in [
        ("folder", "nobody", [], "no encoder and no folder"),
        ("folder", "none", ["--folds", 1], "nothing to learn from"),
        ("folder", "none", ["--folds", 9], "too few for 9 folds"),
        ("folder", "none", ["--plan", "release"], "only the spacing plan"),
        ("amos22", "none", [], "dataset.json"),
    ]:
        assert segment(layout, own, out, out / "features", [encoder], *words) == 2
        err = capsys.readouterr().err
        assert said in err and len(err.strip().splitlines()) == 1 and "Traceback" not in err
        assert not out.exists()


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["segmentation", "--help"])
    assert stop.value.code == 0
    assert "example:\n  python -m training.evaluate segmentation" in capsys.readouterr().out


def test_means_are_by_class_first():
    values = np.array([[1.0, np.nan, np.nan], [0.0, 0.2, np.nan], [0.5, np.nan, np.nan]])
    np.testing.assert_allclose(mean_by_class(values), [0.5, 0.2, np.nan])
    assert mean_over_classes(values) == pytest.approx(0.35)
    assert np.isnan(mean_over_classes(np.full((2, 2), np.nan)))


@pytest.mark.slow
def test_two_ranks_share_the_cases_and_agree(own, encoders, launch, store, tmp_path):
    words = ["segmentation", "--dataset", "folder", "--root", own, "--features", store, "--device", "cpu",
             "--encoder", encoders[0], "--folds", 2, "--steps", 40]  # fmt: skip
    for ranks, name in ((1, "one"), (2, "two")):
        launch(ranks, *words, "--out", tmp_path / name, module="training.evaluate")
    assert summary(tmp_path / "one") == summary(tmp_path / "two")


def test_a_draw_without_a_class_does_not_average_the_rest():
    """The rare class is the hard one: its one case left out of a draw must not lift the mean."""
    dice = np.full((12, 2), np.nan)
    dice[:, 0], dice[0, 1] = 0.9, 0.1
    figure = _mean_of_held(dice)
    assert figure(dice) == pytest.approx(0.5)
    assert np.isnan(figure(dice[1:]))
    found = interval(dice, np.arange(12), figure)
    assert found.high <= 0.5 + 1e-9
