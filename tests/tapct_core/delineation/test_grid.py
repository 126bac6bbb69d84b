"""The work grid: blocks of voxels near COARSE_MM, their means and their place in the patient."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.delineation.grid import WorkGrid, block_means, scale_maps
from tapct_core.geometry import Geometry
from tapct_core.probe.hu import voxel_maps
from tapct_core.volume import CTVolume
from tests.tapct_core.delineation.scene import trunk


@pytest.mark.parametrize(
    ("spacing", "block"), [((5, 2, 2), (1, 1, 1)), ((1.5, 0.7, 0.7), (2, 4, 4)), ((3, 3, 3), (1, 1, 1))]
)
def test_blocks_come_close_to_the_coarse_step(spacing, block):
    volume = CTVolume(np.zeros((5, 9, 10), np.int16), Geometry.from_spacing((5, 9, 10), spacing))
    assert WorkGrid.of(volume).block == block


def test_means_and_places_also_where_blocks_reach_over_the_end():
    rng = np.random.default_rng(0)
    hu = rng.integers(-100, 100, (5, 7, 9)).astype(np.int16)
    means = block_means(hu, (2, 4, 4))
    assert means.shape == (3, 2, 3)
    assert means[0, 0, 0] == pytest.approx(hu[:2, :4, :4].mean())
    assert means[2, 1, 2] == pytest.approx(np.pad(hu[4:], ((0, 0), (0, 1), (0, 3)), mode="edge")[0, 4:8, 8:12].mean())
    volume, _ = trunk((2.5, 0.9, 0.9), (7, 108, 124))
    grid = WorkGrid.of(volume)
    corner = grid.geometry.to_index(volume.geometry.to_world(np.array([-0.5, -0.5, -0.5])))
    np.testing.assert_allclose(corner, -0.5, atol=1e-9)
    assert grid.up(grid.hu).shape == volume.hu.shape


def test_cells_are_numbered_and_found_again():
    volume, _ = trunk()
    grid = WorkGrid.of(volume)
    numbers = np.arange(0, grid.size, 7)
    assert (grid.cells[tuple(grid.places(numbers).T)] == numbers).all()
    rows = grid.rows(slice(3, 5))
    assert (np.unique(grid.places(np.arange(rows.start, rows.stop))[:, 0]) == [3, 4]).all()


def test_a_scan_without_a_body_is_all_body():
    volume = CTVolume(np.full((4, 12, 12), -1000, np.int16), Geometry.from_spacing((4, 12, 12), (3, 3, 3)))
    assert WorkGrid.of(volume).body.all()


def test_maps_are_those_of_a_probes_voxel_features():
    volume, _ = trunk()
    spacing = volume.geometry.spacing_mm
    ours = scale_maps(volume.hu.astype(np.float32), spacing)
    theirs = voxel_maps(volume.hu, spacing, 6, 9)
    for a, b in zip(ours, theirs, strict=True):
        for mine, other in zip(a, b, strict=True):
            np.testing.assert_allclose(mine[6:9], other, atol=3.0)
