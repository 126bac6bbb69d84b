"""Borders that follow the image: a guided filter on scores, with windowed HU as the guide.

He, Sun and Tang, "Guided image filtering", ECCV 2010 / PAMI 2013: within each box the output is a linear function of
the guide, a*I + b, fitted to the input with penalty eps on a. It is linear in its input for a given guide, so filtered
scores of the classes can be compared one by one; and it costs box means only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..features import FeatureMap
from ..geometry import Geometry
from .upsample import ScoreField, axis_weights, summed_plane

WINDOW_HU = (-160.0, 240.0)
"""The soft-tissue window (width 400, level 40): where organs differ, and lung, air and bone saturate."""
RADIUS_TOKENS = 0.75
EPSILON = 0.003
"""Variance of the guide, in windows squared, under which a box is flat: a deviation of 22 HU. Radius and this were
chosen on dev patients, whose tissues are partly defined by HU, so a little less greedily than they ask for."""
_BLOCK = 8


@dataclass(eq=False)
class GuidedScores:
    """Scores filtered along HU, a few slices at a time (a ScoreField)."""

    fields: list[ScoreField]
    guide: np.ndarray  # int16 HU of the embedded grid
    along: tuple[np.ndarray, np.ndarray, np.ndarray]
    radius: tuple[int, int, int]
    depth: int

    @classmethod
    def on(cls, fields: list[ScoreField], features: FeatureMap, target: Geometry) -> GuidedScores:
        """Filters ``fields``, which are read on ``target``, with the HU of ``features`` as the guide."""
        radius = tuple(
            max(1, round(RADIUS_TOKENS * pitch / step))
            for pitch, step in zip(features.pitch_mm, target.spacing_mm, strict=True)
        )
        made = cls(fields, features.hu, axis_weights(features.hu_geometry, target), radius, target.shape[0])
        made._held = (-1, np.empty(0))
        return made

    def plane(self, z: int) -> np.ndarray:
        """Filtered scores (K, ny, nx) of the target's slice ``z``."""
        if self._held[0] != z // _BLOCK:
            self._held = (z // _BLOCK, self._block(z // _BLOCK * _BLOCK))
        return self._held[1][:, z % _BLOCK]

    def _block(self, start: int) -> np.ndarray:
        """Filtered scores (K, slices, ny, nx), from a slab wide enough for two box means."""
        low, high = max(0, start - 2 * self.radius[0]), min(self.depth, start + _BLOCK + 2 * self.radius[0])
        guide = np.stack([self._guide(z) for z in range(low, high)])
        mean = self._box(guide)
        spread = self._box(guide * guide) - mean * mean + EPSILON
        scores = np.stack([summed_plane(self.fields, z) for z in range(low, high)])
        inner = slice(start - low, min(start + _BLOCK, self.depth) - low)
        out = np.empty((scores.shape[1], inner.stop - inner.start, *guide.shape[1:]), np.float32)
        for k in range(scores.shape[1]):
            own = self._box(scores[:, k])
            slope = (self._box(guide * scores[:, k]) - mean * own) / spread
            offset = own - slope * mean
            out[k] = (self._box(slope) * guide + self._box(offset))[inner]
        return out

    def _guide(self, z: int) -> np.ndarray:
        row = self.along[0][z]
        hu = sum((row[i] * self.guide[i] for i in np.flatnonzero(row)), np.zeros(self.guide.shape[1:], np.float32))
        low, high = WINDOW_HU
        return np.clip((self.along[1] @ hu @ self.along[2].T - low) / (high - low), 0, 1).astype(np.float32)

    def _box(self, slab: np.ndarray) -> np.ndarray:
        from scipy.ndimage import uniform_filter1d

        for axis, radius in enumerate(self.radius):
            slab = uniform_filter1d(slab, 2 * radius + 1, axis=axis, mode="nearest")
        return slab
