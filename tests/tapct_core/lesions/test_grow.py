"""Masks grown from a point: spheres of known size, a thin bridge that must not leak, and the lesion of a real CT."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tapct_core.embedding import embed
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct, load_labels
from tapct_core.lesions.grow import grow_mask
from tapct_core.volume import CTVolume

SHAPE, SPACING = (30, 60, 60), (2.0, 1.0, 1.0)


def phantom(spheres, background=-800, noise=15.0, bridge=False):
    """Spheres (centre x, y, z mm; radius mm; HU) in noise; a 2 mm bridge along x through the first centre."""
    grid = Geometry.from_spacing(SHAPE, SPACING)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    places = grid.to_world(index)
    hu = np.random.default_rng(0).normal(background, noise, SHAPE)
    for centre, radius, level in spheres:
        inside = np.linalg.norm(places - centre, axis=-1) <= radius
        hu[inside] = np.random.default_rng(1).normal(level, noise, int(inside.sum()))
    if bridge:
        near = np.linalg.norm((places - spheres[0][0])[..., 1:], axis=-1) <= 1.1
        hu[near] = spheres[0][2]
    return CTVolume(hu, grid)


def volume_ml(mask) -> float:
    return mask.voxels.sum() * np.prod(SPACING) / 1000


@pytest.mark.parametrize("radius", [4.0, 7.0, 11.0])
@pytest.mark.parametrize("background", [-800, 100])
def test_a_sphere_is_filled_and_no_more(radius, background):
    centre = np.array([30.0, 29.0, 28.0])
    volume = phantom([(centre, radius, 20)], background)
    for offset in ([0, 0, 0], [radius / 3, -radius / 3, 0]):  # a click need not be central
        mask = grow_mask(volume, tuple(centre + offset))
        assert volume_ml(mask) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.25)
        assert mask.measure(volume).long_axis_mm == pytest.approx(2 * radius, abs=2.0)


def test_a_bridge_to_a_neighbour_is_cut():
    first, second = np.array([18.0, 29.0, 28.0]), np.array([44.0, 29.0, 28.0])
    volume = phantom([(first, 7.0, 20), (second, 7.0, 20)], bridge=True)
    mask = grow_mask(volume, tuple(first)).to_array()
    assert not mask[tuple(np.rint(volume.geometry.to_index(second)).astype(int))]
    assert mask.sum() * np.prod(SPACING) / 1000 == pytest.approx(4 / 3 * np.pi * 7**3 / 1000, rel=0.3)


def test_a_nodule_on_the_pleura_is_cut_from_the_wall():
    """Half a sphere bulges into the lung from a wall of its own HU, across a base far wider than a vessel."""
    centre, radius = np.array([30.0, 29.0, 28.0]), 9.0
    volume = phantom([(centre, radius, 20)])
    hu = volume.hu.copy()
    hu[:, :, 36:] = np.random.default_rng(2).normal(20, 15, hu[:, :, 36:].shape)
    mask = grow_mask(CTVolume(hu, volume.geometry), tuple(centre)).to_array()
    assert mask[:, :, 42:].sum() < 0.1 * mask.sum()  # the wall stays out
    assert mask.sum() * np.prod(SPACING) / 1000 == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.35)


def test_fine_voxels_change_neither_the_mask_nor_the_wait():
    """A chest is often scanned at 0.7 mm: the region is sought on larger voxels, its border drawn on these."""
    grid = Geometry.from_spacing((100, 140, 139), (1.0, 0.7, 0.7))  # an odd number of columns
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    centre = np.array([48.0, 49.0, 50.0])
    inside = np.linalg.norm(grid.to_world(index) - centre, axis=-1) <= 8.0
    hu = np.random.default_rng(0).normal(-800, 30, grid.shape) + 820 * inside
    began = time.process_time()
    mask = grow_mask(CTVolume(hu, grid), tuple(centre + [2.0, 0, 0])).to_array()
    assert time.process_time() - began < 3.0  # it takes some 0.3 s
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.95


def test_nothing_leaks_and_nothing_is_made_of_noise():
    volume = phantom([(np.array([30.0, 29.0, 28.0]), 12.0, 20)])
    with pytest.raises(UserError, match="stands out"):
        grow_mask(volume, (30.0, 29.0, 28.0), reach_mm=8.0)  # the sphere is larger than the reach
    with pytest.raises(UserError, match="stands out"):
        grow_mask(phantom([], background=40), (30.0, 29.0, 28.0))
    with pytest.raises(UserError, match="outside"):
        grow_mask(volume, (300.0, 0.0, 0.0))


def test_features_keep_the_region_out_of_other_tissue():
    """Two touching halves of one HU: only the tokens tell them apart."""
    centre = np.array([30.0, 29.0, 28.0])
    volume = phantom([(centre, 12.0, 20)])
    grid = volume.geometry.pooled((2, 4, 4))
    tokens = np.zeros((*grid.shape, 2), np.float16)
    left = grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))[..., 0] < 30
    tokens[left, 0] = tokens[~left, 1] = 1
    valid = np.ones(grid.shape, bool)
    features = FeatureMap(tokens, valid, grid, volume.hu, volume.geometry, np.zeros((0, 2), np.float16))
    mask = grow_mask(volume, (24.0, 29.0, 28.0), features)
    places = volume.geometry.to_world(np.argwhere(mask.to_array()))
    assert places[:, 0].max() < 33
    assert grow_mask(volume, (24.0, 29.0, 28.0)).voxels.sum() > 1.5 * mask.voxels.sum()


@pytest.mark.parametrize(("name", "least"), [("pyradiomics_lung1", 0.85), ("pyradiomics_lung2", 0.75)])
def test_real_lung_lesions(data_dir, name, least):
    """Overlap with the drawn lesion from its centre, without an encoder and so from HU alone; the second, 5 cm
    across, touches pleura and vessels."""
    files = sorted((data_dir / "ct").glob(f"{name}*"))
    volume = load_ct(next(f for f in files if "_ct" in f.name))
    drawn = load_labels(next(f for f in files if "_ct" not in f.name)).labels > 0
    inside = np.argwhere(drawn)
    centre = inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()]
    features = embed(volume, None)
    grown = grow_mask(volume, tuple(volume.geometry.to_world(centre)), features).to_array()
    dice = 2 * (grown & drawn).sum() / (grown.sum() + drawn.sum())
    assert dice > least
