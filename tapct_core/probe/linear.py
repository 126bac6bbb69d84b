"""LinearProbe: segmentation by one linear layer on frozen tokens, fitted from strokes or masks in about a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..progress import Cancel, Progress
from ..volume import LabelMap
from . import fitting, phase, predicting, storage
from .model import PRIOR, Pairs, Probe, Recipe
from .predicting import Like, Region


class LinearProbe(Probe):
    """A probe and all that can be done with it. Immutable: :meth:`extend` and :meth:`adapted` return new ones, so going
    back is keeping the old one.
    """

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
    ) -> Self:
        """Fits a probe on one or more labelled scans; the same seed gives the same probe.

        ``zero``: whether label 0 is "background", "unlabelled", or "auto" (see ``zero_is_background``).
        ``cap``: most voxels a class and scan; by default 2,000, less with very many classes. The rest: Recipe.
        ``progress`` is called with (done, total), ``cancel`` is asked now and then.
        Raises UserError for fewer than two classes, labels outside the scan, or features of different encoders.
        """
        return fitting.fit_probe(
            cls, pairs, Recipe(head, hu_features, standardise, prior, seed), zero, cap, progress, cancel
        )

    def extend(self, pairs: Pairs, zero: str = "unlabelled", cap: int | None = None) -> Self:
        """A new probe that knows new strokes as well; new classes are welcome.

        ``pairs`` hold the *new* strokes only, best as LabelMaps cropped to them. The ridge form adds their sums to
        the old ones and keeps its penalty; the logistic form starts from the old weights. A probe that was loaded has
        no labels with it: its classes and weights are kept, and moved only as far as the strokes demand, of which those
        of one class are enough.
        """
        return fitting.extend_probe(self, pairs, zero, cap)

    def adapted(self, features: FeatureMap) -> Self:
        """This probe with the class frequencies of another scan, estimated from it without labels (Saerens 2002).

        Helps where a class is rarer or commoner than in the scans fitted on, and where HU differ; it cannot bring back
        a class that the probe never ranks first.
        """
        return phase.adapted(self, features)

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
        no stroke of their class, "largest" those much smaller than a class's largest. Voxels without features are
        background.
        Raises UserError for features of another encoder or plan, ProbeCancelled when ``cancel`` says so.
        """
        return predicting.predict(self, features, like, region, guided, keep, strokes, progress, cancel)

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
        return predicting.predict_slabs(self, features, like, first, guided, strokes, cancel)

    def probabilities(
        self, features: FeatureMap, like: Like = None, *, value: int, region: Region | None = None
    ) -> np.ndarray:
        """Probability of class ``value`` (its label) at each voxel, float16 (z, y, x); 0 where there are no features.

        One class at a time, since all of them would be classes x voxels. They are the head's own, so only as
        calibrated as its labels are typical.
        """
        if value not in self.classes:
            raise UserError(f"this probe has no class {value}; it knows {', '.join(map(str, self.classes))}")
        which = self.classes.index(value)
        return predicting.probability_map(self, features, like, region, lambda p: p[which], empty=0.0)

    def uncertainty(self, features: FeatureMap, like: Like = None, *, region: Region | None = None) -> np.ndarray:
        """1 - (best - second best probability), float16 (z, y, x): 0 sure, 1 undecided; 1 without features."""
        return predicting.probability_map(self, features, like, region, predicting.margin, empty=1.0)

    def save(self, path: str | Path) -> Path:
        """Writes a folder (probe.safetensors and a readable probe.json), or one file if named *.safetensors."""
        return storage.save_probe(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what :meth:`save` wrote. Raises UserError for anything else."""
        return storage.load_probe(cls, path)
