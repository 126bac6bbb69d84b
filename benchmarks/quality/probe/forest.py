"""The rival head: a random forest on the same columns, or on ilastik's voxel features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from tapct_core.features import FeatureMap
from tapct_core.probe.channels import columns_at
from tapct_core.probe.sampling import pick_voxels, zero_is_background
from tapct_core.probe.upsample import GridScores, running_argmax
from tapct_core.volume import CTVolume, LabelMap

TREES = 100
CAP_PER_CLASS = 1000
"""Half of what the linear heads may read: a forest's time grows faster than its Dice."""
ILASTIK_SIGMA_MM = (1.0, 2.0, 4.0, 8.0)


@dataclass
class Forest:
    """100 trees (scikit-learn), classes balanced. On token columns its probabilities are interpolated trilinearly; on
    voxel columns it sees Gaussian, gradient magnitude and the eigenvalues of the Hessian at four scales."""

    model: RandomForestClassifier
    hu_features: str | None

    @classmethod
    def fit(cls, pairs: list, hu_features: str | None, seed: int) -> Forest:
        """Fits on voxels chosen as a LinearProbe chooses them, at most CAP_PER_CLASS a class and block."""
        x, y = [], []
        background = any(zero_is_background(labels) for _, labels in pairs)
        for features, labels in pairs:
            voxels = pick_voxels(features, labels, background, CAP_PER_CLASS, np.random.default_rng(seed))
            x.append(_columns(features, voxels.points, hu_features))
            y.append(voxels.values)
        model = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed, n_jobs=2)
        return cls(model.fit(np.concatenate(x), np.concatenate(y)), hu_features)

    def predict(self, features: FeatureMap, volume: CTVolume, region: tuple | None = None) -> LabelMap:
        """Labels on the grid of ``volume``, or of a part of it."""
        region = region or tuple(slice(0, n) for n in volume.geometry.shape)
        start = tuple(part.indices(n)[0] for part, n in zip(region, volume.geometry.shape, strict=True))
        shape = tuple(len(range(*part.indices(n))) for part, n in zip(region, volume.geometry.shape, strict=True))
        target = volume.geometry.cropped(start, shape)
        out = np.empty(shape, np.uint8)
        if self.hu_features == "voxel":
            for z in range(shape[0]):
                index = np.indices((1, *shape[1:])).reshape(3, -1).T + [z, 0, 0]
                x = _columns(features, target.to_world(index), "voxel")
                out[z] = self.model.predict(x).reshape(shape[1:])
            return LabelMap(out, target)
        index = np.indices(features.geometry.shape).reshape(3, -1).T
        x = _columns(features, features.geometry.to_world(index), self.hu_features)
        p = self.model.predict_proba(x).reshape(*features.geometry.shape, -1).astype(np.float32)
        field = GridScores.on(p, features.valid, features.geometry, target)
        for z in range(shape[0]):
            out[z] = self.model.classes_[running_argmax(field.plane(z), shape[1:])]
        return LabelMap(out, target)


_maps: dict[int, np.ndarray] = {}


def _columns(features: FeatureMap, points: np.ndarray, hu_features: str | None) -> np.ndarray:
    if hu_features != "voxel":
        return columns_at(features, points, hu_features)
    if id(features.hu) not in _maps:
        _maps[id(features.hu)] = ilastik_features(features.hu, features.hu_geometry.spacing_mm)
    index = features.hu_geometry.to_index(points).T
    maps = [ndimage.map_coordinates(m, index, order=1, mode="nearest") for m in _maps[id(features.hu)]]
    tokens = columns_at(features, points, None)
    return np.concatenate([tokens, np.stack(maps, axis=1)], axis=1)


def ilastik_features(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """(20, z, y, x) float32: Gaussian, gradient magnitude, Hessian eigenvalues at four scales in mm."""
    maps = []
    for sigma_mm in ILASTIK_SIGMA_MM:
        sigma = [sigma_mm / step for step in spacing_mm]
        smooth = ndimage.gaussian_filter(hu.astype(np.float32), sigma)
        first = np.gradient(smooth, *spacing_mm)
        hessian = np.empty((*hu.shape, 3, 3), np.float32)
        for i, slope in enumerate(first):
            for j, second in enumerate(np.gradient(slope, *spacing_mm)):
                hessian[..., i, j] = second * sigma_mm**2
        maps += [smooth, sigma_mm * np.sqrt(sum(s * s for s in first))]
        maps += list(np.moveaxis(np.linalg.eigvalsh((hessian + hessian.swapaxes(-1, -2)) / 2), -1, 0))
    return np.stack(maps).astype(np.float32)
