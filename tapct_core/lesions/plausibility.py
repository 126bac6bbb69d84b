"""How far a grown mask is to be believed: the diameters of its alternatives, and what speaks for and against it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..volume import CTVolume
from .field import Field
from .prompts import Prompt
from .recist import measure
from .study import Mask

LEVELS = (0.35, 0.65)
"""Probabilities at which a border could as well be drawn: the band."""
SHELL_MM = 2.5


@dataclass(frozen=True, eq=False)
class GrownMask(Mask):
    """A mask that a program has grown, with what it knows of its own worth.

    ``band_mm``      the long axes of its alternatives, with the border drawn tighter and wider
    ``plausibility`` 0 to 1: the overlap (Dice) that masks of such looks had with the truth
    ``reason``       what lowers it most, in words; empty where nothing does
    """

    band_mm: tuple[float, float] = (0.0, 0.0)
    plausibility: float = 0.0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Walked:
    """A walk's answer: probability on the grid of ``field`` and, ``fine``, on the scan's own voxels of its box;
    ``inside`` and ``outside`` what is certain there, bool; ``level`` where the border is drawn."""

    prompt: Prompt
    field: Field
    probability: np.ndarray
    fine: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    level: float = 0.5

    def at(self, level: float) -> np.ndarray:
        """The mask with its border drawn at a probability, bool (z, y, x) in the box: what hangs together with what
        is certainly inside, without holes. At the least that."""
        drawn = ((self.fine > level) | self.inside) & ~self.outside
        parts, _ = ndimage.label(drawn)
        touched = np.unique(parts[self.inside])
        drawn = np.isin(parts, touched[touched > 0])
        return ndimage.binary_fill_holes(drawn) & ~self.outside

    def long_axis_mm(self, drawn: np.ndarray) -> float:
        """Longest axial diameter of a mask in the box; 0 for an empty one."""
        if not drawn.any():
            return 0.0
        tight = Mask.from_array(drawn)
        grid = self.field.fine.cropped(tight.start, tight.voxels.shape)
        return measure(tight.voxels, grid, np.zeros(tight.voxels.shape, np.int16)).long_axis_mm


def judged(volume: CTVolume, walked: Walked) -> GrownMask:
    """The mask of a walk, with its band and its plausibility."""
    drawn = walked.at(walked.level)
    mask = walked.field.mask(drawn)
    looks = looks_of(walked, drawn)
    return GrownMask(mask.start, mask.voxels, mask.grid, looks.band_mm, 1.0, "")


@dataclass(frozen=True)
class Looks:
    """What a mask's plausibility rests on."""

    band_mm: tuple[float, float]
    features: np.ndarray


def looks_of(walked: Walked, drawn: np.ndarray) -> Looks:
    field, grid = walked.field, walked.field.grid
    length = walked.long_axis_mm(drawn)
    sides = [walked.long_axis_mm(walked.at(walked.level + step)) or length for step in (LEVELS[0] - 0.5, LEVELS[1] - 0.5)]
    band = (min(length, *sides), max(length, *sides))
    inside = walked.probability > walked.level
    if not inside.any():
        inside = walked.probability >= walked.probability.max()
    away = ndimage.distance_transform_edt(~inside, sampling=grid.spacing_mm)
    shell = (away > 0) & (away <= max(SHELL_MM, 0.15 * walked.prompt.size_mm, 1.01 * max(grid.spacing_mm)))
    a, b = field.hu[inside], field.hu[shell] if shell.any() else field.hu[inside]
    contrast = abs(float(np.median(a)) - float(np.median(b)))
    noise = max(5.0, float(np.median(np.abs(np.diff(field.hu, axis=2)))))
    spread = np.sqrt(a.var() + b.var() + 25)
    voxels = int(drawn.sum())
    volume = voxels * abs(np.linalg.det(field.fine.affine[:3, :3]))
    full = volume / (np.pi / 6 * max(length, 1e-3) ** 3)
    sure = float(np.abs(2 * walked.probability[inside | shell] - 1).mean())
    drawn_mm = walked.prompt.drawn_mm
    off = abs(np.log(max(length, 1e-3) / drawn_mm)) if drawn_mm else 0.0
    return Looks(band, np.array([
        np.log1p(contrast / spread), np.log1p(contrast / noise), np.log(band[1] / max(band[0], 1e-3)), np.log(min(max(full, 0.02), 1.5)), np.log(voxels), np.log(len(a)), sure, off, np.log(max(length,1e-3))
    ]))
