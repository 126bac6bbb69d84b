"""The patient's mask."""

from __future__ import annotations

import numpy as np

from tapct_core import load_ct
from tapct_core.body import body_mask, inside_skin
from tapct_core.matching.descriptors import base_image


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
