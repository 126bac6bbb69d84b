"""Pictures of features: their three main directions as colours, and how alike everything is to one point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from napari.utils import Colormap

from tapct_core.errors import UserError

from ..layers import placement_on
from ..scan import Scan

if TYPE_CHECKING:
    from tapct_core.features import FeatureMap

PCA_SAMPLE = 20_000
"""Tokens that the directions are found from; more change nothing to see."""
HEAT = Colormap([[1.0, 0.25, 0.05, 0.0], [1.0, 0.45, 0.05, 0.55], [1.0, 0.95, 0.55, 0.85]], name="similar")
"""From clear to bright, so that the CT stays visible where it is unlike."""


def pca_colours(maps: list[FeatureMap]) -> list[np.ndarray]:
    """First three principal components of the maps' tokens as colours, uint8 (Z, Y, X, 3) each; black in air.

    One set of directions for all maps, so that the same tissue has one colour in every time point. The 2nd
    and 98th percentile are stretched to the full range.
    """
    if maps[0].dim < 3:
        raise UserError("these features have no tokens to show; embed with an encoder")
    rng = np.random.default_rng(0)
    tokens = [_centred(one) for one in maps]
    sample = np.concatenate([t[rng.permutation(len(t))[: PCA_SAMPLE // len(maps)]] for t in tokens])
    mean = sample.mean(axis=0)
    _, _, directions = np.linalg.svd(np.cov((sample - mean).T))
    seen = (sample - mean) @ directions[:3].T
    low, high = np.percentile(seen, (2, 98), axis=0)
    pictures = []
    for one, own in zip(maps, tokens, strict=True):
        shown = ((own - mean) @ directions[:3].T - low) / np.maximum(high - low, 1e-6)
        picture = np.zeros((*one.valid.shape, 3), np.uint8)
        picture[one.valid] = np.clip(shown * 255, 0, 255).astype(np.uint8)
        pictures.append(picture)
    return pictures


def _centred(features: FeatureMap) -> np.ndarray:
    """Valid tokens (N, C) float32 without what they owe to their place in the window."""
    return (
        features.tokens[features.valid].astype(np.float32)
        - features.window_position_mean[features.window_places[features.valid]]
    )


def pca_layer(scan: Scan, picture: np.ndarray) -> Image:
    """The colours over their scan."""
    attributes = placement_on(scan.volume.geometry, scan.features.geometry)
    return Image(
        picture,
        rgb=True,
        name=f"{scan.name}: features",
        opacity=0.55,
        blending="translucent_no_depth",
        interpolation2d="linear",
        **attributes,
    )


def heat_limits(similarity: np.ndarray) -> tuple[float, float]:
    """From the similarity that four fifths of the scan stay below, which is drawn clear, to the best."""
    low, high = np.nanpercentile(similarity, (80, 99.9))
    return float(low), float(max(high, low + 1e-3))


def similarity_layer(scan: Scan, similarity: np.ndarray) -> Image:
    """Cosine similarity (Z, Y, X) on the token grid over its scan."""
    attributes = placement_on(scan.volume.geometry, scan.features.geometry)
    return Image(
        similarity,
        name=f"{scan.name}: similarity",
        colormap=HEAT,
        contrast_limits=heat_limits(similarity),
        opacity=0.9,
        blending="translucent_no_depth",
        interpolation2d="linear",
        **attributes,
    )
