"""Borders on the scan's own voxels."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.delineation.fine import TILE_CELLS, band_lattice, fine_labels, tiles
from tapct_core.delineation.grid import WorkGrid
from tapct_core.delineation.walker import Lattice
from tests.tapct_core.delineation.scene import trunk


def test_tiles_cover_the_cells_once():
    volume, _ = trunk((2.5, 0.9, 0.9), (30, 60, 60))
    grid = WorkGrid.of(volume)
    found = tiles(grid)
    assert [part.start for part in found] == list(range(0, 30, TILE_CELLS)) and found[-1].stop == 30
    assert tiles(WorkGrid.of(trunk()[0])) == [slice(0, 16)]


def test_a_band_has_the_edges_of_the_whole_grid():
    rng = np.random.default_rng(0)
    hu = rng.normal(0, 20, (4, 6, 7)).astype(np.float32)
    mask = rng.random(hu.shape) < 0.6
    ours = band_lattice(hu, (3.0, 1.0, 1.0), 25.0, mask, np.nonzero(mask))
    theirs = Lattice.of(hu, (3.0, 1.0, 1.0), 25.0, mask)
    np.testing.assert_allclose(ours.grid[0].edges.toarray(), theirs.grid[0].edges.toarray(), rtol=1e-5)
    np.testing.assert_allclose(ours.grid[0].degree, theirs.grid[0].degree, rtol=1e-5)


def scene():
    volume, truth = trunk((2.5, 0.9, 0.9), (14, 108, 126), noise=4.0)
    grid = WorkGrid.of(volume)
    centre = truth[:, 1::3, 1::3]
    labels = np.where(grid.body, centre.astype(np.int16), -1)
    probabilities = np.full((grid.size, 3), 0.1, np.float32)
    probabilities[np.arange(grid.size), centre[grid.body]] = 0.8
    return volume, truth, grid, labels, probabilities


def test_borders_come_closer_to_the_truth_and_stay_near_the_cells():
    volume, truth, grid, labels, probabilities = scene()
    painted = np.zeros(volume.hu.shape, np.uint8)
    found = np.concatenate([fine_labels(grid, labels, probabilities, _round(painted, t), t) for t in tiles(grid)])
    blocky = grid.up(labels + 1)
    assert (found == 0).sum() == (blocky == 0).sum()
    assert (found - 1 == truth)[blocky > 0].mean() > (blocky - 1 == truth)[blocky > 0].mean()
    far = ~(np.abs(np.diff(truth.astype(int), axis=2, prepend=0)) > 0)
    assert (found == blocky)[far].mean() > 0.97


def test_a_painted_voxel_that_the_cells_miss_starts_a_band_of_its_own():
    volume, truth, grid, labels, probabilities = scene()
    z, y, x = np.argwhere(truth == 1)[len(np.argwhere(truth == 1)) // 2]
    painted = np.zeros(volume.hu.shape, np.uint8)
    painted[z, y, x] = 3
    tile = next(t for t in tiles(grid) if t.start <= z < t.stop)
    found = fine_labels(grid, labels, probabilities, _round(painted, tile), tile)
    assert found[z - tile.start, y, x] == 3


def test_a_cell_that_was_tidied_away_does_not_come_back():
    volume, truth, grid, labels, probabilities = scene()
    gone = np.where(labels == 2, 0, labels).astype(np.int16)
    painted = np.zeros(volume.hu.shape, np.uint8)
    found = np.concatenate([fine_labels(grid, gone, probabilities, _round(painted, t), t) for t in tiles(grid)])
    assert not (found == 3).any()


def _round(painted: np.ndarray, tile: slice) -> np.ndarray:
    """The voxels of a tile and of a cell beside it; cells are one slice thick here."""
    return painted[max(0, tile.start - 1) : tile.stop + 1]


@pytest.mark.parametrize("value", [0, 1])
def test_one_label_everywhere_stays(value):
    volume, _, grid, labels, probabilities = scene()
    same = np.where(labels >= 0, value, -1)
    tile = tiles(grid)[0]
    found = fine_labels(grid, same, probabilities, _round(np.zeros(volume.hu.shape, np.uint8), tile), tile)
    assert set(np.unique(found)) <= {0, value + 1}
