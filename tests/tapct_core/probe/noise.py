"""A small scan of random tokens on a grid of its own."""

from __future__ import annotations

import numpy as np

from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry

VOXELS = Geometry.from_spacing((16, 40, 40), (3.0, 1.0, 1.0), (5.0, 6.0, 7.0))
TOKENS = VOXELS.pooled((2, 4, 4))


def scan_of(hu: np.ndarray, dim: int = 4, provenance: dict | None = None) -> FeatureMap:
    tokens = np.random.default_rng(0).normal(size=(*TOKENS.shape, dim)).astype(np.float16)
    empty = np.zeros((0, dim), np.float16)
    return FeatureMap(tokens, np.ones(TOKENS.shape, bool), TOKENS, hu, VOXELS, empty, provenance or {})
