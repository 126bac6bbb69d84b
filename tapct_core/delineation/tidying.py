"""What a delineation leaves lying about: pieces of a class that no stroke speaks for, and small holes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..probe.cleanup import TWIN_SHARE

HOLE_MM3 = 500.0
"""Background enclosed by one class, and no larger than this, belongs to that class."""
TWIN_PRIOR = 0.95
"""A piece without a stroke stays where it is as large a share of the largest piece with one and looks as much like the
class: the other lung, the other kidney."""


def tidied(labels: np.ndarray, prior: np.ndarray, seeds: np.ndarray, cell_mm3: float) -> np.ndarray:
    """``labels`` (z, y, x) class indices, 0 background or what stands for it, -1 outside, without stray pieces.

    ``prior`` (K, z, y, x): how much each place looks like a class; ``seeds`` (z, y, x): 0, or painted class + 1.
    Pieces are 6-connected. Stray ones become what lies round most of them.
    """
    out = labels.copy()
    for value in range(1, len(prior)):
        for box, piece in _stray(out, value, prior[value], seeds):
            out[box][piece] = _round(out, box, piece, value)
    _fill_holes(out, seeds, cell_mm3)
    return out


def _stray(labels: np.ndarray, value: int, prior: np.ndarray, seeds: np.ndarray):
    """Boxes and masks of the class's pieces that have no stroke and are no twin of one that has."""
    pieces, count = ndimage.label(labels == value)
    if count < 2:
        return
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    painted = np.zeros(count + 1, bool)
    painted[pieces[seeds == value + 1]] = True
    painted[0] = False
    if not painted.any():  # a class of a saved probe that has no seed
        painted[1 + sizes[1:].argmax()] = True
    looks = np.bincount(pieces.ravel(), prior.ravel(), count + 1) / np.maximum(sizes, 1)
    twin = (sizes >= TWIN_SHARE * sizes[painted].max()) & (looks >= TWIN_PRIOR * looks[painted].max())
    boxes = ndimage.find_objects(pieces)
    for number in np.flatnonzero(~painted & ~twin):
        if number:
            box = boxes[number - 1]
            yield box, pieces[box] == number


def _round(labels: np.ndarray, box: tuple[slice, ...], piece: np.ndarray, value: int) -> int:
    """The class that most of a piece's neighbours have; 0 where there are none."""
    grown = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
    inner = np.zeros([min(g.stop, n) - g.start for g, n in zip(grown, labels.shape, strict=True)], bool)
    inner[tuple(slice(b.start - g.start, b.stop - g.start) for b, g in zip(box, grown, strict=True))] = piece
    rim = labels[grown][ndimage.binary_dilation(inner) & ~inner]
    rim = rim[(rim >= 0) & (rim != value)]
    return int(np.bincount(rim).argmax()) if len(rim) else 0


def _fill_holes(labels: np.ndarray, seeds: np.ndarray, cell_mm3: float) -> None:
    pieces, count = ndimage.label(labels == 0)
    if count < 2:
        return
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    held = np.zeros(count + 1, bool)
    held[pieces[seeds == 1]] = True
    small = (sizes * cell_mm3 <= HOLE_MM3) & ~held
    small[0] = False
    boxes = ndimage.find_objects(pieces)
    for number in np.flatnonzero(small):
        box = boxes[number - 1]
        piece = pieces[box] == number
        labels[box][piece] = _round(labels, box, piece, 0)
