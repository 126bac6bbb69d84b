"""The rows of the encoder table: features of a scan by a network, and by rivals that learnt nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from tapct_core.embedding import embed
from tapct_core.encoders import Encoder
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.matching.similarity import make_keys, search_grid, surroundings
from tapct_core.volume import CTVolume

Embed = Callable[[CTVolume], FeatureMap]


def encoder_row(encoder: Encoder, overlap: float) -> Embed:
    """Features of a scan by the encoder."""
    return lambda volume: embed(volume, encoder, overlap=overlap)


def statistics_row(encoder: Encoder, width: int | None) -> Embed:
    """HU statistics on the encoder's token grid; ``width``: lifted to that many random ReLU features."""

    def features(volume: CTVolume) -> FeatureMap:
        empty = embed(volume, None, spacing_mm=encoder.spec.spacing_mm)
        geometry = token_geometry(empty.hu_geometry, encoder)
        tokens = hu_statistics(empty.hu, empty.hu_geometry, geometry)
        if width:
            rng = np.random.default_rng(0)
            weights = rng.normal(size=(tokens.shape[-1], width)) / np.sqrt(tokens.shape[-1])
            tokens = np.maximum(0.0, tokens @ weights + rng.normal(size=width) * 0.5)
        return _without_windows(empty, tokens, geometry)

    return features


def context_row(encoder: Encoder) -> Embed:
    """The mean HU of 5 x 5 x 5 tokens round each token, less their mean: 125 numbers on the encoder's token grid."""

    def features(volume: CTVolume) -> FeatureMap:
        empty = embed(volume, None, spacing_mm=encoder.spec.spacing_mm)
        geometry = token_geometry(empty.hu_geometry, encoder)
        patch = encoder.spec.patch_size
        padded = [(0, n * p - size) for n, p, size in zip(geometry.shape, patch, empty.hu.shape, strict=True)]
        hu = np.pad(np.clip(empty.hu, -1000, 700).astype(np.float32), padded, mode="edge")
        blocks = hu.reshape([part for n, p in zip(geometry.shape, patch, strict=True) for part in (n, p)])
        means = np.pad(blocks.mean(axis=(1, 3, 5)), 2, mode="edge") / 500
        tokens = np.lib.stride_tricks.sliding_window_view(means, (5, 5, 5)).reshape(*geometry.shape, 125)
        return _without_windows(empty, tokens - tokens.mean(axis=-1, keepdims=True), geometry)

    return features


def surrounded_row(row: Embed) -> Embed:
    """The tokens of another row, each with its neighbours at their places (``matching.similarity.surroundings``)."""

    def features(volume: CTVolume) -> FeatureMap:
        found = row(volume)
        tokens = found.tokens.astype(np.float32) - found.window_position_mean[found.window_places]
        grid = search_grid(found.geometry)
        keys = make_keys("tokens", torch.from_numpy(tokens), found.valid, found.geometry, grid)
        joined = _without_windows(found, surroundings(keys, "surroundings").vectors.numpy(), found.geometry)
        return replace(joined, valid=found.valid)

    return features


def _without_windows(empty: FeatureMap, tokens: np.ndarray, geometry: Geometry) -> FeatureMap:
    """A scan's FeatureMap with tokens that no window was needed for."""
    return replace(
        empty, tokens=tokens.astype(np.float16), valid=np.ones(geometry.shape, bool), geometry=geometry,
        windows=np.zeros((0, 3), np.int32), window_tokens=(0, 0, 0),
    )  # fmt: skip


def token_geometry(grid: Geometry, encoder: Encoder) -> Geometry:
    """The encoder's token grid over ``grid``, padded to whole patches at the far end."""
    patch = encoder.spec.patch_size
    padded = tuple(-(-n // p) * p for n, p in zip(grid.shape, patch, strict=True))
    return grid.cropped((0, 0, 0), padded).pooled(patch)


def hu_statistics(hu: np.ndarray, grid: Geometry, tokens: Geometry) -> np.ndarray:
    """20 numbers a token, standardised: mean, deviation, gradient (3) at Gaussian scales of 4, 8, 16 and 32 mm."""
    image = np.clip(hu, -1000, 1000).astype(np.float32) / 500
    where = np.moveaxis(grid.to_index(tokens.to_world(np.moveaxis(np.indices(tokens.shape), 0, -1))), -1, 0)
    numbers = []
    for scale in (4.0, 8.0, 16.0, 32.0):
        sigma = [scale / s for s in grid.spacing_mm]
        mean = ndimage.gaussian_filter(image, sigma, truncate=2.5)
        square = ndimage.gaussian_filter(image**2, sigma, truncate=2.5)
        maps = [
            mean,
            np.sqrt(np.maximum(square - mean**2, 0)),
            *np.gradient(mean, *(s / scale for s in grid.spacing_mm)),
        ]
        numbers += [ndimage.map_coordinates(m, where, order=1, mode="nearest") for m in maps]
    stack = np.stack(numbers, axis=-1)
    return (stack - stack.mean(axis=(0, 1, 2))) / (stack.std(axis=(0, 1, 2)) + 1e-6)
