"""Segmentation by a linear head on frozen features: heads of all folds, then every tested case scored on its own grid.

rows/ROW/embed/CASE.json           the case's features (embeddings/embed_cases.py)
rows/ROW/heads/FOLD.json           which cases a head learnt from, its loss curve
rows/ROW/heads/FOLD.safetensors    the head, a LinearProbe
rows/ROW/segmentations/CASE.nii.gz what it found, on the scan's own grid
rows/ROW/scores/CASE.json          Dice and surface distances by class
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.io import save_labels
from tapct_core.probe import LinearProbe
from tapct_core.probe.conv_blocks import pool_bytes
from tapct_core.store import FeatureStore
from tapct_core.volume import LabelMap

from ..datasets.cases import Case, Dataset, Fold, Split
from ..embeddings.embed_cases import Embedded, embed_cases, labels_of
from ..embeddings.rows import LoadedRow
from ..heads.linear_conv import fit_linear_conv
from ..metrics.overlap import score_case
from ..runs.run_folder import Outcome, RunFolder, each, file_name

HEADS = ("conv", "ridge", "logistic")
MOST_CLASSES = 250
KEPT_BYTES = 3e9
"""Scans that stay in memory while heads are fitted: the closed form reads every scan several times."""


@dataclass(frozen=True)
class Task:
    """What is asked of every row alike. ``head``: the linear convolution, or a probe in closed or logistic form."""

    dataset: Dataset
    split: Split
    head: str = "conv"
    steps: int = 1500
    seed: int = 0


@dataclass(frozen=True, eq=False)
class RowScores:
    """One row after all its cases: ``scores`` by case as overlap.score_case gives them, what broke, and the rest."""

    row: LoadedRow
    embedded: Embedded
    heads: Outcome
    scores: Outcome
    classes: dict[int, str]

    @property
    def broken(self) -> dict[str, str]:
        """Every case that could not be used, for training or testing, and why."""
        return {**self.embedded.outcome.broken, **self.scores.broken}


def evaluate_row(run: RunFolder, store: FeatureStore, row: LoadedRow, task: Task) -> RowScores:
    """Embeds, fits and scores one row; what the run folder has already is not done again. Raises UserError."""
    run.add_row(row.name, row.facts())
    cases = task.dataset.by_id()
    embedded = embed_cases(run, row, cases, store)
    classes = found_classes(task.dataset, embedded)
    embedded = _without_strays(embedded, classes)
    heads = _fit_heads(run, embedded, task, classes)
    fold_of = {id: fold.name for fold in task.split.folds for id in fold.test}
    tested = {id: cases[id] for id in task.split.tested if id in embedded.outcome.results}

    @lru_cache(maxsize=4)
    def head(fold: str) -> LinearProbe:
        if fold not in heads.results:
            raise UserError(f"there is no head for it: {heads.broken[fold]}")
        return LinearProbe.load(_head_file(run, row, fold))

    def score(case: Case) -> dict:
        began = time.perf_counter()
        probe = head(fold_of[case.id])
        truth = labels_of(case)
        prediction = probe.predict(embedded.features(case.id), like=truth)
        save_labels(prediction, segmentation_file(run, row.name, case.id), like=truth.source)
        return {
            "classes": score_case(prediction, truth, tuple(classes)),
            "fold": fold_of[case.id],
            "seconds": time.perf_counter() - began,
        }

    scores = each(
        run,
        run.part(row.name, "scores"),
        tested,
        score,
        key=lambda id: f"{heads.results.get(fold_of[id], {}).get('head')} {embedded.key(id)} {sorted(classes)}",
        what=f"segmenting with {row.name}",
    )
    return RowScores(row, embedded, heads, scores, classes)


def segmentation_file(run: RunFolder, row: str, case: str) -> Path:
    """Where a row's segmentation of a case lies."""
    return run.path / run.part(row, "segmentations") / f"{file_name(case)}.nii.gz"


def head_bytes(row: LoadedRow, task: Task) -> float:
    """Memory that fitting a head takes at most, in bytes: a pool of blocks, or the scans that stay."""
    width = 64 if row.encoder is None else row.encoder.embed_dim
    most = max(len(fold.train) for fold in task.split.folds)
    return pool_bytes(most, width) if task.head == "conv" else KEPT_BYTES


def found_classes(dataset: Dataset, embedded: Embedded) -> dict[int, str]:
    """Label value -> name, background left out: as the data set says, else whatever its label maps hold.

    Raises UserError where there is nothing but background, or more classes than a head takes.
    """
    classes = dict(dataset.classes)
    if not classes:
        names: dict[str, str] = {}
        for result in embedded.outcome.results.values():
            names = {**result["label_names"], **names}
        values = {int(value) for result in embedded.outcome.results.values() for value in result["labels"] or ()}
        classes = {value: names.get(str(value), f"label {value}") for value in sorted(values - {0})}
    if not classes:
        raise UserError(f"the label maps of {dataset.name} hold nothing but 0; there is nothing to learn")
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{dataset.name} has {len(classes)} classes, a head takes {MOST_CLASSES}; merge some")
    return classes


def _without_strays(embedded: Embedded, classes: dict[int, str]) -> Embedded:
    """Cases whose label map holds a value that the data set does not name are broken ones too."""
    good: dict[str, dict] = {}
    broken = dict(embedded.outcome.broken)
    for id, result in embedded.outcome.results.items():
        strays = sorted({int(value) for value in result["labels"] or ()} - {0, *classes})
        if strays:
            broken[id] = f"its label map holds {', '.join(map(str, strays[:5]))}, which the data set does not name"
        else:
            good[id] = result
    if not good:
        raise UserError(f"no label map fits the classes of the data set; the first: {next(iter(broken.values()))}")
    return replace(embedded, outcome=Outcome(good, broken))


def _fit_heads(run: RunFolder, embedded: Embedded, task: Task, classes: dict[int, str]) -> Outcome:
    folds = {fold.name: fold for fold in task.split.folds}

    def fit(fold: Fold) -> dict:
        train = _learnt_from(fold, embedded)
        if not train:
            raise UserError(f"none of the {len(fold.train)} cases to learn from can be used")
        began = time.perf_counter()
        probe, curve = _fit(Pairs(embedded, train), task, classes, embedded.row)
        file = _head_file(run, embedded.row, fold.name)
        file.unlink(missing_ok=True)
        probe.save(file)
        return {
            "head": hashlib.sha256(probe.weights.tobytes() + probe.constants.tobytes()).hexdigest()[:16],
            "train": train,
            "curve": curve,
            "seconds": time.perf_counter() - began,
            "facts": probe.facts,
        }

    def key(name: str) -> str:
        made_of = [task.head, task.steps, task.seed, sorted(classes.items())]
        made_of += [embedded.key(id) for id in _learnt_from(folds[name], embedded)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    what = f"fitting {task.head} heads on {embedded.row.name}"
    return each(run, run.part(embedded.row.name, "heads"), folds, fit, key=key, what=what)


def _fit(pairs: Pairs, task: Task, classes: dict[int, str], row: LoadedRow) -> tuple[LinearProbe, list[list[float]]]:
    """The head, and its loss curve where it has one. Without an encoder the columns are HU statistics of each token."""
    hu_features = "token" if row.encoder is None else None
    if task.head != "conv":
        probe = LinearProbe.fit(pairs, head=task.head, hu_features=hu_features, zero="background", seed=task.seed)
        return probe, []
    device = "cpu" if row.encoder is None else str(row.encoder.device)
    values = (0, *classes)
    return fit_linear_conv(pairs, len(pairs), values, classes, hu_features, task.steps, task.seed, device)


class Pairs(Sequence):
    """(features, labels) of cases, read when they are asked for; the first ones stay in memory, up to KEPT_BYTES."""

    def __init__(self, embedded: Embedded, ids: Sequence[str], kept: dict | None = None) -> None:
        self.embedded, self.ids = embedded, list(ids)
        self._kept: dict[str, tuple[FeatureMap, LabelMap]] = {} if kept is None else kept

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, which):
        if isinstance(which, slice):
            return Pairs(self.embedded, self.ids[which], self._kept)
        id = self.ids[which]
        if id in self._kept:
            return self._kept[id]
        pair = (self.embedded.features(id), labels_of(self.embedded.cases[id]))
        if sum(map(_bytes, self._kept.values())) + _bytes(pair) <= KEPT_BYTES:
            self._kept[id] = pair
        return pair

    def __iter__(self) -> Iterator[tuple[FeatureMap, LabelMap]]:
        return (self[number] for number in range(len(self)))


def _bytes(pair: tuple[FeatureMap, LabelMap]) -> int:
    features, labels = pair
    return features.tokens.nbytes + features.hu.nbytes + labels.labels.nbytes


def _learnt_from(fold: Fold, embedded: Embedded) -> list[str]:
    return [id for id in fold.train if id in embedded.outcome.results]


def _head_file(run: RunFolder, row: LoadedRow, fold: str) -> Path:
    return run.path / run.part(row.name, "heads") / f"{file_name(fold)}.safetensors"


def empty_cases(scores: Mapping[str, dict]) -> list[str]:
    """Cases whose truth holds none of the classes: they enter no mean."""
    return [id for id, result in scores.items() if not any(c["ml_truth"] for c in result["classes"].values())]
