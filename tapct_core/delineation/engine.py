"""Delineation: strokes on one scan to labels, live and in parts, with what is unsure about them.

Three stages, each a file: appearance (what each place looks like), the walk on a coarse grid and again on the scan's
own voxels near borders (strokes as fixed facts, edges of HU between), and tidying. The result is a function of the
scan, its features and the strokes alone. What :meth:`Delineation.update` sends before is a preview of the slices that
are looked at: the same stages on the cells near them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..features import FeatureMap
from ..volume import CTVolume, LabelMap
from .appearance import Columns, Head, fitted
from .fine import fine_labels, tiles
from .grid import WorkGrid
from .marks import Marks, advice, read_marks, require_enough
from .multigrid import Cancel, WalkCancelled
from .saved import probe_prior, sure_marks
from .tidying import tidied
from .walker import LEAST_TIE, Lattice, certainty

if TYPE_CHECKING:
    from ..probe import LinearProbe

Region = tuple[slice, slice, slice]

ELL_MM = 20.0
"""How far a stroke's word carries against the appearance where that is sure; further where it is not, which makes one
length serve few strokes and many: on dev patients Dice at 3 and 5 slices was within 0.02 for 10 to 40 mm on the same
strokes, and 10 mm lost 0.20 at 3 slices (of 3 tasks) to a user who corrects. Strokes left out cannot choose it: they
are painted where the last answer was wrong, and a head without them does worse on them than chance."""
TOLERANCE = 2e-2
TILES_AT_ONCE = 2
"""Each holds some 300 MB while it is walked, and two cores are what a laptop spares."""
SLICE_CELLS, SLAB_CELLS = 5, 12
"""Cells on either side of the slices that are looked at, for the first and the second part of an update."""


@dataclass(frozen=True, eq=False)
class Part:
    """Labels of a part of the scan, background 0. ``final``: so it stays for these strokes; else it is a preview."""

    region: Region
    labels: np.ndarray
    final: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """What strokes say of a scan, on its work grid: ``probabilities`` (n, K) of the body's cells, class by class of
    ``marks.values``; ``labels`` (z, y, x) each cell's class, tidied, -1 outside. ``advice``: what is missing, if any.
    """

    marks: Marks
    probabilities: np.ndarray
    labels: np.ndarray
    names: dict[int, str]
    colours: dict[int, tuple[int, int, int]]
    advice: str


class Delineation:
    """One scan that is segmented from strokes. ``features`` None, or without channels: by HU alone.

    ``probe``: a fitted one says what places look like, and strokes only where borders run; without strokes the places
    that it is surest of stand for them. Raises UserError for a probe of another encoder or plan.
    """

    def __init__(self, volume: CTVolume, features: FeatureMap | None = None, probe: LinearProbe | None = None) -> None:
        self.volume, self.features, self.probe = volume, features, probe
        self.answer: Answer | None = None
        """The last whole one."""

    @cached_property
    def grid(self) -> WorkGrid:
        """The work grid."""
        return WorkGrid.of(self.volume)

    @cached_property
    def columns(self) -> Columns:
        """What appearance is learned on."""
        return Columns(self.grid, self.features)

    @cached_property
    def _probe_prior(self) -> np.ndarray:
        return probe_prior(self.probe, self.features, self.grid)

    def warm_up(self) -> None:
        """Computes what does not depend on strokes, and a first stroke would otherwise wait for."""
        import sklearn.linear_model

        computed = [self.grid.lattice, sklearn.linear_model]
        computed += [self.columns.tokens, self.columns.hu_standard] if self.probe is None else [self._probe_prior]
        assert computed

    def run(self, strokes: LabelMap | None, cancel: Cancel | None = None) -> LabelMap:
        """The whole scan's labels on its own grid, uint8 or uint16, with names and colours, background 0.

        Raises UserError for strokes that cannot be told apart, WalkCancelled.
        """
        answer = self._solved(strokes, cancel)
        out = np.zeros(self.volume.hu.shape, answer.marks.shown.dtype)
        for part in self._tiles(answer, tiles(self.grid), cancel):
            out[part.region[0]] = part.labels
        self.answer = answer
        return LabelMap(out, self.volume.geometry, self.volume.source, answer.names, answer.colours)

    def update(self, strokes: LabelMap | None, view: int | None = None, cancel: Cancel | None = None) -> Iterator[Part]:
        """The slice ``view`` (along z) first, then a slab round it, as previews; then the whole scan, tile by tile from
        there outwards, each voxel once. The whole is what :meth:`run` gives, whatever was asked for before.
        """
        marks = self._marks(strokes)
        depth = self.volume.hu.shape[0]
        view = depth // 2 if view is None else int(np.clip(view, 0, depth - 1))
        cell = view // self.grid.block[0]
        head = None if self.probe is not None else fitted(self.columns, marks)
        for reach in (SLICE_CELLS, SLAB_CELLS):
            yield self._preview(marks, head, cell, reach, view, cancel)
        answer = self._solved(strokes, cancel, marks, head)
        self.answer = answer
        order = sorted(tiles(self.grid), key=lambda t: (abs((t.start + t.stop - 1) / 2 - cell), t.start))
        yield from self._tiles(answer, order, cancel)

    def slice_uncertainty(self) -> np.ndarray:
        """How unsure each of the scan's slices is, (depth,): the sum over its voxels in the body of 1 less the
        difference of the two likeliest classes, in mm2. Zeros before the first answer."""
        grid = self.grid
        if self.answer is None:
            return np.zeros(self.volume.hu.shape[0])
        margin = np.zeros(grid.body.shape, np.float32)
        margin[grid.body] = 1 - np.sqrt(certainty(self.answer.probabilities.T))
        sums = margin.sum(axis=(1, 2), dtype=np.float64) * np.prod(grid.geometry.spacing_mm[1:])
        return sums.repeat(grid.block[0])[: self.volume.hu.shape[0]]

    def uncertainty(self, region: Region | None = None) -> np.ndarray:
        """1 less the difference of the two likeliest classes, float16 (z, y, x) of a region of the scan's voxels; 0
        outside the patient and before the first answer."""
        whole = tuple(slice(0, n) for n in self.volume.hu.shape)
        bounds = [part.indices(n)[:2] for part, n in zip(region or whole, self.volume.hu.shape, strict=True)]
        margin = np.zeros(self.grid.body.shape, np.float16)
        if self.answer is not None:
            margin[self.grid.body] = 1 - np.sqrt(certainty(self.answer.probabilities.T))
        index = [np.arange(a, b) // size for (a, b), size in zip(bounds, self.grid.block, strict=True)]
        return margin[np.ix_(*index)]

    def next_slice(self) -> int | None:
        """The slice that a stroke would help most: the least sure one that has none; None before the first answer."""
        if self.answer is None:
            return None
        unsure = self.slice_uncertainty()
        painted = self.answer.marks.start[0] + np.flatnonzero(self.answer.marks.labels.any(axis=(1, 2)))
        unsure[painted] = -1
        block = self.grid.block[0]
        # The middle slice of a cell: all of a cell's slices are as unsure.
        return int(min(unsure.argmax() + block // 2, len(unsure) - 1))

    def _marks(self, strokes: LabelMap | None) -> Marks:
        if self.probe is None:
            marks = read_marks(self.grid, strokes)
            require_enough(marks, strokes.names)
            return marks
        marks = None if strokes is None else read_marks(self.grid, strokes)
        return sure_marks(self.grid, self._probe_prior, self.probe, marks)

    def _solved(
        self,
        strokes: LabelMap | None,
        cancel: Cancel | None = None,
        marks: Marks | None = None,
        head: Head | None = None,
    ) -> Answer:
        """Appearance, walk and tidying on the whole work grid."""
        marks = marks or self._marks(strokes)
        grid = self.grid
        if self.probe is not None:
            prior = self._probe_prior
        else:
            prior = (head or fitted(self.columns, marks)).probabilities(self.columns)
        _stop(cancel)
        seeds = marks.seeds(len(prior))
        found = self._walked(grid.lattice, seeds, prior, None, cancel)
        labels = self._tidied(found, prior, seeds)
        names = dict(strokes.names) if strokes is not None else {}
        colours = dict(strokes.colours) if strokes is not None else {}
        if self.probe is not None:
            names, colours = {**self.probe.names, **names}, {**self.probe.colours, **colours}
        names = {value: name for value, name in names.items() if value != marks.background}
        colours = {value: colour for value, colour in colours.items() if value != marks.background}
        return Answer(marks, found, labels, names, colours, advice(marks))

    def _walked(
        self,
        lattice: Lattice,
        seeds: np.ndarray,
        prior: np.ndarray,
        start: np.ndarray | None,
        cancel: Cancel | None,
    ) -> np.ndarray:
        """Probabilities (n, K) of a lattice's cells."""
        tie = (lattice.step_mm / ELL_MM) ** 2 * np.maximum(certainty(prior.T), LEAST_TIE)
        return lattice.solve(seeds, prior.shape[1], prior, tie.astype(np.float32), start, TOLERANCE, cancel)

    def _tidied(self, found: np.ndarray, prior: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        grid = self.grid
        labels = np.full(grid.body.shape, -1, np.int16)
        labels[grid.body] = found.argmax(axis=1)
        spread = np.zeros((prior.shape[1], *grid.body.shape), np.float32)
        for k in range(prior.shape[1]):
            spread[k][grid.body] = prior[:, k]
        placed = np.zeros(grid.body.shape, np.int32)
        placed[grid.body] = seeds
        return tidied(labels, spread, placed, float(np.prod(grid.geometry.spacing_mm)))

    def _preview(
        self, marks: Marks, head: Head | None, cell: int, reach: int, view: int, cancel: Cancel | None
    ) -> Part:
        """Labels of the slices near ``view``: the walk among cells up to ``reach`` away, begun at the last answer."""
        _stop(cancel)
        grid = self.grid
        span = slice(max(0, cell - reach), min(grid.body.shape[0], cell + reach + 1))
        body, own = grid.body[span], grid.rows(span)
        prior = self._probe_prior[own] if head is None else head.probabilities(self.columns, span)
        lattice, seeds = grid.lattice_of(span), marks.seeds(grid.size)[own]
        last = self.answer
        start = last.probabilities[own] if last is not None and last.marks.values == marks.values else None
        found = self._walked(lattice, seeds, prior, start, cancel)
        labels = np.zeros(body.shape, np.uint8)
        labels[body] = found.argmax(axis=1) + 1
        first = span.start * grid.block[0]
        voxels = grid.up(labels, span.start)
        if reach == SLICE_CELLS:
            voxels, first = voxels[view - first : view - first + 1], view
        return self._part(marks, voxels, first, final=False)

    def _tiles(self, answer: Answer, order: Sequence[slice], cancel: Cancel | None) -> Iterator[Part]:
        """The tiles in ``order``, TILES_AT_ONCE in threads: none hears of another, and numpy and scipy let go of the
        interpreter while they compute."""
        ready = (self.grid.cells, self.grid.fine_beta)  # once, and not in each thread
        assert ready
        waiting: deque[Future[Part]] = deque()
        with ThreadPoolExecutor(TILES_AT_ONCE, "tile") as pool:
            try:
                for tile in order:
                    waiting.append(pool.submit(self._tile, answer, tile, cancel))
                    if len(waiting) > TILES_AT_ONCE:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for left in waiting:
                    left.cancel()

    def _tile(self, answer: Answer, tile: slice, cancel: Cancel | None) -> Part:
        _stop(cancel)
        grid, marks = self.grid, answer.marks
        first = max(0, tile.start - 1) * grid.block[0]
        last = min((tile.stop + 1) * grid.block[0], self.volume.hu.shape[0])
        painted = marks.coded((first, 0, 0), (last - first, *self.volume.hu.shape[1:]))
        labels = fine_labels(grid, answer.labels, answer.probabilities, painted, tile, cancel)
        return self._part(marks, labels, tile.start * grid.block[0], final=True)

    def _part(self, marks: Marks, labels: np.ndarray, first: int, final: bool) -> Part:
        """Classes + 1 of whole slices from ``first`` on as labels, painted voxels as they are painted."""
        out = marks.shown[labels]
        marks.paint(out, (first, 0, 0))
        region = (slice(first, first + len(out)), slice(0, out.shape[1]), slice(0, out.shape[2]))
        return Part(region, out, final)


def _stop(cancel: Cancel | None) -> None:
    if cancel is not None and cancel():
        raise WalkCancelled
