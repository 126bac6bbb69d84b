"""The columns a probe sees: tokens, and HU beside them when asked; their statistics in a scan."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ..features import FeatureMap
from ..geometry import Geometry
from .hu import TOKEN_CHANNELS, VOXEL_CHANNELS, VoxelScores, token_channels, voxel_channels
from .model import CLIP, Probe, Standard
from .upsample import GridScores, ScoreField, axis_weights, used_span

BODY_HU = -500
_STATISTICS_TOKENS = 20_000
_SAMPLE_BLOCK = 2048
_SCORE_BLOCK = 4096

_token_channels: WeakKeyDictionary[FeatureMap, np.ndarray] = WeakKeyDictionary()
_statistics: WeakKeyDictionary[FeatureMap, dict] = WeakKeyDictionary()


def columns_at(
    features: FeatureMap, points_lps_mm: np.ndarray, hu_features: str | None, standard: Standard | None = None
) -> np.ndarray:
    """Raw columns (N, D) float32 at LPS points: tokens, interpolated trilinearly and never snapped, then HU columns.

    ``standard``: tokens are held within its limits before they are interpolated, as they are when scores are.
    """
    parts = []
    limits = [None, None] if standard is None else _split(features, hu_features, standard.limits)
    for start in range(0, len(points_lps_mm), _SAMPLE_BLOCK):
        points = points_lps_mm[start : start + _SAMPLE_BLOCK]
        corners, weights = features.corners(points)
        grids = _grids(features, hu_features)
        block = [_weighted(grid, corners, weights, held) for grid, held in zip(grids, limits, strict=False)]
        parts.append(np.concatenate(block, axis=1))
    columns = np.concatenate(parts) if parts else np.empty((0, column_count(features, hu_features)), np.float32)
    if hu_features != "voxel":
        return columns
    return np.concatenate([columns, voxel_channels(features, points_lps_mm)], axis=1)


def column_count(features: FeatureMap, hu_features: str | None) -> int:
    """How many columns D a probe sees."""
    return features.dim + {None: 0, "token": TOKEN_CHANNELS, "voxel": TOKEN_CHANNELS + VOXEL_CHANNELS}[hu_features]


def statistics(features: FeatureMap, hu_features: str | None, clip: float | None = CLIP) -> Standard:
    """Statistics of the scan's own columns over the body, from an even choice of about 20,000 tokens.

    Tokens in air say how large the field of view is, not who lies in it, so they are left out while any others are
    there. Kept as long as the FeatureMap lives, since every stroke asks again.
    """
    held = _statistics.setdefault(features, {})
    if hu_features not in held:
        held[hu_features] = _measure(features, hu_features)
    mean, std = held[hu_features]
    return Standard(mean, std, clip)


def standard_of(probe: Probe, features: FeatureMap) -> Standard:
    """The statistics that a scan's columns are standardised by, as the recipe says."""
    recipe = probe.recipe
    return statistics(features, recipe.hu_features, recipe.clip) if recipe.standardise == "scan" else probe.standard


def pooled(standards: list[Standard]) -> Standard:
    """Statistics of several scans taken together with equal weight."""
    mean = np.mean([s.mean for s in standards], axis=0)
    square = np.mean([s.std**2 + s.mean**2 for s in standards], axis=0)
    return Standard(mean, np.sqrt(np.maximum(square - mean**2, 1e-6)), standards[0].clip)


def body_tokens(features: FeatureMap, most: int) -> np.ndarray:
    """Flat indices of at most ``most`` valid tokens inside the patient, spread over the scan, always the same ones."""
    flat = np.flatnonzero(features.valid)
    index = np.column_stack(np.unravel_index(flat, features.geometry.shape))
    voxel = np.rint(features.hu_geometry.to_index(features.geometry.to_world(index))).astype(int)
    body = features.hu[tuple(voxel.clip(0, np.array(features.hu.shape) - 1).T)] > BODY_HU
    flat = flat[body] if body.any() else flat
    # Drawn at random: a stride would fall into step with the grid's own sides.
    return flat if len(flat) <= most else np.sort(np.random.default_rng(0).choice(flat, most, replace=False))


def columns_of(features: FeatureMap, flat: np.ndarray, hu_features: str | None) -> np.ndarray:
    """Raw columns (N, D) float32 of the tokens with these flat indices; rows with a value that is no number go."""
    columns = [_rows(grid)[flat].astype(np.float32) for grid in _grids(features, hu_features)]
    if hu_features == "voxel":
        index = np.column_stack(np.unravel_index(flat, features.geometry.shape))
        columns.append(voxel_channels(features, features.geometry.to_world(index)))
    x = np.concatenate(columns, axis=1)
    return x[np.isfinite(x).all(axis=1)]


def _measure(features: FeatureMap, hu_features: str | None) -> tuple[np.ndarray, np.ndarray]:
    x = columns_of(features, body_tokens(features, _STATISTICS_TOKENS), hu_features)
    if len(x) == 0:
        return np.zeros(x.shape[1]), np.ones(x.shape[1])
    return x.mean(axis=0, dtype=np.float64), np.maximum(x.std(axis=0, dtype=np.float64), 1e-3)


def score_fields(
    features: FeatureMap,
    hu_features: str | None,
    weights: np.ndarray,
    constants: np.ndarray,
    standard: Standard,
    target: Geometry,
) -> list[ScoreField]:
    """The linear head ``weights`` (D, K), ``constants`` (K,) on standardised columns, as fields read on ``target``.

    Standardisation is folded into weights and constants of raw columns. Only tokens that the target's voxels touch are
    scored. Tokens with a value that is not finite count as invalid.
    """
    weights = weights.astype(np.float64) / standard.std[:, None]
    constants = constants - standard.mean @ weights
    limits = standard.limits
    along = axis_weights(features.geometry, target)
    box = tuple(used_span(rows) for rows in along)
    grids = [grid[box] for grid in _grids(features, hu_features)]
    scores = _scores(grids, weights, constants, _split(features, hu_features, limits))
    valid = features.valid[box] & np.isfinite(scores).all(axis=-1)
    planar = np.moveaxis(np.where(valid[..., None], scores, np.float32(0)), -1, 1)
    cut = tuple(rows[:, part] for rows, part in zip(along, box, strict=True))
    fields: list[ScoreField] = [GridScores(np.ascontiguousarray(planar), valid, cut)]
    if hu_features == "voxel":
        own = tuple(limit[-VOXEL_CHANNELS:] for limit in limits)
        fields.append(VoxelScores.on(features, weights[-VOXEL_CHANNELS:], target, own))
    return fields


def _scores(grids: list[np.ndarray], weights: np.ndarray, constants: np.ndarray, limits: list) -> np.ndarray:
    shape = grids[0].shape[:-1]
    flat = [_rows(grid) for grid in grids]
    out = np.empty((len(flat[0]), weights.shape[1]), np.float32)
    weights = weights.astype(np.float32)
    for start in range(0, len(out), _SCORE_BLOCK):
        block, row = out[start : start + _SCORE_BLOCK], 0
        block[:] = constants
        for grid, (low, high) in zip(flat, limits, strict=True):
            width = grid.shape[1]
            # float16 becomes float32 a block at a time, while it is in the processor's cache
            part = grid[start : start + _SCORE_BLOCK].astype(np.float32)
            block += np.clip(part, low, high, out=part) @ weights[row : row + width]
            row += width
    return out.reshape(*shape, -1)


def _grids(features: FeatureMap, hu_features: str | None) -> list[np.ndarray]:
    """What lies on the token grid, each (Z, Y, X, C): the tokens, and HU beside them when asked."""
    if hu_features is None:
        return [features.tokens]
    if features not in _token_channels:
        _token_channels[features] = token_channels(features)
    return [features.tokens, _token_channels[features]]


def _split(features: FeatureMap, hu_features: str | None, limits: tuple[np.ndarray, np.ndarray]) -> list[tuple]:
    """Limits of all columns -> those of each grid of :func:`_grids`."""
    first = features.dim
    parts = [slice(0, first)] if hu_features is None else [slice(0, first), slice(first, first + TOKEN_CHANNELS)]
    return [(limits[0][part], limits[1][part]) for part in parts]


def _weighted(grid: np.ndarray, corners: np.ndarray, weights: np.ndarray, limits: tuple | None) -> np.ndarray:
    rows = _rows(grid)
    total = np.zeros((len(corners), grid.shape[-1]), np.float32)
    for corner in range(8):
        part = rows[corners[:, corner]].astype(np.float32)
        if limits is not None:
            np.clip(part, *limits, out=part)
        total += np.where(weights[:, corner, None] > 0, part * weights[:, corner, None], 0)
    return total


def _rows(grid: np.ndarray) -> np.ndarray:
    """(Z, Y, X, C) -> (Z * Y * X, C), also for tokens without channels, as a map of HU alone has them."""
    return grid.reshape(int(np.prod(grid.shape[:-1])), grid.shape[-1])


def raw_columns(features: FeatureMap, hu_features: str | None, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Columns (z, y, x, D) float32 of a box of tokens, those on the token grid, not standardised; invalid ones zero."""
    columns = np.concatenate([grid[box].astype(np.float32) for grid in _grids(features, hu_features)], axis=-1)
    return np.where(features.valid[box][..., None] & np.isfinite(columns), columns, 0)
