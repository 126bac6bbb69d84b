"""The patient's mask."""

from __future__ import annotations

import numpy as np

from tapct_core import load_ct
from tapct_core.body import body_mask
from tapct_core.matching.descriptors import base_image


def test_lungs_are_in_and_room_air_and_table_are_out():
    hu = np.full((20, 60, 60), -1000.0)
    hu[:, 15:45, 10:50] = 40
    hu[:, 22:38, 18:30] = -850  # a lung
    hu[:, 55:56, 5:20] = 200  # a table
    mask = body_mask(hu, (3.0, 3.0, 3.0))
    assert mask[10, 30, 24] and mask[10, 20, 20]
    assert not mask[10, 5, 30] and not mask[10, 55, 10]


def test_a_chest_fills_a_fair_share_of_its_scan(data_dir):
    volume = load_ct(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    hu, grid = base_image(volume.hu, volume.geometry, 4.0)
    mask = body_mask(hu, grid.spacing_mm)
    assert 0.2 < mask.mean() < 0.8
    assert (hu[mask] > -600).mean() > 0.4 and (hu[~mask] < -800).mean() > 0.8
