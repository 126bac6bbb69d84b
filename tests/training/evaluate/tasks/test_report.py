"""The page: everything measured is on it, nothing published stands among it, and pictures show what was found."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.volume import CTVolume, LabelMap
from training.evaluate.__main__ import main
from training.evaluate.report.page import Section, to_html
from training.evaluate.report.pictures import SlicePicture, curves_picture, richest_slice, slices_page
from training.evaluate.report.published import FIGURES, published_table
from training.evaluate.report.tables import Curves, Results, Table, cell, read_tables, words_of, write_tables
from training.evaluate.runs.run_folder import RunFolder

from .. import segmented_data as data
from ..labelled_data import tiny_encoder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir):
    """A finished segmentation of two rows, with a case that is broken."""
    folder = tmp_path_factory.mktemp("run")
    data.folder(folder / "own", data_dir, 5)
    (folder / "own" / "labels" / "c3.nii.gz").unlink()
    encoder = tiny_encoder(folder, "tiny")
    words = ["--root", folder / "own", "--out", folder / "out", "--encoder", encoder, "none", "--device", "cpu"]
    assert main(["segmentation", "--dataset", "folder", *map(str, words), "--steps", "30", "--folds", "2"]) == 0
    return folder / "out"


def test_the_page_holds_tables_pictures_and_what_was_left_out(run, tmp_path):
    assert main(["report", str(run), "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "report.md").read_text()
    page = (tmp_path / "page" / "index.html").read_text()
    dice = words_of(read_tables(RunFolder(run)).tables[0].rows[0][3])
    for words in (dice, "soft tissue", "Left out of every mean: 1 case", "c3", "2-fold", "Research use only"):
        assert words in text
        assert words.split(" (")[0] in page
    for name in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (tmp_path / "page" / name).read_bytes().startswith(b"\x89PNG")
    assert page.count("data:image/png;base64,") == 2 and "<script" not in page
    assert not re.search("https?:", page)  # nothing is fetched
    assert "Published" not in text  # nothing is known of a person's own scans


def test_chosen_cases_are_shown_and_unknown_ones_refused(run, tmp_path, capsys):
    assert main(["report", str(run), "--out", str(tmp_path / "page"), "--cases", "c1"]) == 0
    assert "chosen by name" in (tmp_path / "page" / "report.md").read_text()
    assert main(["report", str(run), "--out", str(tmp_path / "other"), "--cases", "c9"]) == 2
    assert "no run has a case c9" in capsys.readouterr().err and not (tmp_path / "other").exists()
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "other")]) == 2
    assert "is no run of training.evaluate" in capsys.readouterr().err


def test_scans_that_have_gone_cost_the_picture_only(run, tmp_path):
    copied = tmp_path / "run"
    (copied / "rows").mkdir(parents=True)
    for name in ("settings.json", "table.json"):
        (copied / name).write_bytes((run / name).read_bytes())
    assert main(["report", str(copied), "--out", str(tmp_path / "page")]) == 0
    assert "slices.png" not in (tmp_path / "page" / "report.md").read_text()


def test_an_unfinished_run_is_refused(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim("segmentation", {})
    with pytest.raises(UserError, match="no results yet"):
        read_tables(run)


def test_two_data_sets_have_an_overview_with_their_mean(tmp_path, capsys):
    for name, figures in (("a", {"x": 0.8, "y": 0.5}), ("b", {"x": 0.6})):
        run = RunFolder(tmp_path / name)
        run.claim("segmentation", {"classes": {}})
        rows = [[row, cell(value, value - 0.1, value + 0.1)] for row, value in figures.items()]
        write_tables(run, Results("segmentation", name.upper(), [Table("t", ["row", "mean Dice"], rows)]))
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "report.md").read_text()
    assert "| x | 0.800 (0.700–0.900) | 0.600 (0.500–0.700) | 0.700 |" in text
    assert "| y | 0.500 (0.400–0.600) | – | – |" in text


def test_published_figures_have_their_own_table_and_source():
    table = published_table({"segmentation"}, {"AMOS22"})
    assert table is not None and {row[0] for row in table.rows} == {"AMOS22"}
    assert any(row[1] == "TAP-CT-B-3D" and "72.4" in row[2] for row in table.rows)
    assert all(row[-1] for row in table.rows) and "measured here" in table.caption
    assert published_table({"retrieval"}, {"AMOS22"}) is None
    assert all(re.search(r"arXiv|github", one.source) for one in FIGURES)


def test_a_page_escapes_what_it_is_given():
    section = Section("<b>", words=["a < b"], tables=[Table("<i>", ["<td>"], [["<script>"]])], left_out={"<x>": "<y>"})
    page = to_html("<t>", [section])
    assert "<script>" not in page and "&lt;script&gt;" in page and "a &lt; b" in page


def test_cells_are_words_or_figures_with_intervals():
    assert words_of(cell(0.91234, 0.8, 0.95)) == "0.912 (0.800–0.950)"
    assert words_of(cell(12.345, digits=1)) == "12.3"
    assert words_of(cell(float("nan"), 0.1, 0.2)) == words_of(None) == words_of(float("nan")) == "–"
    assert words_of(3) == "3" and words_of(1234.5) == "1.23e+03" and words_of("x") == "x"


def test_the_richest_slice_shows_most_classes():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1] = 1
    labels[2, :2], labels[2, 3] = 1, 2
    labels[3, 0, 0], labels[3, 1, 1] = 1, 2
    assert richest_slice(LabelMap(labels, Geometry.from_spacing(labels.shape, (1, 1, 1)))) == 2


def test_the_picture_shows_the_truth_as_it_lies():
    """A class's colour is found in the truth's panel where the class is, and in no panel that has none of it."""
    from io import BytesIO

    from matplotlib.image import imread

    geometry = Geometry.from_spacing((3, 40, 40), (2.0, 1.0, 1.0))
    hu = np.full(geometry.shape, 40, np.int16)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1, 5:15, 25:35] = 1
    truth, nothing = LabelMap(labels, geometry), LabelMap(np.zeros_like(labels), geometry)
    picture = SlicePicture("c", CTVolume(hu, geometry), truth, {"a": nothing}, {"a": "mean Dice 0.000"})
    image = imread(BytesIO(slices_page([picture], {1: "ball"})), format="png")[..., :3]
    red = (image[..., 0] > image[..., 1] + 0.2) & (image[..., 0] > image[..., 2] + 0.1)
    panels = np.array_split(np.arange(image.shape[1]), 3)
    top = red[: int(0.8 * len(red))]  # without the legend
    counts = [int(top[:, panel].sum()) for panel in panels]
    assert counts[0] == counts[2] == 0 and counts[1] > 500
    rows, columns = np.nonzero(top[:, panels[1]])
    assert columns.mean() > 0.55 * len(panels[1]) and rows.mean() < 0.5 * len(top)


def test_curves_become_a_picture():
    curves = Curves("t", "GFLOP", "Dice", {"a": [[1, 0.5], [10, 0.7]], "b": [[3, 0.6]]}, log_x=True)
    assert curves_picture(curves).startswith(b"\x89PNG")
