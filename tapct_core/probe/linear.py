"""LinearProbe: segmentation by one linear layer on frozen tokens, fitted from strokes or masks in about a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..progress import Cancel, Progress
from ..volume import LabelMap
from .channels import HU_FEATURES, Standard
from .discriminant import Moments
from .predicting import Like, Region
from .sampling import BACKGROUND_NAME

HEADS = ("ridge", "logistic", "conv")
STANDARDS = ("scan", "fit")
PRIOR = 0.25
"""Chosen on dev patients by mean Dice: equal classes overrate small ones, true frequencies lose them."""

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
    """

    head: str = "ridge"
    hu_features: str | None = None
    standardise: str = "scan"
    prior: float = PRIOR
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("head", self.head, HEADS),
            ("hu_features", self.hu_features, HU_FEATURES),
            ("standardise", self.standardise, STANDARDS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")


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
class LinearProbe:
    """Score of class k at a place: ``columns @ weights[:, k] + constants[k]``, the columns being standardised.

    ``classes`` are the label values in order; ``names`` and ``colours`` (RGB 0-255) by value. ``provenance`` is that
    of the features fitted on, ``dim`` their length, ``standard`` their statistics; ``facts`` say how it was fitted.
    Immutable: :meth:`extend` returns a new probe, so going back is keeping the old one.
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

    @classmethod
    def fit(
        cls,
        pairs: Pairs,
        head: str = "ridge",
        hu_features: str | None = None,
        standardise: str = "scan",
        zero: str = "auto",
        prior: float = PRIOR,
        cap: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> LinearProbe:
        """Fits a probe on one or more labelled scans; the same seed gives the same probe.

        ``zero``: whether label 0 is "background", "unlabelled", or "auto" (see ``zero_is_background``).
        ``cap``: most voxels a class and scan; by default 2,000, less with very many classes. The rest: Recipe.
        ``progress`` is called with (done, total), ``cancel`` is asked now and then.
        Raises UserError for fewer than two classes, labels outside the scan, or features of different encoders.
        """
        from .fitting import fit_probe

        return fit_probe(cls, pairs, Recipe(head, hu_features, standardise, prior, seed), zero, cap, progress, cancel)

    def extend(self, pairs: Pairs, zero: str = "unlabelled", cap: int | None = None) -> LinearProbe:
        """A new probe that knows new strokes as well; new classes are welcome.

        ``pairs`` hold the *new* strokes only, best as LabelMaps cropped to them. The ridge form adds their sums to
        the old ones and keeps its penalty; the logistic form starts from the old weights.
        Raises UserError for a probe that was loaded (labels are not saved with it) or fitted by convolution.
        """
        from .fitting import extend_probe

        return extend_probe(self, pairs, zero, cap)

    def adapted(self, features: FeatureMap) -> LinearProbe:
        """This probe with the class frequencies of another scan, estimated from it without labels (Saerens 2002).

        Helps where a class is rarer or commoner than in the scans fitted on, and where HU differ; it cannot bring back
        a class that the probe never ranks first.
        """
        from .phase import adapted

        return adapted(self, features)

    @property
    def background(self) -> int:
        """The label value of background: 0, unless a class has that name."""
        names = {value: self.names.get(value, "").strip().casefold() for value in self.classes}
        named = [value for value, name in names.items() if name == BACKGROUND_NAME]
        return named[0] if named else 0

    def predict(
        self,
        features: FeatureMap,
        like: Like = None,
        *,
        region: Region | None = None,
        guided: bool = False,
        keep: str | None = None,
        strokes: LabelMap | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> LabelMap:
        """Labels on the grid of ``like`` (a volume, labels or a Geometry; default: the grid that was embedded).

        ``region`` (slices z, y, x of that grid): only this part, such as the slice on screen. ``guided``: edges of
        HU pull the borders. ``strokes``: painted voxels keep their label. ``keep``: "strokes" drops pieces that touch
        no stroke of their class, "largest" all but a class's largest piece. Voxels without features are background.
        Raises UserError for features of another encoder or plan, ProbeCancelled when ``cancel`` says so.
        """
        from .predicting import predict

        return predict(self, features, like, region, guided, keep, strokes, progress, cancel)

    def predict_slabs(
        self,
        features: FeatureMap,
        like: Like = None,
        *,
        first: int | None = None,
        guided: bool = False,
        strokes: LabelMap | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The whole scan in parts: (slices along z, labels); slice ``first`` alone, then slabs from there outwards."""
        from .predicting import predict_slabs

        return predict_slabs(self, features, like, first, guided, strokes, cancel)

    def probabilities(
        self, features: FeatureMap, like: Like = None, *, value: int, region: Region | None = None
    ) -> np.ndarray:
        """Probability of class ``value`` (its label) at each voxel, float16 (z, y, x); 0 where there are no features.

        One class at a time, since all of them would be classes x voxels. They are the head's own, so only as
        calibrated as its labels are typical.
        """
        from .predicting import probability_map

        if value not in self.classes:
            raise UserError(f"this probe has no class {value}; it knows {', '.join(map(str, self.classes))}")
        which = self.classes.index(value)
        return probability_map(self, features, like, region, lambda p: p[which], empty=0.0)

    def uncertainty(self, features: FeatureMap, like: Like = None, *, region: Region | None = None) -> np.ndarray:
        """1 - (best - second best probability), float16 (z, y, x): 0 sure, 1 undecided; 1 without features."""
        from .predicting import margin, probability_map

        return probability_map(self, features, like, region, margin, empty=1.0)

    def save(self, path: str | Path) -> Path:
        """Writes a folder (probe.safetensors and a readable probe.json), or one file if named *.safetensors."""
        from .storage import save_probe

        return save_probe(self, path)

    @classmethod
    def load(cls, path: str | Path) -> LinearProbe:
        """Reads what :meth:`save` wrote. Raises UserError for anything else."""
        from .storage import load_probe

        return load_probe(path)
