"""The patient's mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tapct_core import load_ct
from tapct_core.body import body_mask, inside_skin
from tapct_core.matching.descriptors import base_image
from tapct_core.samples import load_sample


def test_lungs_are_in_and_room_air_and_table_are_out():
    hu = np.full((20, 60, 60), -1000.0)
    hu[:, 15:45, 10:50] = 40
    hu[:, 22:38, 18:30] = -850  # a lung
    hu[:, 55:56, 5:20] = 200  # a table
    mask = body_mask(hu, (3.0, 3.0, 3.0))
    assert mask[10, 30, 24] and mask[10, 20, 20]
    assert not mask[10, 5, 30] and not mask[10, 55, 10]


def chest_on_a_couch() -> np.ndarray:
    """HU on a grid of 3 mm: a chest with two lungs, touching the shell of a couch that is filled with foam."""
    hu = np.full((24, 80, 100), -1000.0)
    hu[:, 15:50, 20:80] = 40
    for left in (26, 56):
        hu[:, 21:44, left : left + 18] = -850
    hu[:, 50:68, 10:90] = 400  # a shell of one voxel, closed all round
    hu[:, 51:67, 11:89] = -920
    return hu


def test_foam_within_the_shell_of_a_couch_is_not_inside_the_skin():
    hu = chest_on_a_couch()
    assert body_mask(hu, (3.0, 3.0, 3.0))[12, 58, 50], "the shell closes a hole, and it touches the patient"
    inside = inside_skin(hu, (3.0, 3.0, 3.0))
    assert inside.shape == hu.shape and not inside[:, 54:].any()
    assert inside[12, 30, 33] and inside[12, 30, 63] and inside[12, 30, 50], "both lungs and what is between"


def test_both_legs_are_inside_the_skin_and_nothing_between_them():
    hu = np.full((20, 40, 90), -1000.0)
    hu[:, 8:32, 5:35] = hu[:, 8:30, 50:78] = 50
    inside = inside_skin(hu, (4.0, 3.0, 3.0))
    assert inside[10, 20, 20] and inside[10, 20, 65] and not inside[10, 20, 42]


def test_a_chest_fills_a_fair_share_of_its_scan(data_dir):
    volume = load_ct(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    hu, grid = base_image(volume.hu, volume.geometry, 4.0)
    mask = body_mask(hu, grid.spacing_mm)
    assert 0.2 < mask.mean() < 0.8
    assert (hu[mask] > -600).mean() > 0.4 and (hu[~mask] < -800).mean() > 0.8


def cut_open(axis: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A chest of 3 mm voxels whose image ends in the middle of a lung, on one side of an axis; and the lung."""
    hu = np.full((44, 70, 90), -1000.0)
    hu[:, 10:60, 10:80] = 40
    lung = np.zeros(hu.shape, bool)
    lung[8:36, 18:50, 18:42] = True
    hu[lung] = -850
    cut = [slice(None)] * 3
    middle = (22, 34, 30)[axis]
    cut[axis] = slice(0, middle) if side else slice(middle, None)
    return hu[tuple(cut)], lung[tuple(cut)]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [0, 1])
def test_a_lung_that_the_edge_of_the_image_cuts_open_is_the_patients(axis, side):
    hu, lung = cut_open(axis, side)
    for mask in (body_mask(hu, (3.0, 3.0, 3.0)), inside_skin(hu, (3.0, 3.0, 3.0))):
        assert mask[lung].mean() > 0.99
        room = ndimage.binary_erosion(hu == -1000, iterations=5)
        assert not mask[room].any()


def lungs_and_chest(volume) -> tuple[np.ndarray, np.ndarray]:
    """Bool (z, y, x) of a real scan: both lungs, and the chest's inside with all that lies between them."""
    spacing = volume.geometry.spacing_mm
    smooth = ndimage.uniform_filter(volume.hu.astype(np.float32), [max(1, round(4 / s)) for s in spacing])
    closed = np.stack([ndimage.binary_fill_holes(part) & ~part for part in smooth > -600])
    labels, _ = ndimage.label(ndimage.binary_opening(closed, iterations=2))
    sizes = np.bincount(labels.ravel()) * np.prod(spacing) / 1000
    sizes[0] = 0
    lungs = np.isin(labels, np.flatnonzero(sizes > 150))
    steps = int(36 / spacing[1])
    chest = [ndimage.binary_closing(np.pad(part, 2 * steps), iterations=steps) for part in lungs]
    inside = [ndimage.binary_fill_holes(part)[2 * steps : -2 * steps, 2 * steps : -2 * steps] for part in chest]
    return lungs, np.stack(inside)


@pytest.fixture(scope="module")
def chest(data_dir):
    """A real chest, its lungs, and how far in mm every voxel lies outside its inside."""
    volume = load_ct(data_dir / "ct" / "pyradiomics_lung1_ct.nii.gz")
    lungs, inside = lungs_and_chest(volume)
    return volume, lungs, ndimage.distance_transform_edt(~inside, sampling=volume.geometry.spacing_mm), inside


@pytest.mark.parametrize("wall_mm", [3.0, 4.0, 6.0, 10.0])
@pytest.mark.parametrize("step_mm", [2.0, 3.0, 4.0])
def test_both_lungs_of_the_leanest_patient_are_whole(chest, wall_mm, step_mm):
    volume, lungs, away, inside = chest
    hu = np.where((away > wall_mm) & inside.any(axis=(1, 2))[:, None, None], -1000, volume.hu)
    coarse, grid = base_image(hu, volume.geometry, step_mm)
    where = base_image(lungs.astype(np.float32), volume.geometry, step_mm)[0] > 0.9
    assert body_mask(coarse, grid.spacing_mm)[where].mean() > 0.99
    assert inside_skin(coarse, grid.spacing_mm)[where].mean() > 0.98


def test_arms_and_a_couch_that_touch_are_told_from_lungs(chest):
    """Arms at the sides and a couch of 3 mm shell full of foam at the back, both touching the patient."""
    volume, lungs, _, _ = chest
    coarse, grid = base_image(volume.hu, volume.geometry, 3.0)
    where = base_image(lungs.astype(np.float32), volume.geometry, 3.0)[0] > 0.9
    patient = body_mask(coarse, grid.spacing_mm)
    back = int(np.flatnonzero(patient.any(axis=(0, 2)))[-1]) - 2
    hu = np.full((coarse.shape[0], back + 30, coarse.shape[2] + 60), -1000.0, np.float32)
    hu[:, :back, 30:-30] = coarse[:, :back]
    hu[:, 40:62, 12:34] = hu[:, 40:62, -34:-12] = 40
    foam = np.zeros(hu.shape, bool)
    foam[:, back + 1 : back + 19, 12:-12] = True
    hu[:, back : back + 20, 11:-11] = 300
    hu[foam] = -940 + np.random.default_rng(0).normal(0, 6, foam.sum())
    inside, body = inside_skin(hu, grid.spacing_mm), body_mask(hu, grid.spacing_mm)
    placed = np.zeros(hu.shape, bool)
    placed[:, :back, 30:-30] = where[:, :back]
    assert body[placed].mean() > 0.99 and inside[placed].mean() > 0.99
    assert inside[ndimage.binary_erosion(foam, iterations=2)].mean() < 0.01
    assert inside[20, 50, 20] and inside[20, 50, -20], "the arms are the patient's"


def test_the_breathing_pair_cropped_through_one_lung_keeps_all_of_it():
    volume = load_sample("breathing_pair")["baseline"]
    lungs, _ = lungs_and_chest(volume)
    middle = int(np.median(np.argwhere(lungs[:, :, : lungs.shape[2] // 2])[:, 2]))
    for cut in (slice(middle, None), slice(None, middle)):
        part = volume.geometry.cropped((0, 0, cut.start or 0), volume.hu[:, :, cut].shape)
        coarse, grid = base_image(volume.hu[:, :, cut], part, 3.0)
        where = base_image(lungs[:, :, cut].astype(np.float32), part, 3.0)[0] > 0.9
        assert where.sum() * 0.027 > 200 and body_mask(coarse, grid.spacing_mm)[where].mean() > 0.99
