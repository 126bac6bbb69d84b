"""Appearance learned from strokes: columns that no scan can break, balance, and scores that are read right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tapct_core.delineation import appearance
from tapct_core.delineation.appearance import (
    CLIP,
    PER_CLASS,
    UNPAINTED,
    Columns,
    chosen_cells,
    fitted,
    unpainted_cells,
)
from tapct_core.delineation.grid import WorkGrid
from tapct_core.delineation.marks import read_marks
from tapct_core.embedding import embed
from tapct_core.features import FeatureMap
from tapct_core.volume import CTVolume
from tests.tapct_core.delineation.scene import painted, trunk


@pytest.fixture(scope="module")
def scan():
    volume, truth = trunk()
    return volume, truth, painted(truth, volume)


@pytest.fixture(scope="module")
def features(scan) -> FeatureMap:
    """Made-up tokens on the grid of a map without an encoder: one column tells the organs' sides, the rest is noise."""
    bare = embed(scan[0], None)
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(*bare.geometry.shape, 12)).astype(np.float16)
    places = bare.geometry.to_world(np.moveaxis(np.indices(bare.geometry.shape), 0, -1))
    tokens[..., 0] = (places[..., 0] - places[..., 0].mean()) / 10
    return replace(bare, tokens=tokens, valid=np.ones(bare.geometry.shape, bool))


@pytest.mark.parametrize("with_tokens", [False, True])
def test_scores_of_all_cells_are_those_of_their_columns(scan, features, with_tokens):
    columns = Columns(WorkGrid.of(scan[0]), features if with_tokens else None)
    # HU are looked up in whole numbers.
    columns.grid.__dict__["maps"] = [(np.rint(smooth), *rest) for smooth, *rest in columns.grid.maps]
    cells = np.random.default_rng(0).choice(columns.grid.size, 300, replace=False)
    x = columns.at(cells)
    assert x.shape == (300, 54 + 12 * with_tokens) and np.abs(x).max() <= CLIP
    weights = np.random.default_rng(2).normal(size=(x.shape[1], 3))
    found = columns.scores(weights, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(found[cells], x @ weights + [1, 2, 3], atol=1e-2)
    span = slice(4, 9)
    np.testing.assert_allclose(columns.scores(weights, np.array([1.0, 2.0, 3.0]), span), found[columns.grid.rows(span)])


def test_columns_that_hardly_vary_are_tame():
    """A scan of one tissue and one of a single odd voxel: nothing is above CLIP, nothing is not a number."""
    for odd in (0, 1):
        volume, truth = trunk(noise=0.0)
        hu = np.where(volume.hu > -500, 30, volume.hu).astype(np.int16)
        hu[8, 24, 28] += 900 * odd
        volume = CTVolume(hu, volume.geometry)
        columns = Columns(WorkGrid.of(volume), None)
        x = columns.at(np.arange(columns.grid.size))
        assert np.isfinite(x).all() and np.abs(x).max() <= CLIP
        head = fitted(columns, read_marks(columns.grid, painted(truth, volume)))
        assert np.isfinite(head.probabilities(columns)).all()


def test_tokens_that_are_no_numbers_count_as_average(scan, features):
    broken = features.tokens.copy()
    broken[0] = np.nan
    broken[..., 3] = 0
    columns = Columns(WorkGrid.of(scan[0]), replace(features, tokens=broken))
    assert np.isfinite(columns.at(np.arange(500))).all()
    head = fitted(columns, read_marks(columns.grid, scan[2]))
    assert np.isfinite(head.probabilities(columns)).all()


def test_what_was_painted_is_recognised(scan):
    volume, truth, strokes = scan
    columns = Columns(WorkGrid.of(volume), None)
    marks = read_marks(columns.grid, strokes)
    found = fitted(columns, marks).probabilities(columns)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    for k, value in enumerate(marks.values):
        if value != marks.background:
            own = truth[columns.grid.body] == value
            assert found[own, k].mean() > 0.5 > found[~own, k].mean()
    np.testing.assert_array_equal(found, fitted(columns, marks).probabilities(columns))


def test_what_nobody_painted_speaks_for_background(scan, monkeypatch):
    """Strokes of one organ and of background: a tissue that is neither looks like background."""
    volume, truth, strokes = scan
    hu = np.where(truth == 2, 115, volume.hu).astype(np.int16)  # nearer to the organ's 110 than to the trunk's 30
    bone = np.zeros(truth.shape, bool)
    bone[:, 30:38, 20:36] = True
    hu[bone] = 600
    volume = CTVolume(hu, volume.geometry)
    columns = Columns(WorkGrid.of(volume), None)
    labels = np.where(strokes.labels == 2, 0, strokes.labels)
    marks = read_marks(columns.grid, replace(strokes, labels=labels))
    inside = bone[columns.grid.body]
    said = fitted(columns, marks).probabilities(columns)[inside, 0]
    monkeypatch.setattr(appearance, "UNPAINTED", 0)
    alone = fitted(columns, marks).probabilities(columns)[inside, 0]
    assert np.median(said) > 0.7 and said.mean() > alone.mean() + 0.05
    monkeypatch.undo()
    nameless = read_marks(columns.grid, replace(strokes, labels=labels, names={}))
    assert nameless.background is None
    with_nothing = fitted(columns, nameless).probabilities(columns)[inside]
    assert with_nothing.shape[1] == 2


def test_another_stroke_leaves_the_unpainted_that_were_chosen():
    grid = WorkGrid.of(trunk()[0])
    first = unpainted_cells(grid, np.arange(50))
    more = unpainted_cells(grid, np.arange(grid.size // 2))
    assert np.isin(more, first).all() and UNPAINTED >= len(first) > len(more) > 0
    slope = grid.maps[0][1]
    assert slope[first].max() < np.quantile(slope, 0.6)
    assert len(unpainted_cells(grid, np.arange(grid.size))) == 0


def test_strokes_share_a_class_and_classes_are_capped():
    index = np.repeat([0, 0, 1], [5000, 40, 30])
    strokes = np.repeat([0, 1, 2], [5000, 40, 30])
    chosen = chosen_cells(index, strokes)
    counts = np.bincount(strokes[chosen])
    assert counts.tolist() == [PER_CLASS - 40, 40, 30] and (np.diff(chosen) > 0).all()


def test_random_strokes_never_fail(scan):
    """Strokes anywhere, of any size, two to five classes: an answer or a sentence."""
    from tapct_core.delineation.marks import require_enough
    from tapct_core.errors import UserError
    from tapct_core.volume import LabelMap

    volume, _, _ = scan
    columns = Columns(WorkGrid.of(volume), None)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        labels = np.zeros(volume.hu.shape, np.uint8)
        for value in range(1, rng.integers(3, 6)):
            z, y, x = (rng.integers(0, n) for n in labels.shape)
            labels[z, y : y + rng.integers(1, 5), x : x + rng.integers(1, 20)] = value
        marks = read_marks(columns.grid, LabelMap(labels, volume.geometry))
        try:
            require_enough(marks, {})
        except UserError:
            continue
        assert np.isfinite(fitted(columns, marks).probabilities(columns)).all()
