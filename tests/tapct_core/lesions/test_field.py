"""The part of a scan round a lesion, on larger voxels and back."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions.field import Field
from tapct_core.volume import CTVolume

GRID = Geometry.from_spacing((21, 33, 47), (3.0, 0.7, 0.7), (4.0, 5.0, 6.0))


def ramp() -> CTVolume:
    z, y, x = np.meshgrid(*map(np.arange, GRID.shape), indexing="ij")
    return CTVolume(10 * z + 4 * y + 2 * x, GRID)


def test_larger_voxels_hold_means_at_their_own_places_and_come_back():
    field = Field.around(ramp(), GRID.to_world(np.array([10, 16, 23])), 9.0, 1.5)
    assert field.block == (1, 2, 2)
    index = GRID.to_index(field.grid.to_world(np.array([1, 2, 3])))
    assert field.hu[1, 2, 3] == pytest.approx(index @ [10, 4, 2], abs=1e-3)
    back = field.on_own_voxels(field.hu)
    inner = (slice(1, -1), slice(2, -2), slice(2, -2))
    assert np.abs(back - ramp().hu[field.box])[inner].max() < 1e-2


@pytest.mark.parametrize("at", [(0, 0, 0), (20, 32, 46), (-3, 40, 60)])
def test_the_scans_end_is_the_fields_end(at):
    field = Field.around(ramp(), GRID.to_world(np.array(at)), 9.0, 1.5)
    assert field.fine.shape == ramp().hu[field.box].shape == field.on_own_voxels(field.hu).shape
    assert min(field.fine.shape) >= 1
    assert np.allclose(field.fine.to_world(np.zeros(3)), GRID.to_world(np.array([b.start for b in field.box])))


def test_marks_are_kept_however_small_and_masks_lie_in_the_scan():
    field = Field.around(ramp(), GRID.to_world(np.array([10, 16, 23])), 9.0, 1.5)
    marks = np.zeros(GRID.shape, bool)
    marks[10, 17, 24] = True
    assert field.pooled(marks).sum() == 1
    mask = field.mask(marks[field.box])
    assert np.array_equal(mask.to_array(), marks)
    with pytest.raises(UserError, match="empty"):
        field.mask(np.zeros(field.fine.shape, bool))
