"""How far a grown mask is to be believed: the diameters of its alternatives, and what speaks for and against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .field import Field
from .finding import Mask
from .prompts import Prompt
from .recist import measure

ASIDE = (-0.15, 0.15)
"""By how much lower and higher a probability the border could as well be drawn: the band."""
SHELL_MM, LEAST_NOISE_HU = 2.5, 5.0
BASE, EFFECT, BAND, FULL, SIZE = -1.06, 0.61, -1.49, 0.25, 0.56
"""Log odds of plausibility and what adds to them (see :func:`_parts`): a regression on the Dice of masks from axes,
boxes and clicks in made-up and drawn lesions of train and dev patients (correlation 0.77, mean error 0.09 on lesions
left out)."""
GUESSED = (-1.4, 1.2)
"""What a click alone takes away, and how much of it a clear border gives back."""
OFF, UNSEEN, SEEN = -3.0, -1.5, 0.4
"""Set, not fitted, since such masks are hardly ever met with real prompts: another length than the drawn one, and what
a mask loses that does not differ from its surroundings, in full at an effect of 0 and not at all from SEEN on."""
MISSED = 0.25
"""A ground that costs less is not worth words."""


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
        out = np.zeros(self.fine.shape, bool)
        could = (self.fine > level) | self.inside
        if not could.any():
            return out
        spans = ndimage.find_objects(could.view(np.uint8))[0]
        drawn = could[spans] & ~self.outside[spans]
        parts, _ = ndimage.label(drawn)
        touched = np.unique(parts[self.inside[spans] & drawn])
        drawn = np.isin(parts, touched[touched > 0])
        out[spans] = ndimage.binary_fill_holes(drawn) & ~self.outside[spans]
        return out

    def long_axis_mm(self, drawn: np.ndarray) -> float:
        """Longest axial diameter of a mask in the box; 0 for an empty one."""
        if not drawn.any():
            return 0.0
        tight = Mask.from_array(drawn)
        grid = self.field.fine.cropped(tight.start, tight.voxels.shape)
        return measure(tight.voxels, grid, np.zeros(tight.voxels.shape, np.int16)).long_axis_mm


@dataclass(frozen=True)
class Looks:
    """What a mask's plausibility rests on.

    ``length_mm`` and ``band_mm``, its long axis and those of its alternatives; ``effect``, by how much it differs from
    the shell round it, in the scatter of both; ``contrast``, the same in the noise of one voxel; ``full``, its volume
    as a share of the ball over its long axis; ``voxels`` of the scan.
    """

    length_mm: float
    band_mm: tuple[float, float]
    effect: float
    contrast: float
    full: float
    voxels: int


def judged(walked: Walked, looks: Looks, drawn: np.ndarray) -> GrownMask:
    """The mask of a walk, with its band and its plausibility."""
    mask = walked.field.mask(drawn)
    parts = _parts(walked, looks)
    plausibility = 1 / (1 + np.exp(-(BASE + sum(share for share, _, _ in parts))))
    missed, words = min(((share - usual, words) for share, usual, words in parts), key=lambda part: part[0])
    reason = words if missed < -MISSED else ""
    return GrownMask(mask.start, mask.voxels, mask.grid, looks.band_mm, float(plausibility), reason)


def _parts(walked: Walked, looks: Looks) -> list[tuple[float, float, str]]:
    """Of each ground: what it adds in log odds, what it adds to a mask that nothing speaks against, and the words."""
    expected = walked.prompt.expected_mm
    low, high = looks.band_mm
    effect = np.log1p(looks.effect)
    band = min(float(np.log(max(high, 1e-3) / max(low, 1e-3))), 1.5)
    found = [
        (
            EFFECT * effect + UNSEEN * max(0.0, 1 - looks.effect / SEEN),
            EFFECT * np.log1p(1.5),
            "it hardly differs from what is round it",
        ),
        (BAND * band, 0.0, f"its border is unclear: the long axis could be {low:.0f} or {high:.0f} mm"),
        (FULL * np.log(np.clip(looks.full, 0.02, 1)), FULL * np.log(0.5), "it is ragged or flat for its length"),
        (SIZE * np.log(min(looks.voxels, 100)), SIZE * np.log(100), f"it has only {_count(looks.voxels, 'voxel')}"),
    ]
    if expected is not None:
        off = abs(np.log(max(looks.length_mm, 1e-3) / expected))
        words = f"its long axis is {looks.length_mm:.0f} mm, {expected:.0f} mm {walked.prompt.expected_by}"
        found.append((OFF * off, 0.0, words))
    if walked.prompt.guessed:
        words = "a click does not say how large it is, and it hardly differs from what is round it"
        found.append((GUESSED[0] + GUESSED[1] * effect, GUESSED[0] + GUESSED[1] * np.log1p(1.5), words))
    return found


def looks_of(walked: Walked, drawn: np.ndarray) -> Looks:
    """Measured on a walk and the mask (z, y, x) drawn from it in the box of its field."""
    field, grid = walked.field, walked.field.grid
    length = walked.long_axis_mm(drawn)
    others = [walked.long_axis_mm(walked.at(walked.level + step)) for step in ASIDE]
    inside = walked.probability > walked.level
    if not inside.any():
        inside = walked.probability >= walked.probability.max()
    thick = max(SHELL_MM, 0.15 * walked.prompt.size_mm, 1.01 * max(grid.spacing_mm))
    shell = ~inside & (ndimage.distance_transform_edt(~inside, sampling=grid.spacing_mm) <= thick)
    own, around = field.hu[inside], field.hu[shell] if shell.any() else field.hu[inside]
    difference = abs(float(np.median(own)) - float(np.median(around)))
    steps = np.abs(np.diff(field.hu, axis=2))
    noise = max(LEAST_NOISE_HU, float(np.median(steps)) if steps.size else 0.0)
    voxels = int(drawn.sum())
    volume = voxels * abs(np.linalg.det(field.fine.affine[:3, :3]))
    return Looks(
        length,
        (min(length, *others), max(length, *others)),
        difference / float(np.sqrt(own.var() + around.var() + LEAST_NOISE_HU**2)),
        difference / noise,
        volume / (np.pi / 6 * max(length, 1e-3) ** 3),
        voxels,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
