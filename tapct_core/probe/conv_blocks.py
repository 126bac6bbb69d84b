"""What the linear convolution learns from: blocks of tokens with their masks, drawn from a scan into a bounded pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..features import FeatureMap
from ..volume import LabelMap
from .channels import raw_columns
from .model import Standard
from .upsample import axis_weights, used_span

BLOCK_TOKENS = (6, 10, 10)
VOXELS_PER_TOKEN = 3
"""Masks finer than this along an axis are thinned to it: between two tokens the scores are straight lines."""
MOST_BLOCKS = 64
"""Blocks drawn from one scan, less where the pool would not fit."""
POOL_BYTES = 4e9
UNKNOWN = 255


@dataclass(frozen=True, eq=False)
class Block:
    """Part of one scan: tokens (z, y, x, D) float16, standardised; how they are interpolated; classes of voxels.

    ``along``: for each axis the rows (voxels, tokens) float32; ``truth`` (voxels z, y, x) uint8, places in ``classes``,
    UNKNOWN where tokens that were not embedded (air) have a share: there the prediction is background anyway.
    """

    tokens: np.ndarray
    along: tuple[np.ndarray, np.ndarray, np.ndarray]
    truth: np.ndarray


def class_index(labels: LabelMap, classes: tuple[int, ...]) -> np.ndarray:
    """Each voxel's place in ``classes`` (sorted, all values that occur), uint8."""
    table = np.full(max(int(labels.labels.max()), *classes) + 1, UNKNOWN, np.uint8)
    table[list(classes)] = np.arange(len(classes))
    return table[labels.labels]


def draw_blocks(
    features: FeatureMap,
    labels: LabelMap,
    index: np.ndarray,
    standard: Standard,
    hu_features: str | None,
    count: int,
    generator: np.random.Generator,
) -> list[Block]:
    """``count`` blocks of one scan; every second one lies round a voxel of a class that is not the commonest.

    Classes are drawn with equal chance, so that a small organ is met as often as a large one. The masks may be a crop
    of the scan: blocks lie among the tokens that their voxels touch.
    """
    along = axis_weights(features.geometry, labels.geometry)
    spans = [used_span(rows) for rows in along]
    first, last = (np.array([getattr(span, end) for span in spans]) for end in ("start", "stop"))
    size = np.minimum(BLOCK_TOKENS, last - first)
    thin = index[::2, ::2, ::2]
    common = np.bincount(thin.reshape(-1)).argmax()
    rare = [np.flatnonzero(thin == value) for value in np.unique(thin) if value != common]
    blocks = []
    for number in range(count):
        if rare and number % 2 == 0:
            places = rare[generator.integers(len(rare))]
            voxel = 2 * np.array(np.unravel_index(places[generator.integers(len(places))], thin.shape))
            centre = features.geometry.to_index(labels.geometry.to_world(voxel))
            start = np.rint(centre - size / 2 + generator.uniform(-1, 1, 3)).astype(int).clip(first, last - size)
        else:
            start = generator.integers(first, last - size + 1)
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))
        rows, voxels = zip(*(_inside(weights, part) for weights, part in zip(along, box, strict=True)), strict=True)
        valid = features.valid[box].astype(np.float32)
        cover = np.einsum("az,by,cx,zyx->abc", *rows, valid, optimize=True)
        truth = np.where(cover > 0.999, index[np.ix_(*voxels)], np.uint8(UNKNOWN))
        if (truth != UNKNOWN).any():
            tokens = standard.apply(raw_columns(features, hu_features, box)).astype(np.float16)
            blocks.append(Block(tokens, rows, truth))
    return blocks


def _inside(weights: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Voxels along one axis whose interpolation needs no token outside the block, thinned, and their rows."""
    inside = np.flatnonzero(weights[:, part].sum(axis=1) > 0.999)
    inside = inside[:: max(1, len(inside) // ((part.stop - part.start) * VOXELS_PER_TOKEN))]
    return np.ascontiguousarray(weights[inside][:, part]), inside


def pool_bytes(scans: int, columns: int) -> float:
    """Memory of the pool of blocks, for ``scans`` training cases and tokens of ``columns`` numbers."""
    return float(blocks_per_scan(scans, columns) * _block_bytes(columns) * scans)


def blocks_per_scan(scans: int, columns: int) -> int:
    """How many blocks of each of ``scans`` the pool has room for, of tokens of ``columns`` numbers."""
    return int(np.clip(POOL_BYTES / (_block_bytes(columns) * max(1, scans)), 4, MOST_BLOCKS))


def _block_bytes(columns: int) -> int:
    return int(np.prod(BLOCK_TOKENS)) * (2 * columns + VOXELS_PER_TOKEN**3)
