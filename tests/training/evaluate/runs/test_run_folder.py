"""The run folder: nothing is done twice, nothing broken is forgotten, and nobody's folder is taken."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tapct_core.disk import DiskFullError
from tapct_core.errors import UserError
from training.evaluate.runs.run_folder import RunFolder, each, file_name, to_json


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def counting(broken=()):
    """Work that remembers what it was asked, and fails for some."""
    asked = []

    def work(number):
        asked.append(number)
        if number in broken:
            raise UserError(f"{number} is no good")
        return {"twice": 2 * number}

    return work, asked


def test_finished_work_is_not_done_again(run):
    items = {"a": 1, "b": 2, "c": 3}
    work, asked = counting()
    first = each(run, "part", items, work, key="k")
    again = each(run, "part", items, work, key="k")
    assert asked == [1, 2, 3] and first == again
    assert list(first.results) == ["a", "b", "c"] and first.results["b"] == {"twice": 4}
    each(run, "part", {**items, "d": 4}, work, key="k")
    assert asked == [1, 2, 3, 4]


def test_another_key_is_other_work(run):
    work, asked = counting()
    each(run, "part", {"a": 1, "b": 2}, work, key=lambda id: id)
    each(run, "part", {"a": 1, "b": 2}, work, key=lambda id: "new" if id == "b" else id)
    assert asked == [1, 2, 2]


def test_an_interrupted_run_goes_on_where_it_stopped(run):
    def stopped(number):
        if number == 2:
            raise KeyboardInterrupt
        return {"twice": 2 * number}

    with pytest.raises(KeyboardInterrupt):
        each(run, "part", {"a": 1, "b": 2, "c": 3}, stopped)
    work, asked = counting()
    assert len(each(run, "part", {"a": 1, "b": 2, "c": 3}, work).results) == 3
    assert asked == [2, 3]


def test_a_broken_item_is_named_and_tried_again_next_time(run):
    work, _ = counting(broken={2})
    outcome = each(run, "part", {"a": 1, "b": 2}, work)
    assert outcome.broken == {"b": "2 is no good"} and list(outcome.results) == ["a"]
    assert run.outcome("part") == outcome
    mended, asked = counting()
    assert not each(run, "part", {"a": 1, "b": 2}, mended).broken
    assert asked == [2]


def test_other_errors_are_named_by_their_type(run):
    outcome = each(run, "part", {"a": 1, "b": 0}, lambda number: {"inverse": 1 / number})
    assert outcome.broken["b"].startswith("ZeroDivisionError")


def test_a_full_disk_stops_everything_and_all_broken_is_an_error(run):
    def full(number):
        raise DiskFullError("the disk is full")

    with pytest.raises(DiskFullError):
        each(run, "part", {"a": 1, "b": 2}, full)
    work, _ = counting(broken={1, 2})
    with pytest.raises(UserError, match="none of 2 worked; the first, a: 1 is no good"):
        each(run, "part", {"a": 1, "b": 2}, work)


def test_a_cut_off_record_is_done_again(run):
    work, asked = counting()
    each(run, "part", {"a": 1}, work)
    (run.path / "part" / "a.json").write_text('{"id": "a", "ke')
    each(run, "part", {"a": 1}, work)
    assert asked == [1, 1]


def test_progress_says_how_many_and_how_long(run, capsys):
    work, _ = counting(broken={2})
    each(run, "part", {"a": 1, "b": 2}, work, what="counting")
    assert "counting: 2 of 2, 1 broken, 0 s left" in capsys.readouterr().err


def test_a_folder_belongs_to_one_task_with_its_settings(run, tmp_path):
    run.claim("segmentation", {"seed": 0, "names": {1: "a"}})
    run.claim("segmentation", {"seed": 0, "names": {1: "a"}})
    with pytest.raises(UserError, match="seed was 0, now 1"):
        run.claim("segmentation", {"seed": 1, "names": {1: "a"}})
    with pytest.raises(UserError, match="holds a run of segmentation"):
        run.claim("retrieval", {})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(UserError, match="no run"):
        RunFolder(tmp_path / "photos").claim("segmentation", {})
    with pytest.raises(UserError, match="no run"):
        RunFolder(tmp_path / "photos").settings()
    assert not (tmp_path / "photos" / "settings.json").exists()


def test_a_row_keeps_its_weights(run):
    run.claim("segmentation", {})
    run.add_row("b", {"weights": "1"})
    run.add_row("a", {"weights": "2"})
    run.add_row("b", {"weights": "1"})
    assert list(run.rows()) == ["b", "a"]
    with pytest.raises(UserError, match="other weights"):
        run.add_row("b", {"weights": "3"})


def test_file_names_are_plain_and_never_shared():
    ids = ["a", "A b", "A-b", "../../etc", "a/b", "a:b", "", ".", "x" * 300, "x" * 301, "é"]
    names = [file_name(id) for id in ids]
    assert len(set(names)) == len(ids)
    assert all(name and not set(name) & set("/\\: ") and not name.startswith(".") and len(name) < 100 for name in names)
    assert file_name("amos_0001") == "amos_0001"


def test_json_is_plain(run):
    value = {"a": np.float32(0.5), "b": (np.int64(1), math.nan), "c": np.arange(2), 3: run.path, "t": True}
    assert json.loads(json.dumps(to_json(value))) == {
        "a": 0.5, "b": [1, None], "c": [0, 1], "3": str(run.path), "t": True,
    }  # fmt: skip
