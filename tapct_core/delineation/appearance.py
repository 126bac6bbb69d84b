"""What each place looks like, learned from strokes: a linear head on tokens and HU, read on the work grid.

Columns are standardised over the patient's body, with a floor under the deviation and clipped to +-CLIP: a column that
hardly varies must not outweigh all others. Classes weigh the same, and within a class its strokes, not their voxels.

A few strokes of background never show all that is background: fat, bone and gut that nobody painted would look like
nothing at all, and go to the class with the nearer tokens. So places without a stroke stand for background too, with
the weight of two strokes, since most of a patient is none of what is painted; what is painted, and they happen to
hit, outweighs them where it belongs. Learning from positive and unlabelled places: Elkan & Noto, KDD 2008, 213.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..features import FeatureMap
from ..probe.channels import body_tokens
from ..probe.discriminant import Pooled
from ..probe.heads import fit_logistic
from ..probe.hu import KNOTS_HU, SCALES_MM, SLOPE_HU, hats
from ..probe.sampling import shares
from ..probe.upsample import GridScores, softmax
from .grid import WorkGrid
from .marks import Marks

CLIP = 5.0
TOKEN_FLOOR, HU_FLOOR = 0.1, 0.05
"""Least deviation of a column: of tokens, in medians of theirs; of HU's hat functions, which run from 0 to 1."""
TOKEN_SHARE = 0.25
"""What a token's column counts for beside one of HU. They are hundreds, and a stroke covers two or three tokens. On
dev patients Dice at 1 / 3 / 5 slices was 0.40 / 0.67 / 0.77 at 1, 0.45 / 0.73 / 0.75 at 0.4, 0.44 / 0.72 / 0.80 at
0.2, and 0.42 / 0.72 / 0.80 by HU alone; with places that nobody painted 0.33 / 0.67 / 0.78 at 1, 0.53 / 0.75 / 0.81
at 0.25, and 0.52 / 0.74 / 0.79 by HU alone."""
UNPAINTED, UNPAINTED_STROKES = 600, 2
"""Cells without a stroke that stand for background, and the weight of how many strokes of it they have."""
PER_CLASS = 600
"""Cells a class that are learned from, shared out among its strokes."""
INVERSE_PENALTY, START_PENALTY = 0.05, 1.0
"""Of the logistic head, a stroke, and of the closed form that it starts from. Stricter than a probe that is to name
each voxel itself: a prior sure of the wrong thing costs more than one that leaves it to strokes. On dev patients the
closed form with its own calibration came to a Dice of 0.31 / 0.46 / 0.68 at 1 / 3 / 5 slices after the walk,
logistic heads of 0.5, 0.05 and 0.005 to 0.39 / 0.64 / 0.73, 0.36 / 0.67 / 0.75 and 0.26 / 0.55 / 0.72."""
STATISTICS_CELLS = 40_000
_TABLE = np.arange(-1024, 3072)


@dataclass(frozen=True, eq=False)
class Columns:
    """The standardised columns of one scan on its work grid. ``features`` None, or without channels: HU alone."""

    grid: WorkGrid
    features: FeatureMap | None

    @cached_property
    def tokens(self) -> np.ndarray | None:
        """Standardised tokens (Z, Y, X, C) float32, times TOKEN_SHARE; None where there are none."""
        if self.features is None or not self.features.dim:
            return None
        flat = self.features.tokens.reshape(-1, self.features.dim)
        some = flat[body_tokens(self.features, 20_000)].astype(np.float32)
        some = some[np.isfinite(some).all(axis=1)]
        if not len(some):
            return None
        mean, std = some.mean(axis=0), some.std(axis=0)
        std = np.maximum(std, max(TOKEN_FLOOR * float(np.median(std)), 1e-6))
        rows = np.clip((self.features.tokens.astype(np.float32) - mean) / std, -CLIP, CLIP)
        return np.nan_to_num(rows, copy=False) * np.float32(TOKEN_SHARE)

    @cached_property
    def hu_standard(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (D,) of the HU columns, from an even choice of the body's cells."""
        count = len(self.grid.maps[0][0])
        some = np.arange(0, count, max(1, count // STATISTICS_CELLS))
        raw = _raw_hu([tuple(part[some] for part in found) for found in self.grid.maps])
        return raw.mean(axis=0), np.maximum(raw.std(axis=0), HU_FLOOR)

    def at(self, cells: np.ndarray) -> np.ndarray:
        """Columns (N, D) float32 of the body's cells with these numbers."""
        mean, std = self.hu_standard
        raw = _raw_hu([tuple(part[cells] for part in found) for found in self.grid.maps])
        columns = [np.clip((raw - mean) / std, -CLIP, CLIP)]
        if self.tokens is not None:
            corners, weights = self.features.corners(self.grid.geometry.to_world(self.grid.places(cells)))
            flat = self.tokens.reshape(-1, self.tokens.shape[-1])
            columns.insert(0, np.einsum("nkc,nk->nc", flat[corners], weights))
        return np.concatenate(columns, axis=1, dtype=np.float32)

    def scores(self, weights: np.ndarray, constants: np.ndarray, span: slice | None = None) -> np.ndarray:
        """``columns @ weights + constants`` of the body's cells, (n, K) float32; ``span``: of those cells along z."""
        span = span or slice(0, self.grid.body.shape[0])
        rows = self.grid.rows(span)
        out = np.empty((rows.stop - rows.start, len(constants)), np.float32)
        out[:] = constants
        split = 0
        if self.tokens is not None:
            split = self.tokens.shape[-1]
            out += self._token_scores(weights[:split], span)
        self._add_hu_scores(out, weights[split:], rows)
        return out

    def _token_scores(self, weights: np.ndarray, span: slice) -> np.ndarray:
        scores = self.tokens @ weights.astype(np.float32)
        field = GridScores.on(scores, self.features.valid, self.features.geometry, self.grid.geometry)
        body = self.grid.body
        return np.concatenate([field.plane(z)[:, body[z]].T for z in range(span.start, span.stop)])

    def _add_hu_scores(self, out: np.ndarray, weights: np.ndarray, rows: slice) -> None:
        """HU columns depend on one number each, so that a table of its values serves all cells."""
        mean, std = (part.reshape(len(SCALES_MM), -1) for part in self.hu_standard)
        split = weights.reshape(len(SCALES_MM), -1, weights.shape[1]).astype(np.float32)
        count = len(KNOTS_HU)
        curves = hats(_TABLE.astype(np.float32))
        for s, found in enumerate(self.grid.maps):
            smooth, slope, laplace = (part[rows] for part in found)
            table = (
                np.clip((curves - mean[s, :count]) / std[s, :count], -CLIP, CLIP).astype(np.float32) @ split[s, :count]
            )
            place = np.clip(np.rint(smooth), _TABLE[0], _TABLE[-1]).astype(np.intp) - _TABLE[0]
            out += table[place]
            for c, part in ((count, slope), (count + 1, laplace)):
                z = np.clip((part / SLOPE_HU - mean[s, c]) / std[s, c], -CLIP, CLIP)
                out += z[:, None] * split[s, c]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear head on the standardised columns: ``weights`` (D, K), ``constants`` (K,)."""

    weights: np.ndarray
    constants: np.ndarray

    def probabilities(self, columns: Columns, span: slice | None = None) -> np.ndarray:
        """Probabilities (n, K) of the body's cells, or of those in a span along z."""
        return softmax(columns.scores(self.weights, self.constants, span).T).T


def fitted(columns: Columns, marks: Marks) -> Head:
    """Learned by logistic regression from painted cells and, where one class is background, from unpainted ones."""
    chosen = chosen_cells(marks.index, marks.strokes)
    cells, index, strokes = marks.cells[chosen], marks.index[chosen], marks.strokes[chosen]
    if marks.background is not None:
        others = unpainted_cells(columns.grid, marks.cells)
        cells = np.concatenate([cells, others])
        index = np.concatenate([index, np.zeros(len(others), index.dtype)])
        strokes = np.concatenate([strokes, strokes.max() + 1 + np.arange(len(others)) % UNPAINTED_STROKES])
    x = columns.at(cells)
    start = Pooled.of(x, index).discriminant(START_PENALTY)
    return Head(*fit_logistic(x, index, strokes, *start, INVERSE_PENALTY))


def unpainted_cells(grid: WorkGrid, painted: np.ndarray) -> np.ndarray:
    """UNPAINTED of the body's cells, by chance, less those that are ``painted``: a further stroke leaves the rest. Of
    twice as many the flatter half: a place half in one tissue and half in another speaks for neither."""
    some = np.random.default_rng(0).choice(grid.size, min(grid.size, 2 * UNPAINTED), replace=False)
    _, slope, _ = grid.maps[0]
    flat = some[np.argsort(slope[some], kind="stable")[: -(-len(some) // 2)]]
    return np.setdiff1d(flat, painted)


def chosen_cells(index: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Which of the painted cells are learned from: at most PER_CLASS a class, shared out among its strokes."""
    rng = np.random.default_rng(0)
    found = []
    for value in np.unique(index):
        own = np.flatnonzero(index == value)
        pieces, sizes = np.unique(strokes[own], return_counts=True)
        for piece, take in zip(pieces, shares(sizes, PER_CLASS), strict=True):
            members = own[strokes[own] == piece]
            found.append(members if take >= len(members) else rng.choice(members, take, replace=False))
    return np.sort(np.concatenate(found))


def _raw_hu(maps: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    parts = []
    for smooth, slope, laplace in maps:
        parts += [hats(smooth), slope[:, None] / SLOPE_HU, laplace[:, None] / SLOPE_HU]
    return np.concatenate(parts, axis=1, dtype=np.float32)
