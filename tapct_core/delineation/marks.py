"""Strokes on the work grid: which cells are painted with what, and what a person must still paint."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..probe.sampling import BACKGROUND_NAME, label_boxes
from ..volume import LabelMap
from .grid import WorkGrid


@dataclass(frozen=True, eq=False)
class Marks:
    """``values``: the labels, background first where there is one. Of each painted cell of the body (N,): its number
    ``cells``, its class ``index`` and the number of its stroke ``strokes``. ``start`` is the strokes' first voxel
    (z, y, x), ``labels`` their bounding box."""

    values: tuple[int, ...]
    background: int | None
    cells: np.ndarray
    index: np.ndarray
    strokes: np.ndarray
    labels: np.ndarray
    start: tuple[int, int, int]

    @property
    def shown(self) -> np.ndarray:
        """The label (K + 1,) of each class + 1 as it is drawn: background is 0, and so is what is outside the body."""
        values = [0, *(0 if value == self.background else value for value in self.values)]
        return np.array(values, np.uint8 if max(values) < 256 else np.uint16)

    def seeds(self, count: int) -> np.ndarray:
        """Of ``count`` cells which class each is fixed to, from 1; 0: free."""
        seeds = np.zeros(count, np.int32)
        seeds[self.cells] = self.index + 1
        return seeds

    def coded(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        """Painted class + 1 of the voxels of a box of the scan, 0 where nothing is painted, uint8 (z, y, x)."""
        out = np.zeros(shape, np.uint8)
        low = [max(a, b) for a, b in zip(start, self.start, strict=True)]
        ends = zip(start, shape, self.start, self.labels.shape, strict=True)
        high = [min(a + n, b + m) for a, n, b, m in ends]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return out
        codes = np.zeros(int(self.labels.max()) + 1, np.uint8)
        for number, value in enumerate(self.values, start=1):
            if 0 < value < len(codes):
                codes[value] = number
        if self.background is not None and self.background < len(codes):
            codes[self.background] = 1
        ours, theirs = (
            tuple(slice(a - s, b - s) for a, b, s in zip(low, high, first, strict=True))
            for first in (start, self.start)
        )
        out[ours] = codes[self.labels[theirs]]
        return out

    def paint(self, labels: np.ndarray, start: tuple[int, int, int]) -> None:
        """Painted voxels into ``labels`` as they are drawn, in place; ``start`` is its first voxel in the scan."""
        coded = self.coded(start, labels.shape)
        painted = coded > 0
        labels[painted] = self.shown[coded[painted]]


def background_of(strokes: LabelMap) -> int | None:
    """The label of the class that is named background; None where there is none."""
    named = [v for v, name in strokes.names.items() if v and name.strip().casefold() == BACKGROUND_NAME]
    return named[0] if named else None


def read_marks(grid: WorkGrid, strokes: LabelMap) -> Marks:
    """Strokes, on the scan's grid or cut from it, on the work grid. A cell that two classes share counts for neither.

    Raises UserError for another grid.
    """
    start = _first_voxel(grid, strokes)
    boxes = label_boxes(strokes.labels)
    background = background_of(strokes)
    found = sorted(value for value, _ in boxes)
    values = tuple(sorted(found, key=lambda v: (v != background, v)))
    cells, index, pieces, total = [], [], [], 0
    for value, box in boxes:
        own, piece = _painted_cells(
            grid, strokes.labels[box] == value, [s + b.start for s, b in zip(start, box, strict=True)]
        )
        cells.append(own)
        index.append(np.full(len(own), values.index(value)))
        pieces.append(piece + total)
        total += int(piece.max(initial=0)) + 1
    cells, index, pieces = (np.concatenate(p) if p else np.zeros(0, int) for p in (cells, index, pieces))
    inside = cells >= 0
    cells, index, pieces = cells[inside], index[inside], pieces[inside]
    _, place, times = np.unique(cells, return_index=True, return_counts=True)
    single = np.sort(place[times == 1])
    low = [min((b[a].start for _, b in boxes), default=0) for a in range(3)]
    high = [max((b[a].stop for _, b in boxes), default=0) for a in range(3)]
    part = strokes.labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    first = tuple(int(s + a) for s, a in zip(start, low, strict=True))
    return Marks(values, background, cells[single], index[single], pieces[single], part, first)


def require_enough(marks: Marks, names: dict[int, str]) -> None:
    """Raises UserError, with what to paint next, for strokes that cannot be told apart."""
    said = [names.get(value, f"class {value}") for value in marks.values]
    if not marks.values:
        raise UserError("no voxel is painted; paint a stroke of a structure and one of background")
    lost = [said[k] for k in range(len(said)) if not (marks.index == k).any()]
    if lost:
        raise UserError(
            f"{' and '.join(lost)} is painted only in the air outside the patient; paint inside the patient"
        )
    if len(marks.values) == 1:
        other = "a structure" if marks.values[0] == marks.background else "background, a class of that name"
        raise UserError(f"only {said[0]} is painted; paint a stroke of {other}, too")


def advice(marks: Marks) -> str:
    """What is missing though a result is possible; "" if nothing."""
    if marks.background is None:
        return (
            "No class is named background, so every voxel of the patient goes to one of the painted classes; "
            "paint a class of that name on what is none of them."
        )
    return ""


def with_background(strokes: LabelMap, value: int) -> LabelMap:
    """Strokes in which the label ``value`` is background, whatever names there are."""
    names = {v: name for v, name in strokes.names.items() if name.strip().casefold() != BACKGROUND_NAME or v == value}
    return replace(strokes, names={**names, value: BACKGROUND_NAME})


def _painted_cells(grid: WorkGrid, mask: np.ndarray, start: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the cells that a mask of painted voxels touches, -1 outside the body, and the stroke of each."""
    from scipy import ndimage

    pieces, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    voxel = np.argwhere(mask)
    cell = (voxel + start) // grid.block
    flat = np.ravel_multi_index(cell.T, grid.body.shape)
    flat, first = np.unique(flat, return_index=True)
    return grid.cells.ravel()[flat], pieces[mask][first] - 1


def _first_voxel(grid: WorkGrid, strokes: LabelMap) -> tuple[int, int, int]:
    """Where the strokes' array begins on the scan's grid. Raises UserError unless it is that grid or cut from it."""
    scan = grid.volume.geometry
    first = np.rint(scan.to_index(strokes.geometry.to_world(np.zeros(3)))).astype(int)
    stop = first + strokes.geometry.shape
    if (
        (first < 0).any()
        or (stop > scan.shape).any()
        or not scan.cropped(tuple(first.tolist()), strokes.geometry.shape).matches(strokes.geometry)
    ):
        raise UserError(
            f"the strokes' grid {strokes.geometry.shape} is not the scan's {scan.shape}, or lies elsewhere in the "
            "patient; paint on the scan, or resample the strokes to it"
        )
    return tuple(first.tolist())
