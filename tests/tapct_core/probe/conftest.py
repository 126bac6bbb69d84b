"""Scans that the tests of the probe share."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.features import FeatureMap
from tests.tapct_core.probe.known_field import known_map, three_classes
from tests.tapct_core.probe.noise import VOXELS, scan_of


@pytest.fixture(scope="module")
def scan() -> tuple[FeatureMap, np.ndarray]:
    return known_map(), three_classes()


@pytest.fixture(scope="module")
def features() -> FeatureMap:
    return scan_of(np.random.default_rng(5).integers(-200, 300, VOXELS.shape, dtype=np.int16))
