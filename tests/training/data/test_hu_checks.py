"""Fat and muscle give a wrong scale away: real scans and blocks pass, the same ones scaled do not."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.samples import load_sample
from tapct_core.volume import to_int16_hu
from training.data.hu_checks import not_hu


@pytest.fixture(scope="module", params=["breathing_pair", "abdomen_pelvis"])
def hu(request):
    found = load_sample(request.param)
    return (found["baseline"] if "baseline" in found else found["ct"]).hu


def test_a_scan_passes_and_three_times_too_large_it_does_not(hu):
    assert not_hu(hu) == ""
    assert "scaled" in not_hu(to_int16_hu(3.0 * hu))
    assert "scaled" in not_hu(np.clip(3.0 * hu, -32768, 32767).astype(np.int16))  # as a store may hold it


def test_blocks_of_a_scan_pass_and_some_of_them_scaled_do_not(hu):
    rng = np.random.default_rng(0)
    size = (16, 64, 64)
    blocks = []
    while len(blocks) < 30:
        start = [rng.integers(0, n - k + 1) for n, k in zip(hu.shape, size, strict=True)]
        block = hu[tuple(slice(a, a + k) for a, k in zip(start, size, strict=True))]
        if (block > -500).mean() > 0.3:
            blocks.append(block)
    assert not any(not_hu(block, block=True) for block in blocks)
    assert sum(bool(not_hu(to_int16_hu(3.0 * block), block=True)) for block in blocks) >= 5


def test_infinity_is_named(hu):
    values = hu.astype(np.float32)
    values[3, 4, 5] = np.inf
    broken = to_int16_hu(values)
    assert "infinite" in not_hu(broken) and "infinite" in not_hu(broken[:8], block=True)


def test_air_and_a_heart_full_of_contrast_agent_say_nothing():
    rng = np.random.default_rng(0)
    assert not_hu(np.full((8, 32, 32), -1000, np.int16)) == ""
    assert not_hu(rng.normal(350, 30, (16, 64, 64)).astype(np.int16)) == ""
