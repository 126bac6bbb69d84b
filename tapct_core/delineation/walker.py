"""Random walker with priors on a voxel grid: strokes as fixed facts, a prior for everywhere else, edges of HU between.

Grady, "Random walks for image segmentation", PAMI 28:1768 (2006), and "Multilabel random walker image segmentation
using prior models", CVPR 2005. The probability x_k of label k solves (L + G) x_k = G p_k at the voxels without a seed:
L is the graph's Laplacian, p_k the prior, and G the diagonal of how firmly a voxel is tied to it. The labels share
the matrix and are solved as one block, all but the first, which is one minus the rest.

Edges weigh exp(-|difference of HU| / beta) over the square of their length in shortest steps, so that L is that of the
continuous plane at any spacing, and a tie of (shortest step / ell)^2 lets a seed's word carry ``ell_mm`` where the
image is flat, whatever the voxels' size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .multigrid import Cancel, Level, Spacing, both, levels, solve

EDGE_HU = (-1000.0, 400.0)
"""Differences beyond these ends are none: within air, and within bone."""
SMOOTH_MM = 1.0
FLOOR = 1e-3
"""What an edge weighs at the least, as a share of one in a flat image: no voxel is cut off from all others. On dev
patients 0.01 came to a Dice of 0.52 / 0.73 / 0.80 at 1 / 3 / 5 slices, this to 0.53 / 0.76 / 0.81."""
BETA_OF_NOISE, BETA_HU = 2.0, (10.0, 40.0)
LEAST_TIE = 1e-3
"""The least share of its tie that an unsure prior keeps, so that every voxel hears something."""
TOLERANCE = 1e-2
"""By how much the last step may still have moved a probability."""


def random_walk(
    hu: np.ndarray,
    spacing_mm: Spacing,
    seeds: np.ndarray,
    priors: np.ndarray | None = None,
    ell_mm: float | np.ndarray = np.inf,
    *,
    beta: float | None = None,
    mask: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    start: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
    cancel: Cancel | None = None,
) -> np.ndarray:
    """Probability of each label at each voxel, (K, z, y, x) float32, 0 to 1, summing to 1 within ``mask``, 0 outside.

    ``hu`` (z, y, x), best from :func:`edge_hu`; ``seeds`` (z, y, x): 0 free, k = 1 .. K fixed to label k, index k - 1.
    ``priors`` (K, z, y, x) or None; ``ell_mm``, a number or (z, y, x), how far a seed's word carries against them.
    ``weight`` (z, y, x) of the tie, 0 to 1, by default the prior's :func:`certainty`. ``beta`` in HU, by default from
    the noise. ``mask``: voxels walked on. ``start`` (K, z, y, x): where to begin, such as the last answer.
    ``tolerance``: by how much the last step may still have moved a probability. What no seed and no prior reaches
    is 1 / K each. Raises UserError without seeds and priors, ValueError for shapes that differ, WalkCancelled.
    """
    lattice = Lattice.of(hu, spacing_mm, beta, mask)
    return lattice.walk(seeds, priors, ell_mm, weight=weight, start=start, tolerance=tolerance, cancel=cancel)


def edge_hu(hu: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """HU (z, y, x) float32 as edges are measured on: clipped to EDGE_HU, smoothed by half of SMOOTH_MM to SMOOTH_MM."""
    from scipy.ndimage import gaussian_filter

    clipped = np.clip(hu, *EDGE_HU).astype(np.float32)
    # Voxels of 2 mm and more have averaged already.
    sigma = [SMOOTH_MM / step if step < 2 * SMOOTH_MM else 0.0 for step in spacing_mm]
    return gaussian_filter(clipped, sigma, truncate=3.0) if any(sigma) else clipped


def certainty(priors: np.ndarray) -> np.ndarray:
    """How sure a prior (K, ...) is, 0 to 1: the square of best less second best probability."""
    if len(priors) < 2:
        return np.ones(priors.shape[1:], np.float32)
    top = np.partition(priors, len(priors) - 2, axis=0)
    return np.square(top[-1] - top[-2], dtype=np.float32)


def noise_beta(hu: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Beta in HU: BETA_OF_NOISE times the median difference of neighbours within slices, held to BETA_HU."""
    found = []
    for axis in (1, 2):
        step = np.abs(np.diff(hu, axis=axis))
        found.append(step if mask is None else step[both(mask, axis)])
    steps = np.concatenate([part.ravel() for part in found])
    steps = steps[:: max(1, len(steps) // 500_000)]
    return float(np.clip(BETA_OF_NOISE * np.median(steps), *BETA_HU)) if len(steps) else BETA_HU[0]


@dataclass(frozen=True, eq=False)
class Lattice:
    """The edges between the voxels of a mask. Strokes and priors do not change them, so one serves for all strokes.

    ``mask`` (z, y, x) bool with n voxels; ``grid`` its edges and those of the coarser grids that help to solve it;
    ``step_mm`` the shortest spacing.
    """

    mask: np.ndarray
    grid: list[Level]
    step_mm: float

    @classmethod
    def of(
        cls, hu: np.ndarray, spacing_mm: Spacing, beta: float | None = None, mask: np.ndarray | None = None
    ) -> Lattice:
        """From HU (z, y, x); see :func:`random_walk`."""
        mask = np.ones(hu.shape, bool) if mask is None else np.asarray(mask, bool)
        if mask.shape != hu.shape:
            raise ValueError(f"the mask is {mask.shape} and the HU are {hu.shape}")
        hu = np.asarray(hu, np.float32)
        beta = noise_beta(hu, mask) if beta is None else float(beta)
        return cls(mask, levels(edge_weights(hu, spacing_mm, beta), mask, spacing_mm), float(min(spacing_mm)))

    def walk(
        self,
        seeds: np.ndarray,
        priors: np.ndarray | None = None,
        ell_mm: float | np.ndarray = np.inf,
        *,
        weight: np.ndarray | None = None,
        start: np.ndarray | None = None,
        tolerance: float = TOLERANCE,
        cancel: Cancel | None = None,
    ) -> np.ndarray:
        """See :func:`random_walk`."""
        self._check(seeds, priors, start)
        within = np.asarray(seeds, int)[self.mask]
        count = len(priors) if priors is not None else int(np.max(seeds, initial=0))
        if priors is None and not within.any():
            raise UserError("there is no seed inside the mask; paint inside the patient")
        out = np.zeros((count, *self.mask.shape), np.float32)
        if not len(within):
            return out
        flat = None if priors is None else np.ascontiguousarray(priors[:, self.mask].T, np.float32)
        tie = self._tie(flat, ell_mm, weight)
        begin = None if start is None else np.ascontiguousarray(start[:, self.mask].T, np.float32)
        lost = np.zeros(len(tie), bool) if (tie > 0).all() else self._unreached(within, tie)
        found = self.solve(within, count, flat, tie, begin, tolerance, cancel, lost)
        for k in range(count):
            out[k][self.mask] = found[:, k]
        return out

    def solve(
        self,
        seeds: np.ndarray,
        count: int,
        priors: np.ndarray | None,
        tie: np.ndarray,
        start: np.ndarray | None = None,
        tolerance: float = TOLERANCE,
        cancel: Cancel | None = None,
        lost: np.ndarray | bool = False,
    ) -> np.ndarray:
        """Probabilities (n, K) at the mask's voxels in their order: ``seeds`` (n,), ``priors`` (n, K), ``tie`` (n,).

        ``lost`` (n,): voxels that nothing reaches; there every label is as likely.
        """
        fixed = seeds > 0
        known = np.zeros((len(seeds), count), np.float32)
        known[fixed, seeds[fixed] - 1] = 1
        right = self.grid[0].edges @ known[:, 1:]
        if priors is not None:
            right += tie[:, None] * priors[:, 1:]
        x = (priors if priors is not None else np.full_like(known, 1 / count)) if start is None else start
        known[lost] = 1 / count
        x = solve(self.grid, tie, fixed | lost, right, x[:, 1:], tolerance, cancel)
        x += known[:, 1:]
        np.clip(x, 0, 1, out=x)
        known[:, 1:] = x
        known[:, 0] = np.clip(1 - x.sum(axis=1), 0, 1)
        known /= known.sum(axis=1, keepdims=True)
        return known

    def _tie(self, priors: np.ndarray | None, ell_mm: float | np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """How firmly each voxel is tied to its prior, (n,) float32."""
        ell = np.asarray(ell_mm, np.float32)
        if (ell <= 0).any():
            raise ValueError("ell_mm is a length above zero")
        if priors is None:
            return np.zeros(np.count_nonzero(self.mask), np.float32)
        sure = certainty(priors.T) if weight is None else np.asarray(weight, np.float32)[self.mask]
        tie = np.square(self.step_mm / (ell[self.mask] if ell.ndim else ell))
        return (tie * np.maximum(sure, LEAST_TIE)).astype(np.float32)

    def _unreached(self, seeds: np.ndarray, tie: np.ndarray) -> np.ndarray:
        """Voxels (n,) of pieces of the mask with neither a seed nor a tie."""
        from scipy.ndimage import label

        pieces = label(self.mask)[0][self.mask]
        heard = np.zeros(pieces.max() + 1, bool)
        heard[pieces[(seeds > 0) | (tie > 0)]] = True
        return ~heard[pieces]

    def _check(self, seeds: np.ndarray, priors: np.ndarray | None, start: np.ndarray | None) -> None:
        if seeds.shape != self.mask.shape:
            raise ValueError(f"the seeds are {seeds.shape} and the grid is {self.mask.shape}")
        for name, array in (("priors", priors), ("start", start)):
            if array is not None and array.shape[1:] != self.mask.shape:
                raise ValueError(f"the {name} are {array.shape} and the grid is {self.mask.shape}")
        most = int(np.max(seeds, initial=0))
        if priors is not None and most > len(priors):
            raise ValueError(f"there is a seed of label {most} and priors of {len(priors)} labels")


def edge_weights(hu: np.ndarray, spacing_mm: Spacing, beta: float) -> list[np.ndarray]:
    """Weights between neighbours along z, y and x, float32, each array shorter by one along its axis."""
    found = []
    for axis, spacing in enumerate(spacing_mm):
        weight = np.exp(np.abs(np.diff(hu, axis=axis)) * np.float32(-1 / beta)) + np.float32(FLOOR)
        weight *= np.float32((min(spacing_mm) / spacing) ** 2)
        found.append(weight)
    return found
