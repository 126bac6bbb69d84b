"""CTVolume and LabelMap: what they hold is HU, whole labels, and never changes."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry, GeometryError
from tapct_core.volume import AIR_HU, CTVolume, LabelMap, to_int16_hu

GRID = Geometry.from_spacing((2, 3, 4), (2.0, 1.0, 1.0))


def some_hu(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1500, GRID.shape).astype(np.int16)


def test_hu_are_rounded_clipped_and_padding_is_air():
    values = np.array([np.nan, -np.inf, -3024.0, -1024.4, -0.6, 0.4, 40.5, 41.5, 3071.2, 1e9, np.inf])
    expected = [AIR_HU, AIR_HU, AIR_HU, -1024, -1, 0, 40, 42, 3071, 32767, 32767]
    assert to_int16_hu(values).tolist() == expected
    assert to_int16_hu(np.array([-2000, 65535], np.int32)).tolist() == [AIR_HU, 32767]
    assert to_int16_hu(np.array([0, 65535], np.uint16)).tolist() == [0, 32767]


def test_a_volume_is_read_only_and_shares_int16():
    hu = some_hu()
    volume = CTVolume(hu, GRID)
    assert np.shares_memory(volume.hu, hu)
    with pytest.raises(ValueError):
        volume.hu[0, 0, 0] = 1


@pytest.mark.parametrize("kind", [CTVolume, LabelMap])
def test_array_and_grid_must_agree(kind):
    with pytest.raises(GeometryError):
        kind(np.zeros((2, 3, 5), np.uint8), GRID)


def test_the_hash_follows_the_content_only():
    volume = CTVolume(some_hu(), GRID)
    assert volume.content_hash == CTVolume(some_hu().copy(order="F"), GRID).content_hash
    assert volume.content_hash == CTVolume(some_hu().astype(np.float32), GRID).content_hash
    changed = some_hu()
    changed[1, 2, 3] += 1
    moved = Geometry.from_spacing(GRID.shape, (2.0, 1.0, 1.0), (0.0, 0.0, 0.01))
    same_bytes = some_hu().reshape(4, 3, 2)
    others = [CTVolume(changed, GRID), CTVolume(some_hu(), moved), CTVolume(same_bytes, GRID.resized((4, 3, 2)))]
    assert len({volume.content_hash, *(other.content_hash for other in others)}) == 4


def test_labels_take_the_smallest_dtype():
    assert LabelMap(np.full(GRID.shape, 255), GRID).labels.dtype == np.uint8
    assert LabelMap(np.full(GRID.shape, 256.0), GRID).labels.dtype == np.uint16
    assert LabelMap(np.zeros(GRID.shape, bool), GRID).labels.dtype == np.uint8


@pytest.mark.parametrize("value", [-1, 65536, 0.5])
def test_labels_must_be_whole_and_fit(value):
    with pytest.raises(ValueError, match="whole numbers"):
        LabelMap(np.full(GRID.shape, value), GRID)
