"""Ablation: which lines there are follows from the encoders, and every factor is changed by itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tapct_core.errors import UserError
from training.evaluate.__main__ import main
from training.evaluate.report.tables import read_tables
from training.evaluate.runs.run_folder import RunFolder
from training.evaluate.tasks.ablation import lines_of, triples

from .. import segmented_data as data
from ..labelled_data import tiny_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoders"), "tiny")


def asked(encoders, **factors):
    empty = {"blocks": [], "overlaps": [], "in_plane": [], "spacings": [], "windows": [], "plans": []}
    return SimpleNamespace(encoder=encoders, device="cpu", **{**empty, **factors})


def test_one_factor_at_a_time_and_no_line_twice(encoder):
    lines = lines_of(
        asked(
            [encoder, "none"], blocks=[0, 1], overlaps=[0.0, 0.5], spacings=[4.0, 4.0, 4.0, 8.0, 4.0, 4.0],
            windows=[8, 32, 32, 4, 16, 16], plans=["spacing", "release"], in_plane=[96],
        )
    )  # fmt: skip
    found = [(line.encoder, line.factor, line.value) for line in lines]
    # The last block, no overlap, its own spacing, window and plan are the encoder as it comes.
    assert found == [
        ("tiny", "", "as it comes"),
        ("tiny", "block", "0"),
        ("tiny", "overlap", "0.5"),
        ("tiny", "input size", "96 x 96"),
        ("tiny", "spacing", "8 x 4 x 4 mm"),
        ("tiny", "window", "4 x 16 x 16"),
        ("tiny", "plan", "release"),
        ("none", "", "as it comes"),
        ("none", "spacing", "4 x 4 x 4 mm"),
        ("none", "spacing", "8 x 4 x 4 mm"),
    ]
    assert len({line.row.name for line in lines}) == len(lines)


def test_a_value_that_fits_no_encoder_is_refused(encoder):
    with pytest.raises(UserError, match="block 7 fits none"):
        lines_of(asked([encoder], blocks=[7]))
    with pytest.raises(UserError, match="nobody"):
        lines_of(asked(["nobody"]))
    with pytest.raises(UserError, match="--spacings takes three numbers"):
        triples([1, 2, 3, 4], "--spacings")


def test_quality_stands_beside_compute(encoder, data_dir, tmp_path):
    data.folder(tmp_path / "own", data_dir, 4)
    words = ["ablation", "--dataset", "folder", "--root", tmp_path / "own", "--out", tmp_path / "run",
             "--device", "cpu", "--encoder", encoder, "--blocks", 0, "--overlaps", 0.5, "--folds", 2,
             "--head", "ridge"]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    results = read_tables(RunFolder(tmp_path / "run"))
    (table,) = [table for table in results.tables if table.title == "Quality beside compute"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    whole, first_block, overlapped = rows
    assert [row["changed"] for row in rows] == ["–", "block", "overlap"]
    assert all(0 < row["mean Dice"]["value"] <= 1 and row["kind"] == "3D" and row["width"] == 24 for row in rows)
    assert first_block["GFLOP a scan"] < whole["GFLOP a scan"] < overlapped["GFLOP a scan"]
    titles = {curves.title: curves.lines for curves in results.curves}
    assert len(titles["Mean Dice against compute"]["tiny"]) == 3
    assert [x for x, _ in titles["Mean Dice by block of origin"]["tiny"]] == [1, 2]
