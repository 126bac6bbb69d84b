"""Data sets whose cases carry class labels: of the whole scan, or of points in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .cases import Dataset

SCAN_KINDS = ("cls", "mean", "instances")
POINT_KINDS = ("cls", "mean", "point", "instances")


@dataclass(frozen=True, eq=False)
class Target:
    """What is known of one scan: class numbers ``labels`` (n,) at ``points`` (n, 3) LPS mm; None: of it all, n = 1."""

    labels: np.ndarray
    points: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Labelled:
    """A data set whose cases carry class labels: ``targets`` by case id, ``classes`` by number, the last positive."""

    dataset: Dataset
    targets: Mapping[str, Target]
    classes: tuple[str, ...]

    @property
    def by_point(self) -> bool:
        """Whether labels belong to points and not to whole scans."""
        return any(target.points is not None for target in self.targets.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """The vectors that its samples have."""
        return POINT_KINDS if self.by_point else SCAN_KINDS
