"""The rows: the engine, the engine with a stage left out, what it replaces, and rivals. All get the same task.

A row is made for a task and answers strokes with labels (z, y, x), background 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from benchmarks.probe.forest import ilastik_features
from scipy import ndimage

from tapct_core.delineation.appearance import Columns
from tapct_core.delineation.engine import Delineation
from tapct_core.delineation.grid import WorkGrid
from tapct_core.delineation.marks import read_marks
from tapct_core.embedding import embed, embed_cached
from tapct_core.encoders import Encoder, untrained_twin
from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe
from tapct_core.volume import LabelMap

from .tasks import Task

TREES, FOREST_CELLS = 100, 3_000
GROWING_SEEDS = 200


class TokensOnly(Columns):
    """Columns of HU are zero, so that nothing is learned from them."""

    def at(self, cells: np.ndarray) -> np.ndarray:
        columns = super().at(cells)
        if self.tokens is not None:
            columns[:, self.tokens.shape[-1] :] = 0
        return columns


class WithoutHu(Delineation):
    """Appearance by tokens alone."""

    @property
    def columns(self) -> Columns:
        self._only = getattr(self, "_only", None) or TokensOnly(self.grid, self.features)
        return self._only


class WithoutWalk(Delineation):
    """Appearance is the answer; strokes stay strokes."""

    def _walked(self, lattice, seeds, prior, start, cancel):
        fixed = np.eye(prior.shape[1], dtype=np.float32)
        return np.where(seeds[:, None] > 0, fixed[np.maximum(seeds - 1, 0)], prior)


class WithoutPrior(Delineation):
    """The walk from strokes alone."""

    def _walked(self, lattice, seeds, prior, start, cancel):
        flat = np.full_like(prior, 1 / prior.shape[1])
        tie = np.full(len(prior), 1e-6, np.float32)
        return lattice.solve(seeds, prior.shape[1], flat, tie, start, 2e-2, cancel)


class WithoutTidying(Delineation):
    """Stray pieces stay."""

    def _tidied(self, found, prior, seeds):
        labels = np.full(self.grid.body.shape, -1, np.int16)
        labels[self.grid.body] = found.argmax(axis=1)
        return labels


class WithoutFineBorders(Delineation):
    """Cells are the answer."""

    def _tile(self, answer, tile, cancel):
        labels = self.grid.up(answer.labels[tile] + 1, tile.start)
        return self._part(answer.marks, labels, tile.start * self.grid.block[0], final=True)


@dataclass
class Engine:
    """A Delineation of some class and features."""

    one: Delineation

    def answer(self, strokes: LabelMap) -> np.ndarray:
        return self.one.run(strokes).labels


@dataclass
class Probe:
    """What the Segment widget did before: the linear probe, borders drawn by the guided filter."""

    task: Task
    features: FeatureMap
    hu_features: str | None

    def answer(self, strokes: LabelMap) -> np.ndarray:
        probe = LinearProbe.fit([(self.features, strokes)], zero="unlabelled", hu_features=self.hu_features)
        labels = probe.predict(self.features, self.task.volume, guided=True, strokes=strokes).labels
        return np.where(labels == probe.background, 0, labels)


@dataclass
class SkimageWalker:
    """scikit-image's random walker with its own beta, in the body of the cut."""

    task: Task
    body: np.ndarray

    def answer(self, strokes: LabelMap) -> np.ndarray:
        import warnings

        from skimage.segmentation import random_walker

        seeds = np.where(self.body | (strokes.labels > 0), strokes.labels, -1).astype(np.int32)
        hu = np.clip(self.task.volume.hu, -1000, 400).astype(float)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # probabilities beyond 0 and 1
            found = random_walker(hu, seeds, mode="cg_j", tol=1e-2, spacing=self.task.volume.geometry.spacing_mm)
        return np.where(found == max(strokes.names), 0, np.maximum(found, 0))


@dataclass
class Forest:
    """A random forest on multi-scale HU, as ilastik and convpaint have them, on the engine's cells, since it takes
    minutes on small voxels; painted voxels keep their label."""

    grid: WorkGrid
    maps: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        maps = ilastik_features(self.grid.hu, self.grid.geometry.spacing_mm)
        self.maps = np.ascontiguousarray(maps[:, self.grid.body].T)

    def answer(self, strokes: LabelMap) -> np.ndarray:
        from sklearn.ensemble import RandomForestClassifier

        marks = read_marks(self.grid, strokes)
        some = np.arange(len(marks.cells))
        if len(some) > FOREST_CELLS:
            some = np.random.default_rng(0).choice(some, FOREST_CELLS, replace=False)
        model = RandomForestClassifier(TREES, class_weight="balanced", random_state=0, n_jobs=1)
        found = model.fit(self.maps[marks.cells[some]], marks.index[some]).predict(self.maps)
        out = np.zeros(self.grid.body.shape, np.uint8)
        out[self.grid.body] = found + 1
        out = marks.shown[self.grid.up(out)]
        marks.paint(out, (0, 0, 0))
        return out


@dataclass
class Growing:
    """SimpleITK's confidence-connected growing from each class's strokes; where two meet the earlier one stays."""

    task: Task

    def answer(self, strokes: LabelMap) -> np.ndarray:
        import SimpleITK as sitk  # noqa: N813

        smooth = ndimage.gaussian_filter(self.task.volume.hu.astype(np.float32), 0.7)
        image, background = sitk.GetImageFromArray(smooth), max(strokes.names)
        out = np.zeros(strokes.labels.shape, np.uint8)
        for value in np.unique(strokes.labels[strokes.labels > 0]):
            if value == background:
                continue
            seeds = np.argwhere(strokes.labels == value)
            seeds = seeds[:: max(1, len(seeds) // GROWING_SEEDS)]
            grown = sitk.ConfidenceConnected(image, [tuple(int(i) for i in s[::-1]) for s in seeds], 2, 2.0, 1, 1)
            out[(sitk.GetArrayFromImage(grown) > 0) & (out == 0)] = value
        out = np.where(strokes.labels > 0, strokes.labels, out)
        return np.where(out == background, 0, out)


@dataclass
class GrowCut:
    """ITK's fast GrowCut from the same strokes, in the cut."""

    task: Task

    def answer(self, strokes: LabelMap) -> np.ndarray:
        import itk

        image = itk.image_from_array(np.clip(self.task.volume.hu, -1000, 400).astype(np.float32))
        seeds = itk.image_from_array(strokes.labels.astype(np.uint8))
        found = itk.array_from_image(itk.fast_grow_cut(image, seed_image=seeds))
        return np.where(found == max(strokes.names), 0, found)


def rows(task: Task, encoder: Encoder, body: np.ndarray) -> dict[str, Callable[[], object]]:
    """Name -> what makes the row. Features are those of the whole scan, and shared."""

    def features() -> FeatureMap:
        return embed_cached(task.whole, encoder)

    def untrained() -> FeatureMap:
        return embed(task.whole, untrained_twin(encoder))

    found = {
        "engine": lambda: Engine(Delineation(task.volume, features())),
        "engine, HU alone": lambda: Engine(Delineation(task.volume)),
        "engine, tokens alone": lambda: Engine(WithoutHu(task.volume, features())),
        "engine, untrained tokens and HU": lambda: Engine(Delineation(task.volume, untrained())),
        "engine without the walk": lambda: Engine(WithoutWalk(task.volume, features())),
        "engine without the prior": lambda: Engine(WithoutPrior(task.volume, features())),
        "engine without tidying": lambda: Engine(WithoutTidying(task.volume, features())),
        "engine without fine borders": lambda: Engine(WithoutFineBorders(task.volume, features())),
        "before: probe on tokens, edges": lambda: Probe(task, features(), None),
        "before: probe on tokens and HU, edges": lambda: Probe(task, features(), "voxel"),
        "scikit-image's random walker": lambda: SkimageWalker(task, body),
        "random forest on multi-scale HU": lambda: Forest(WorkGrid.of(task.volume)),
        "region growing": lambda: Growing(task),
        "ITK's GrowCut": lambda: GrowCut(task),
    }
    if not any(step < 1.5 for step in task.volume.geometry.spacing_mm):
        del found["engine without fine borders"]  # voxels are cells
    return found
