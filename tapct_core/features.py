"""FeatureMap: what a scan looks like to an encoder, placed in the patient. Everything downstream reads this."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .geometry import Geometry, Shape
from .sliding_windows import places_in_window


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Tokens of one scan with their place.

    ``tokens``    (Z, Y, X, C) float16; a token's position is its patch's centre.
    ``valid``     (Z, Y, X) bool; False where the window held nothing but air and was not embedded.
    ``geometry``  of the token grid.
    ``hu``        (D, H, W) int16 on ``hu_geometry``: the HU that were embedded, or finer ones where the plan is coarse.
    ``cls``       (windows, C) float16, the class token of each embedded window; may be empty.
    ``provenance`` plain words and hashes: encoder, weights, plan, spacing, overlap, scan, version.
    ``windows``   (windows, 3) int32, first token (z, y, x) of each embedded window, in the order of ``cls``.
    ``window_tokens`` size of a window in tokens (z, y, x); (0, 0, 0) where no windows are known.
    ``overlap``   share of a window that the next one repeats.
    """

    tokens: np.ndarray
    valid: np.ndarray
    geometry: Geometry
    hu: np.ndarray
    hu_geometry: Geometry
    cls: np.ndarray
    provenance: dict[str, str] = field(default_factory=dict)
    windows: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    window_tokens: Shape = (0, 0, 0)
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if self.tokens.shape[:3] != self.geometry.shape or self.valid.shape != self.geometry.shape:
            raise ValueError(f"tokens {self.tokens.shape} or valid {self.valid.shape} do not fit {self.geometry.shape}")
        if self.hu.shape != self.hu_geometry.shape:
            raise ValueError(f"hu {self.hu.shape} does not fit its geometry {self.hu_geometry.shape}")

    @property
    def dim(self) -> int:
        """Length C of a token."""
        return self.tokens.shape[-1]

    @property
    def pitch_mm(self) -> tuple[float, float, float]:
        """Distance between tokens along (z, y, x) in mm: the limit of what matching can resolve."""
        return self.geometry.spacing_mm

    def sample(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Tokens interpolated trilinearly at LPS points (N, 3) -> (N, C) float32.

        Never snapped to a token. Between a valid and an invalid token only the valid ones count;
        points with no valid token round them, or outside the scan, give zeros (see :meth:`covers`).
        """
        corners, weights = self.corners(points_lps_mm)
        tokens = self.tokens.reshape(self.valid.size, self.dim)[corners].astype(np.float32)
        return np.einsum("nkc,nk->nc", tokens, weights)

    def covers(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Whether LPS points (N, 3) lie in the scan and near a valid token -> bool (N,)."""
        _, weights = self.corners(points_lps_mm)
        return weights.sum(axis=1) > 0

    def corners(self, points_lps_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The eight tokens round each point: flat indices (N, 8) and weights (N, 8) that sum to 1 or 0."""
        points = np.atleast_2d(np.asarray(points_lps_mm, dtype=np.float64))
        if points.shape[-1] != 3:
            raise ValueError(f"points must be (N, 3) LPS mm, not {points.shape}")
        shape = np.array(self.geometry.shape)
        index = self.geometry.to_index(points)
        inside = ((index >= -0.5) & (index <= shape - 0.5)).all(axis=1)
        index = index.clip(0, shape - 1)
        low = np.minimum(index.astype(np.int64), np.maximum(shape - 2, 0))
        fraction = index - low
        offsets = np.array(np.meshgrid((0, 1), (0, 1), (0, 1), indexing="ij")).reshape(3, 8).T
        corner = np.minimum(low[:, None] + offsets, shape - 1)
        weights = np.where(offsets == 1, fraction[:, None], 1 - fraction[:, None]).prod(axis=2)
        flat = np.ravel_multi_index(np.moveaxis(corner, -1, 0), self.geometry.shape)
        weights = weights * self.valid.reshape(-1)[flat] * inside[:, None]
        total = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 1e-6)
        return flat, weights.astype(np.float32)

    def scan_embedding(self) -> np.ndarray:
        """One vector for the whole scan: mean of valid tokens, L2-normalised, (C,) float32; zeros if none is valid."""
        total = np.zeros(self.dim)
        for tokens, valid in zip(self.tokens, self.valid, strict=True):  # one z at a time: no float copy of the map
            total += tokens[valid].sum(axis=0, dtype=np.float64)
        return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)

    @cached_property
    def window_places(self) -> np.ndarray:
        """Each token's place in the window that owns it, as a row of :attr:`window_position_mean`, (Z, Y, X) int32.

        All 0 where no windows are known, and along axes that a single window covers.
        """
        if 0 in self.window_tokens:
            return np.zeros(self.geometry.shape, np.int32)
        places = places_in_window(self.geometry.shape, self.window_tokens, self.overlap)
        return np.ravel_multi_index(np.moveaxis(places, -1, 0), self._places_shape).astype(np.int32)

    @property
    def _places_shape(self) -> Shape:
        return tuple(max(1, min(w, n)) for w, n in zip(self.window_tokens, self.geometry.shape, strict=True))

    @cached_property
    def window_position_mean(self) -> np.ndarray:
        """What tokens owe to their place in the window: mean token at each place, (places, C) float32.

        ``tokens - window_position_mean[window_places]`` has no window pattern left (Yang et al. 2024,
        arXiv 2401.02957, trace it to the position table; an untrained network is dominated by it).
        Means of few windows are noisy, and subtracting noise hurts: each is drawn towards the mean of
        all tokens by the share of its variance that is noise (the linear empirical Bayes estimate,
        one-way analysis of variance over places, channels pooled). One window alone thus changes nothing
        but the overall mean.
        """
        sums, counts, squares = self._place_sums()
        if not counts.any():
            return np.zeros((len(counts), self.dim), np.float32)
        grand = sums.sum(axis=0) / counts.sum()
        means = np.divide(sums, counts[:, None], out=np.tile(grand, (len(counts), 1)), where=counts[:, None] > 0)
        total, groups = counts.sum(), np.count_nonzero(counts)
        if total <= groups:
            return np.tile(grand, (len(counts), 1)).astype(np.float32)
        between = float((counts * ((means - grand) ** 2).sum(axis=1)).sum())
        within = max(0.0, squares - float(total * (grand**2).sum()) - between) / (total - groups)
        spread = max(0.0, between - (groups - 1) * within) / max(total - (counts**2).sum() / total, 1e-12)
        share = counts * spread / np.maximum(counts * spread + within, 1e-30)
        return (grand + share[:, None] * (means - grand)).astype(np.float32)

    def _place_sums(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Per place the sum (P, C) and number (P,) of valid tokens, and the sum of all squares; float64."""
        shape = self._places_shape
        # Places are separable, so that sums over y and x are products with indicator matrices, one z at a time.
        axes = np.unravel_index(self.window_places, shape)
        along_y = np.eye(shape[1], dtype=np.float32)[:, axes[1][0, :, 0]]  # (places y, Y)
        along_x = np.eye(shape[2], dtype=np.float32)[:, axes[2][0, 0, :]]  # (places x, X)
        sums = np.zeros((*shape, self.dim))
        counts = np.zeros(shape)
        squares = 0.0
        for z, (tokens, valid) in enumerate(zip(self.tokens, self.valid, strict=True)):
            row = tokens.astype(np.float32) * valid[..., None]  # (Y, X, C)
            place = axes[0][z, 0, 0]
            by_x = (along_x @ row).reshape(len(row), shape[2] * self.dim)  # (Y, places x * C)
            sums[place] += (along_y @ by_x).reshape(*shape[1:], self.dim)
            counts[place] += along_y @ valid @ along_x.T
            squares += float(np.square(row, dtype=np.float32).sum(dtype=np.float64))
        return sums.reshape(counts.size, self.dim), counts.ravel(), squares
