"""What the lesion looks like against what is round it, from HU alone: a ratio of two histograms."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

BINS = 96
LEAST_SD_HU = 10.0
CLIP = 3.0
"""Most that one voxel's HU may say, as a log ratio."""
UNSEEN = 0.03
"""What a value that was never met counts, as a share of an even spread."""


def log_ratio(hu: np.ndarray, inside: np.ndarray, around: np.ndarray) -> np.ndarray:
    """log p(HU | lesion) / p(HU | surroundings) at every voxel, float32 within CLIP, like ``hu``.

    ``inside`` and ``around`` bool, as ``hu``: where each is learnt. Histograms are smoothed by the lesion's own
    scatter, more where it has few voxels (Silverman's rule), so that a difference is believed as far as it is seen.
    """
    own = hu[inside]
    middle = float(np.median(own))
    scatter = max(LEAST_SD_HU, 1.4826 * float(np.median(np.abs(own - middle))))
    edges = np.linspace(middle - 8 * scatter - 60, middle + 8 * scatter + 60, BINS + 1)
    index = np.clip(np.searchsorted(edges, hu) - 1, 0, BINS - 1)
    width = max(1.0, scatter * max(len(own), 1) ** -0.2 / (edges[1] - edges[0]))
    shares = []
    for where in (inside, around):
        counts = np.bincount(index[where], minlength=BINS).astype(float)
        counts = ndimage.gaussian_filter1d(counts / max(counts.sum(), 1.0), width, mode="nearest")
        shares.append(counts + UNSEEN / BINS)
    return np.clip(np.log(shares[0] / shares[1]), -CLIP, CLIP).astype(np.float32)[index]
