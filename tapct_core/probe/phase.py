"""Help for probes in another contrast phase: copies of a labelled scan with other HU, and adaptation without labels.

A probe learns the HU of its labels' one phase; the spleen has about 35-50 HU unenhanced and 100-160 HU portal venous.
Copies keep the anatomy and redraw the enhancement of each label, that of the unlabelled soft tissue as a slowly varying
field, and the scanner's calibration. They must be embedded like the scan itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..features import FeatureMap
from ..volume import CTVolume, LabelMap
from .channels import body_tokens, columns_of, standard_of
from .model import AnyProbe
from .upsample import axis_weights, softmax

SOFT_HU = (-20.0, 250.0)
"""Labels with a mean in this range take up contrast; fat, lung, air and cortical bone do not."""
ENHANCED_HU = (30.0, 170.0)
REST_HU = (-20.0, 80.0)
REST_MM = 40.0
CALIBRATION = (0.97, 1.03, 8.0)
"""Smallest and largest slope, and largest offset in HU."""
_EDGE_MM = 1.0
_ADAPT_TOKENS, _ADAPT_STEPS, _LEAST_SHARE = 5_000, 30, 1e-2


def phase_copies(volume: CTVolume, labels: LabelMap, count: int, seed: int = 0) -> list[CTVolume]:
    """``count`` copies of ``volume`` with the HU of each label redrawn; the same seed gives the same copies."""
    mask = _on_grid(labels, volume)
    return [_copy(volume, mask, np.random.default_rng([seed, number])) for number in range(count)]


def shifted_phase(volume: CTVolume, labels: LabelMap, offsets_hu: dict[int, float]) -> CTVolume:
    """``volume`` with given HU added to given labels, soft at their borders: a synthetic change of phase."""
    mask = _on_grid(labels, volume)
    return _with_offset(volume, _offset_map(volume, mask, offsets_hu))


def adapted(probe: AnyProbe, features: FeatureMap) -> AnyProbe:
    """See :meth:`LinearProbe.adapted`: expectation-maximisation of the class frequencies on the scan's own tokens.

    Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 14:21 (2002). Air, which is left out of the tokens, would only swell the background.
    """
    x = columns_of(features, body_tokens(features, _ADAPT_TOKENS), probe.recipe.hu_features)
    scores = (standard_of(probe, features).apply(x) @ probe.weights + probe.constants).T  # (K, N)
    shift = np.zeros(len(scores), np.float32)
    for _ in range(_ADAPT_STEPS):
        share = softmax(scores + shift[:, None]).mean(axis=1)
        shift = np.log(np.maximum(len(scores) * share, _LEAST_SHARE)).astype(np.float32)
    return replace(probe, constants=probe.constants + shift, memory=None, facts={**probe.facts, "adapted": True})


def _copy(volume: CTVolume, mask: np.ndarray, rng: np.random.Generator) -> CTVolume:
    offsets = {}
    for value in np.unique(mask[mask > 0]):
        mean = float(volume.hu[mask == value].mean())
        if SOFT_HU[0] <= mean <= SOFT_HU[1]:
            offsets[int(value)] = rng.uniform(*ENHANCED_HU) - mean
    offset = _offset_map(volume, mask, offsets)
    soft = (mask == 0) & (volume.hu > SOFT_HU[0]) & (volume.hu < SOFT_HU[1])
    offset += np.where(soft, _slow_field(volume, rng), 0)
    low, high, shift = CALIBRATION
    slope = rng.uniform(low, high)
    calibration = (slope - 1) * (volume.hu + 1000.0) + rng.uniform(-shift, shift)
    return _with_offset(volume, offset + np.where(volume.hu > -1000, calibration, 0))


def _offset_map(volume: CTVolume, mask: np.ndarray, offsets_hu: dict[int, float]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    top = int(mask.max()) + 1
    table = np.zeros(top, np.float32)
    for value, offset in offsets_hu.items():
        if value < top:
            table[value] = offset
    return gaussian_filter(table[mask], [_EDGE_MM / step for step in volume.geometry.spacing_mm])


def _slow_field(volume: CTVolume, rng: np.random.Generator) -> np.ndarray:
    """A field between the ends of REST_HU that changes over REST_MM, drawn coarsely and interpolated."""
    coarse = volume.geometry.respaced((REST_MM,) * 3)
    field = rng.uniform(*REST_HU, coarse.shape).astype(np.float32)
    z, y, x = axis_weights(coarse, volume.geometry)
    return np.einsum("az,zyx->ayx", z, y @ field @ x.T, optimize=True)


def _with_offset(volume: CTVolume, offset: np.ndarray) -> CTVolume:
    return CTVolume(volume.hu + offset, volume.geometry)


def _on_grid(labels: LabelMap, volume: CTVolume) -> np.ndarray:
    """Labels at the volume's voxels, the nearest one's; 0 outside the labels' own grid."""
    if labels.geometry.matches(volume.geometry):
        return labels.labels
    # The nearest neighbour of separable grids: where the rows' largest weight is.
    along = axis_weights(labels.geometry, volume.geometry)
    out = labels.labels[np.ix_(*[rows.argmax(axis=1) for rows in along])].copy()
    for axis, rows in enumerate(along):
        out[(slice(None),) * axis + (rows.max(axis=1) == 0,)] = 0
    return out
