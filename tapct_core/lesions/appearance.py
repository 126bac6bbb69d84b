"""What the lesion looks like against what is round it, from HU alone: a ratio of two histograms."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

BINS = 192
LEAST_SD_HU = 10.0
CLIP = 3.0
"""Most that one voxel's HU may say, as a log ratio."""
UNSEEN = 0.03
"""What a value that was never met counts, as a share of an even spread."""
MIXED = 0.1
"""Share of voxels that a border runs through: between two tissues, the nearer one counts as likelier."""


def log_ratio(hu: np.ndarray, inside: np.ndarray, around: np.ndarray) -> np.ndarray:
    """log p(HU | lesion) / p(HU | surroundings) at every voxel, float32 within CLIP, like ``hu``.

    ``inside`` and ``around`` bool, as ``hu``: where each is learnt. Histograms are smoothed by the lesion's own
    scatter, more where it has few voxels (Silverman's rule), so that a difference is believed as far as it is seen.
    """
    own, other = hu[inside], hu[around]
    middles = float(np.median(own)), float(np.median(other))
    scatter = max(LEAST_SD_HU, 1.4826 * float(np.median(np.abs(own - middles[0]))))
    reach = 8 * scatter + 60
    edges = np.linspace(min(middles) - reach, max(middles) + reach, BINS + 1)
    step = edges[1] - edges[0]
    index = np.clip(np.searchsorted(edges, hu) - 1, 0, BINS - 1)
    width = max(1.0, scatter * max(len(own), 1) ** -0.2 / step)
    wide = max(scatter, abs(middles[0] - middles[1]) / 4)
    shares = []
    for where, middle in zip((inside, around), middles, strict=True):
        counts = np.bincount(index[where], minlength=BINS).astype(float)
        counts = ndimage.gaussian_filter1d(counts / max(counts.sum(), 1.0), width, mode="nearest")
        tails = np.exp(-0.5 * ((edges[:-1] + step / 2 - middle) / wide) ** 2)
        shares.append((1 - MIXED) * counts + MIXED * tails / tails.sum() + UNSEEN / BINS)
    return np.clip(np.log(shares[0] / shares[1]), -CLIP, CLIP).astype(np.float32)[index]
