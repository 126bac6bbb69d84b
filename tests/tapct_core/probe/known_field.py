"""A scan whose tokens are known functions of place, and a partition of it that is linear in them."""

from __future__ import annotations

import numpy as np

from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.volume import LabelMap

VOXELS = Geometry.from_spacing((32, 64, 64), (1.5, 1.0, 1.0), (-20.0, 7.0, 100.0))
TOKENS = VOXELS.pooled((4, 8, 8))
PROVENANCE = {"encoder": "known field", "weights": "abc", "plan": "spacing", "spacing_mm": "1.5 1 1", "scan": "1"}


def smooth_field(geometry: Geometry, dim: int = 24, seed: int = 0) -> np.ndarray:
    """(z, y, x, dim) smooth in the world, so that the token grid and the voxel grid sample the same functions."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.normal(0, 0.03, (3, dim)), rng.uniform(0, 6, dim)
    index = np.moveaxis(np.indices(geometry.shape), 0, -1)
    return np.sin(geometry.to_world(index) @ waves + phases).astype(np.float32)


def known_map(valid=None, provenance: dict | None = None, hu: np.ndarray | None = None) -> FeatureMap:
    valid = np.ones(TOKENS.shape, bool) if valid is None else valid
    return FeatureMap(
        tokens=smooth_field(TOKENS).astype(np.float16),
        valid=valid,
        geometry=TOKENS,
        hu=np.zeros(VOXELS.shape, np.int16) if hu is None else hu,
        hu_geometry=VOXELS,
        cls=np.zeros((0, 24), np.float16),
        provenance=PROVENANCE if provenance is None else provenance,
    )


def three_classes() -> np.ndarray:
    """A partition of the volume, linear in the field: what a perfect probe can find."""
    return partition(smooth_field(VOXELS))


def partition(field: np.ndarray) -> np.ndarray:
    first = field[..., :3]
    middle = smooth_field(VOXELS)[..., :3].reshape(-1, 3)
    return (1 + np.argmax((first - middle.mean(axis=0)) / middle.std(axis=0), axis=-1)).astype(np.uint8)


def strokes_of(truth: np.ndarray, count: int = 2, length: int = 12, seed: int = 3) -> np.ndarray:
    """Flat strokes: in ``count`` slices, short runs along x in each class."""
    rng = np.random.default_rng(seed)
    painted = np.zeros_like(truth)
    for value in np.unique(truth):
        places = np.argwhere(truth == value)
        for z, y, x in places[rng.choice(len(places), count, replace=False)]:
            run = (z, y, slice(x, x + length))
            painted[run] = np.where(truth[run] == value, value, painted[run])
    return painted


def mean_dice(probe: LinearProbe, features: FeatureMap, truth: np.ndarray, **options) -> float:
    return dice_report(probe.predict(features, VOXELS, **options), LabelMap(truth, VOXELS))["mean_dice"]
