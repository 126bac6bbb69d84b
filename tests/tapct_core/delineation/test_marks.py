"""Strokes on the work grid, and the sentences for those that say too little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tapct_core.delineation.grid import WorkGrid
from tapct_core.delineation.marks import advice, background_of, read_marks, require_enough, with_background
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.volume import LabelMap
from tests.tapct_core.delineation.scene import NAMES, painted, trunk


@pytest.fixture(scope="module")
def scan():
    volume, truth = trunk((2.5, 0.9, 0.9), (30, 108, 124))
    return WorkGrid.of(volume), painted(truth, volume)


def test_background_comes_first_and_each_piece_is_a_stroke(scan):
    grid, strokes = scan
    marks = read_marks(grid, strokes)
    assert marks.values == (9, 1, 2) and marks.background == 9
    for k, value in enumerate(marks.values):
        cells = grid.places(marks.cells[marks.index == k])
        voxels = np.argwhere(strokes.labels == value)
        assert {tuple(c) for c in cells.tolist()} <= {tuple(c) for c in (voxels // grid.block).tolist()}
    assert len(np.unique(marks.strokes)) == 9
    assert all(len(np.unique(marks.index[marks.strokes == s])) == 1 for s in np.unique(marks.strokes))
    seeds = marks.seeds(grid.size)
    assert (seeds[marks.cells] == marks.index + 1).all() and (seeds > 0).sum() == len(marks.cells)


def test_a_cell_of_two_classes_counts_for_neither(scan):
    grid, strokes = scan
    labels = np.zeros_like(strokes.labels)
    labels[15, 54, 54:60], labels[15, 55, 54] = 1, 2
    marks = read_marks(grid, replace(strokes, labels=labels))
    shared = grid.cells[15, 18, 18]
    assert shared not in marks.cells and len(marks.cells) == 1


def test_a_cut_out_of_the_scan_is_as_good(scan):
    grid, strokes = scan
    filled = np.argwhere(strokes.labels)
    low, high = filled.min(axis=0) - 1, filled.max(axis=0) + 2
    cut = LabelMap(
        strokes.labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))],
        strokes.geometry.cropped(tuple(low.tolist()), tuple((high - low).tolist())),
        names=NAMES,
    )
    whole, part = read_marks(grid, strokes), read_marks(grid, cut)
    np.testing.assert_array_equal(whole.cells, part.cells)
    for marks in (whole, part):
        out = np.full(strokes.labels.shape, 5, np.uint8)
        marks.paint(out, (0, 0, 0))
        np.testing.assert_array_equal(out, np.where(strokes.labels == 0, 5, strokes.labels % 9))
        coded = marks.coded((11, 15, 30), (9, 65, 70))
        np.testing.assert_array_equal(coded, marks.coded((0, 0, 0), out.shape)[11:20, 15:80, 30:100])
        assert set(np.unique(coded)) == {0, 1, 2, 3}


def test_another_grid_is_refused(scan):
    grid, strokes = scan
    for geometry in (
        Geometry.from_spacing(strokes.labels.shape, (2.5, 0.8, 0.9), (10.0, -20.0, 5.0)),
        Geometry.from_spacing(strokes.labels.shape, (2.5, 0.9, 0.9), (10.4, -20.0, 5.0)),
        strokes.geometry.cropped((0, 0, 3), strokes.labels.shape),
    ):
        with pytest.raises(UserError, match="not the scan's .*resample the strokes"):
            read_marks(grid, LabelMap(strokes.labels, geometry, names=NAMES))


def test_sentences(scan):
    grid, strokes = scan

    def said(labels, names=NAMES):
        with pytest.raises(UserError) as error:
            require_enough(read_marks(grid, LabelMap(labels, strokes.geometry, names=names)), names)
        return str(error.value)

    empty = np.zeros_like(strokes.labels)
    assert said(empty).startswith("no voxel is painted")
    air = strokes.labels.copy()
    air[air == 2] = 0
    air[4, :3, :3] = 2
    assert "kidney is painted only in the air" in said(air)
    assert "only liver is painted; paint a stroke of background" in said(
        np.where(strokes.labels == 1, 1, 0).astype(np.uint8)
    )
    assert "only background is painted; paint a stroke of a structure" in said(
        np.where(strokes.labels == 9, 9, 0).astype(np.uint8)
    )
    assert "class 1" in said(np.where(strokes.labels == 1, 1, 0).astype(np.uint8), {})


def test_background_by_name_or_by_number(scan):
    grid, strokes = scan
    bare = replace(strokes, names={1: "liver"})
    assert background_of(strokes) == 9 and background_of(bare) is None
    assert "No class is named background" in advice(read_marks(grid, bare)) and advice(read_marks(grid, strokes)) == ""
    assert read_marks(grid, with_background(bare, 2)).background == 2
    assert read_marks(grid, with_background(strokes, 2)).background == 2
