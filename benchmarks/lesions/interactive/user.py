"""A simulated user: paints where the largest error lies, with a brush of real size, and not perfectly.

Robots that hit the centre of every error overestimate what a person gets (Marinov et al. 2024, arXiv 2404.01816). So a
stroke begins at a random place of the deeper half of the error, runs its length with an unsteady direction, ends where
the structure does, and one in twenty spills over the border by a voxel.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from tapct_core.volume import LabelMap

BRUSH_MM, STROKE_MM = 6.0, 25.0
SPILL = 0.05
BESIDE_MM = 15.0
"""How far beside a structure the first background is painted."""


class User:
    """Paints ``strokes`` for the classes of ``truth`` (1 .. K, 0 background), one slice a class and round.

    ``body`` (z, y, x): where a person would paint. ``background`` is the label that stands for it. The same seed and
    the same answers give the same strokes.
    """

    def __init__(self, truth: LabelMap, body: np.ndarray, seed: int) -> None:
        self.truth, self.body = truth.labels, body
        self.classes = [int(v) for v in np.unique(self.truth) if v]
        self.background = max(self.classes) + 1
        self.painted = np.zeros(self.truth.shape, np.uint8)
        self.step = np.array(truth.geometry.spacing_mm[1:])
        self.rng = np.random.default_rng(seed)
        self.count = 0
        names = {value: truth.names.get(value, str(value)) for value in self.classes}
        self._names, self._geometry = {**names, self.background: "background"}, truth.geometry

    @property
    def strokes(self) -> LabelMap:
        """All that is painted so far."""
        return LabelMap(self.painted.copy(), self._geometry, names=dict(self._names))

    def paint(self, answer: np.ndarray | None) -> None:
        """One more slice for each class: the first near its middle, then where ``answer`` (z, y, x) is most wrong."""
        for value in self.classes:
            own = self.truth == value
            if answer is None:
                z = self._first_slice(own)
                self._stroke(z, own[z], value)
                beside = ndimage.distance_transform_edt(~own[z], sampling=self.step) <= BESIDE_MM
                rest = (self.truth[z] == 0) & self.body[z]
                self._stroke(z, beside & rest, self.background)
                self._stroke(z, ~beside & rest, self.background)
                continue
            missed, extra = own & (answer != value), ~own & (answer == value)
            areas = ((missed | extra) & (self.painted == 0)).sum(axis=(1, 2))
            if areas.any():
                self._correct(int(areas.argmax()), value, own, missed, extra)

    def _first_slice(self, own: np.ndarray) -> int:
        """A slice of the middle half of the class, larger ones more often."""
        areas = own.sum(axis=(1, 2)).astype(float)
        share = np.cumsum(areas) / areas.sum()
        areas[(share < 0.25) | (share > 0.75 + areas / areas.sum())] = 0
        return int(self.rng.choice(len(areas), p=areas / areas.sum()))

    def _correct(self, z: int, value: int, own: np.ndarray, missed: np.ndarray, extra: np.ndarray) -> None:
        """Three strokes in a slice: two over the two largest errors, and one of the side that they leave out, so that
        the slice says where the class is and where it is not."""
        pieces = sorted((*_pieces(missed[z]), *_pieces(extra[z])), key=lambda piece: -piece.sum())[:2]
        sides = set()
        for piece in pieces:
            labels = np.bincount(self.truth[z][piece], minlength=self.background)
            right = int(labels.argmax())
            self._stroke(z, piece & (self.truth[z] == right), right or self.background)
            sides.add(right == value)
        if True not in sides:
            self._stroke(z, own[z] & (self.painted[z] == 0), value)
        if False not in sides:
            beside = ndimage.distance_transform_edt(~own[z], sampling=self.step) <= BESIDE_MM
            self._stroke(z, beside & (self.truth[z] == 0) & self.body[z] & (self.painted[z] == 0), self.background)

    def _stroke(self, z: int, area: np.ndarray, value: int) -> None:
        """Paints ``value`` inside ``area`` (y, x) of slice z. What is thinner than the brush gets a thinner one."""
        if not area.any():
            return
        allowed = self.truth[z] == (0 if value == self.background else value)
        depth = ndimage.distance_transform_edt(np.pad(area, 1), sampling=self.step)[1:-1, 1:-1]
        inside = np.argwhere(area)
        order = np.argsort(depth[area], kind="stable")
        start = inside[order[len(order) // 2 :]][self.rng.integers(len(order) - len(order) // 2)]
        line = self._line(start * self.step, area)
        radius = min(BRUSH_MM / 2, max(float(depth[line].mean()), 0.5 * self.step.min()))
        near = ndimage.distance_transform_edt(~line, sampling=self.step) <= radius
        stroke = near & allowed
        if self.rng.random() < SPILL:
            stroke |= ndimage.binary_dilation(stroke)
        self.painted[z][stroke & ((self.painted[z] == 0) | line)] = value
        self.count += 1

    def _line(self, start: np.ndarray, area: np.ndarray) -> np.ndarray:
        """The longest of a few unsteady lines from ``start`` (mm) that stay inside, at most STROKE_MM, (y, x) bool."""
        best: np.ndarray = np.rint(start / self.step).astype(int)[None]
        for _ in range(6):
            angle = self.rng.uniform(0, 2 * np.pi) + np.cumsum(self.rng.normal(0, 0.05, int(STROKE_MM)))
            path = start + np.cumsum(np.column_stack([np.sin(angle), np.cos(angle)]), axis=0)
            index = np.rint(path / self.step).astype(int)
            good = ((index >= 0) & (index < area.shape)).all(axis=1)
            good[good] = area[tuple(index[good].T)]
            length = len(good) if good.all() else int(good.argmin())
            if length > len(best):
                best = index[:length]
        line = np.zeros(area.shape, bool)
        line[tuple(best.T)] = True
        return line


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """The connected pieces of a mask (y, x), each as a mask."""
    pieces, count = ndimage.label(mask)
    return [pieces == number for number in range(1, count + 1)]
