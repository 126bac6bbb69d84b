"""The lesion itself as a template: how much of it the follow-up shows, at several sizes, beside what chance shows.

A matched filter: the baseline's patch less its mean, weighted towards the middle, multiplied with the follow-up's.
Unlike a correlation it keeps how strong the pattern is, and against noise of one kind no other linear sign tells more
(Turin, IRE Trans Inf Theory 6, 1960). The places round about say how large it gets where no lesion is.
"""

from __future__ import annotations

import numpy as np
import torch

from .correlation import Image, cube_mm

SCALES = (0.6, 0.8, 1.0, 1.25)
"""Sizes of the lesion in the follow-up, as shares of the baseline's, at which it is looked for."""
_STEPS = 4
"""Samples from the middle of a patch to its side."""


def template_signs(
    images: tuple[Image, Image],
    point: np.ndarray,
    places: np.ndarray,
    beside: np.ndarray,
    linear: np.ndarray,
    radius_mm: float,
) -> dict[str, float]:
    """``template_kept``: the share of the baseline's pattern that the best of ``places`` (N, 3) shows, -1 to 2;
    ``template_out``: how far that lies above what ``beside`` (M, K, 3) show, in units of their spread, -3 to 8.

    ``point`` (3,) LPS mm of the baseline, ``linear`` (3, 3) takes offsets there to offsets in the follow-up,
    ``radius_mm`` is the lesion's.
    """
    reach = 1.6 * radius_mm
    offsets = cube_mm(_STEPS, reach / _STEPS).reshape(-1, 3)
    weight = torch.from_numpy(np.exp(-0.5 * (np.linalg.norm(offsets, axis=1) / radius_mm) ** 2).astype(np.float32))
    weight = weight / weight.sum()
    pattern = images[0].patches(point[None], offsets[None])[0]
    pattern = pattern - (weight * pattern).sum()
    filtered = weight * pattern
    energy = float((filtered * pattern).sum()) + 1e-4
    kept, out = -1.0, -3.0
    for scale in SCALES:
        moved = scale * offsets[None] @ linear.T

        def shown(where: np.ndarray, moved: np.ndarray = moved) -> np.ndarray:
            patches = images[1].patches(where.reshape(-1, 3), moved)
            found = patches @ filtered - (patches @ weight) * filtered.sum()
            return (found / energy).view(where.shape[:-1]).numpy()

        best, chance = float(shown(places).max()), shown(beside).max(axis=1)
        kept = max(kept, best)
        out = max(out, (best - float(np.median(chance))) / (float(chance.std()) + 0.05))
    return {"template_kept": min(kept, 2.0), "template_out": min(out, 8.0)}
