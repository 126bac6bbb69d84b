"""A place in the lung is shown in the lung's window, also at the border; no two presets take the same key."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.hu_windows import LUNG, PRESETS, SOFT_TISSUE, suggested_window
from tapct_core.volume import CTVolume


@pytest.fixture(scope="module")
def half_lung() -> CTVolume:
    """40 slices of 2 mm: aerated in the first half, soft tissue in the second."""
    hu = np.full((40, 48, 48), 40, np.int16)
    hu[:20] = -850
    return CTVolume(hu, Geometry.from_spacing((40, 48, 48), (2.0, 2.0, 2.0)))


@pytest.mark.parametrize(("z", "window"), [(0, LUNG), (8, LUNG), (32, SOFT_TISSUE), (39, SOFT_TISSUE)])
def test_the_neighbourhood_says_which_window(half_lung, z, window):
    assert suggested_window(half_lung, half_lung.geometry.to_world([z, 24, 24])) == window


def test_a_nodule_is_shown_with_the_lung_round_it(half_lung):
    hu = half_lung.hu.copy()
    hu[7:10, 23:26, 23:26] = 60
    nodule = CTVolume(hu, half_lung.geometry)
    assert suggested_window(nodule, nodule.geometry.to_world([8, 24, 24])) == LUNG


def test_outside_the_scan_it_is_soft_tissue(half_lung):
    assert suggested_window(half_lung, half_lung.geometry.to_world([-90, 24, 24])) == SOFT_TISSUE


def test_presets_have_names_keys_and_widths_of_their_own():
    names, widths, _, letters = zip(*PRESETS, strict=True)
    keys = [letter for letter in letters if letter]
    assert len(set(names)) == len(PRESETS) and len(set(keys)) == len(keys)
    assert min(widths) > 0 and all(len(letter) == 1 and letter.isupper() for letter in keys)
