"""Crops turned about their middle: a crop is cut larger than wanted, and the wanted one is read from it askew.

Angles are taken in the crop's own voxels. Where these are not cubes the turn is a slight shear too, as a patient
who lies differently and breathes differently gives one: for learning correspondence that does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapct_core.crops import seeded_uniforms
from tapct_core.geometry import Shape

Angles = tuple[float, float, float]
_STREAM = 4000


def matrices(degrees: np.ndarray) -> np.ndarray:
    """Turns about the axes z, y and x, by (n, 3) degrees -> (n, 3, 3) for (z, y, x) vectors; x first, z last."""
    out = np.broadcast_to(np.eye(3), (len(degrees), 3, 3))
    for axis in (2, 1, 0):
        angle = np.radians(degrees[:, axis])
        a, b = [i for i in range(3) if i != axis]
        one = np.broadcast_to(np.eye(3), out.shape).copy()
        one[:, a, a] = one[:, b, b] = np.cos(angle)
        one[:, a, b], one[:, b, a] = -np.sin(angle), np.sin(angle)
        out = one @ out
    return out


def size_to_cut(size: Shape, most: Angles) -> Shape:
    """Voxels (z, y, x) that a crop must have for a middle of ``size`` to lie inside it at all turns up to ``most``."""
    if not any(most):
        return tuple(size)
    steps = [np.linspace(-a, a, 5) if a else np.zeros(1) for a in most]
    reach = (np.abs(matrices(np.array(list(product(*steps))))) @ ((np.array(size) - 1) / 2)).max(axis=0)
    # as even or odd as the crop is, so that both have one middle
    return tuple(int(n + 2 * np.ceil(r - (n - 1) / 2 - 1e-9)) for n, r in zip(size, reach, strict=True))


def draw_turns(seeds: Sequence[int] | np.ndarray, most: Angles) -> np.ndarray:
    """One turn a seed, uniform up to ``most`` degrees about (z, y, x) to either side -> (n, 3, 3)."""
    return matrices((2 * seeded_uniforms(seeds, 3, _STREAM) - 1) * np.array(most))


def turn(crops: Tensor, turns: np.ndarray, size: Shape) -> Tensor:
    """Read the turned middle of ``crops`` (n, d, h, w), trilinearly -> (n, *size) float32.

    Voxel i of the result lies at ``middle + turns @ (i - its own middle)`` of the crop.
    """
    device = crops.device
    axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in size]
    offset = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    there = torch.einsum("nij,dhwj->ndhwi", torch.as_tensor(turns, dtype=torch.float32, device=device), offset)
    half = torch.tensor(crops.shape[1:], device=device, dtype=torch.float32) / 2
    grid = (there / half).flip(-1)  # grid_sample wants (x, y, z), the outer faces at -1 and 1
    return F.grid_sample(crops[:, None], grid, "bilinear", "border", align_corners=False)[:, 0]
