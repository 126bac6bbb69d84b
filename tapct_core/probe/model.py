"""What a probe is: a linear layer on frozen tokens, how it was fitted, and what it keeps of its labels.

What can be done with one stands in files beside this, each of which imports it; ``LinearProbe`` puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ..features import FeatureMap
from ..volume import LabelMap
from .discriminant import Moments
from .sampling import BACKGROUND_NAME

HEADS = ("ridge", "logistic", "conv")
STANDARDS = ("scan", "fit")
HU_FEATURES = (None, "token", "voxel")
"""Nothing; HU on the token grid; or these and multi-scale filters read at each voxel, which see finer but less far."""
PRIOR = 0.25
"""Chosen on dev patients by mean Dice: equal classes overrate small ones, true frequencies lose them."""

CLIP = 30.0
"""Deviations. HU that a scan hardly holds make columns that are nearly always 0: without a limit one voxel of metal
lies 1,000 deviations off, and the products of such columns cannot be solved in float32. Mean Dice of tissues from
strokes on two dev scans, HU per token / per voxel: 0.41 / 0.67 without a limit, 0.43 / 0.70 at 30, 0.41 / 0.69 at 10,
0.39 / 0.63 at 5; what lies within 30 reads as before."""

Pairs = Sequence[tuple[FeatureMap, LabelMap]]


@dataclass(frozen=True)
class Recipe:
    """How a probe is fitted; saved with it.

    ``head``        "ridge" (closed form, live), "logistic" (LBFGS) or "conv" (gradient, Dice + cross-entropy).
    ``hu_features`` None, "token" (mean and deviation of HU a token) or "voxel" (these, and multi-scale filters at each
                    voxel: smoothed HU, gradient, Laplacian).
    ``standardise`` "scan": each scan by its own statistics; "fit": all by those of the first scans fitted on.
    ``prior``       for full masks, 0: classes are equally likely; 1: as frequent as in the masks; between: a
                    compromise. Strokes say nothing about frequency.
    ``clip``        see Standard; None only in probes saved before there was a limit, which read columns as they did.
    """

    head: str = "ridge"
    hu_features: str | None = None
    standardise: str = "scan"
    prior: float = PRIOR
    seed: int = 0
    clip: float | None = CLIP

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("head", self.head, HEADS),
            ("hu_features", self.hu_features, HU_FEATURES),
            ("standardise", self.standardise, STANDARDS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and standard deviation (D,) of each column, float64; values further than ``clip`` deviations off are taken
    for values so far off (None: as they are)."""

    mean: np.ndarray
    std: np.ndarray
    clip: float | None = CLIP

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Columns of mean 0 and deviation 1, float32."""
        scaled = ((x - self.mean) / self.std).astype(np.float32)
        return scaled if self.clip is None else np.clip(scaled, -self.clip, self.clip, out=scaled)

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest raw value (D,) float32 that is told apart in each column."""
        reach = np.inf if self.clip is None else self.clip * self.std
        return (self.mean - reach).astype(np.float32), (self.mean + reach).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Memory:
    """What a probe keeps of its labels so that strokes can be added: standardised columns and their moments."""

    x: np.ndarray  # (N, D)
    index: np.ndarray  # (N,) into the probe's classes
    groups: np.ndarray  # (N,)
    moments: Moments
    penalty: float
    scale: float
    shift: np.ndarray  # (K,) what the classes' frequencies add to the constants


@dataclass(frozen=True, eq=False)
class Probe:
    """Score of class k at a place: ``columns @ weights[:, k] + constants[k]``, the columns being standardised.

    ``classes`` are the label values in order; ``names`` and ``colours`` (RGB 0-255) by value. ``provenance`` is that
    of the features fitted on, ``dim`` their length, ``standard`` their statistics; ``facts`` say how it was fitted.
    """

    classes: tuple[int, ...]
    weights: np.ndarray
    constants: np.ndarray
    standard: Standard
    recipe: Recipe
    dim: int
    provenance: dict[str, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    memory: Memory | None = None

    @property
    def background(self) -> int:
        """The label value of background: 0, unless a class has that name."""
        names = {value: self.names.get(value, "").strip().casefold() for value in self.classes}
        named = [value for value, name in names.items() if name == BACKGROUND_NAME]
        return named[0] if named else 0


AnyProbe = TypeVar("AnyProbe", bound=Probe)
"""What a verb returns is of the kind that it was given."""
