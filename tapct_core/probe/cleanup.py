"""What a person's strokes still decide after the probe: painted voxels keep their label, stray pieces go."""

from __future__ import annotations

import numpy as np

from ..geometry import Geometry
from ..volume import LabelMap
from .sampling import label_boxes

TWIN_SHARE = 0.3
"""A piece at least so large a share of its class's largest is an organ of its own: the other kidney, a lung pressed
together. What a probe sees elsewhere by mistake is smaller than that nearly always."""


def paint_strokes(labels: np.ndarray, geometry: Geometry, strokes: LabelMap) -> None:
    """Writes painted voxels into ``labels`` (z, y, x) in place; the strokes may lie on another grid, or a crop."""
    for value, box in label_boxes(strokes.labels):
        index = np.argwhere(strokes.labels[box] == value) + [part.start for part in box]
        labels[_voxels(geometry, strokes.geometry, index)] = value


def keep_components(
    labels: np.ndarray, geometry: Geometry, classes: tuple[int, ...], background: int, strokes: LabelMap | None
) -> None:
    """Turns stray pieces (26-connected) of each class into background, in place.

    With ``strokes``, pieces of a painted class that touch no stroke of it are stray, and classes without strokes
    stay as they are. Without, pieces under TWIN_SHARE of the class's largest are: the other lung stays.
    """
    from skimage.measure import label

    seeds = {}
    if strokes is not None:
        for value, box in label_boxes(strokes.labels):
            index = np.argwhere(strokes.labels[box] == value) + [part.start for part in box]
            seeds[value] = np.column_stack(_voxels(geometry, strokes.geometry, index))
    for value, box in label_boxes(labels):
        if value == background or value not in classes or (strokes is not None and value not in seeds):
            continue
        pieces, count = label(labels[box] == value, connectivity=3, return_num=True)
        keep = np.zeros(count + 1, bool)
        if strokes is None:
            sizes = np.bincount(pieces.reshape(-1))[1:]
            keep[1:] = sizes >= TWIN_SHARE * sizes.max()
        else:
            local = seeds[value] - [part.start for part in box]
            local = local[((local >= 0) & (local < pieces.shape)).all(axis=1)]
            keep[pieces[tuple(local.T)]] = True
        keep[0] = True
        labels[box][~keep[pieces]] = background


def _voxels(target: Geometry, source: Geometry, index: np.ndarray) -> tuple[np.ndarray, ...]:
    """Voxels of ``target`` that hold the given voxels of ``source``; those outside are left out."""
    found = np.rint(target.to_index(source.to_world(index))).astype(int)
    return tuple(found[((found >= 0) & (found < target.shape)).all(axis=1)].T)
