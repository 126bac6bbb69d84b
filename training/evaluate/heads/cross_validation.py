"""One run of nested cross-validation of one head on arrays: who learns from whom, which setting, what it says.

Outer folds are the data set's own, or drawn anew for every run by its seed: by patient, with the classes' shares kept
(scikit-learn's StratifiedGroupKFold). Inside every outer fold a head's setting is chosen by inner folds of the training
cases alone, on AUROC within folds, the more restrained one where they tie (Varma & Simon 2006, BMC Bioinformatics 7:91:
an error estimated by the same folds that chose the setting is too low).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapct_core.errors import UserError

from ..datasets.cases import Dataset, refuse_shared_patients
from ..metrics.ranking import Predictions, auroc_ap
from .classifiers import Head, Inputs

INNER_FOLDS = 3
NEGATIVES_PER_POSITIVE = 10
"""Points learnt from in one run: of two very unequal classes at most this many of the larger, drawn by the seed."""
LEARN_ONLY = -1
"""Fold of cases that are learnt from and never tested."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples of one data set: class numbers (N,), patients (N,), and the data set's own folds (N,) or None."""

    labels: np.ndarray
    patients: np.ndarray
    classes: int
    own_folds: np.ndarray | None = None
    thin: bool = False
    """Whether NEGATIVES_PER_POSITIVE holds."""

    def smallest_class(self) -> int:
        """Patients of the rarest class."""
        return min(len(np.unique(self.patients[self.labels == k])) for k in range(self.classes))


@dataclass(frozen=True, eq=False)
class RunResult:
    """What one run says of the tested samples: their numbers (M,), folds (M,), scores (M, K); settings by fold."""

    tested: np.ndarray
    folds: np.ndarray
    scores: np.ndarray
    settings: tuple[float, ...]


def own_folds(dataset: Dataset) -> dict[str, int] | None:
    """Fold number of each case by the data set's own split, LEARN_ONLY for "train"; None where it has none.

    Raises UserError where every case is in one fold, or a split has "train" and other words than "test" beside it.
    """
    names = sorted({case.split for case in dataset.cases})
    if names == [""]:
        return None
    refuse_shared_patients(dataset)
    if names == ["test", "train"]:
        return {case.id: 0 if case.split == "test" else LEARN_ONLY for case in dataset.cases}
    if "train" in names or "test" in names or len(names) < 2:
        raise UserError(
            f"the splits of {dataset.name} are {', '.join(names)}; use train and test, or two or more other names"
        )
    return {case.id: names.index(case.split) for case in dataset.cases}


def check_folds(problem: Problem, classes: tuple[str, ...], folds: int, seed: int) -> None:
    """Raise UserError, before anything is embedded, for folds that leave a class out of what is learnt from."""
    if problem.own_folds is None:
        drawn_folds(problem.labels, problem.patients, folds, seed)
        return
    for fold in np.unique(problem.own_folds[problem.own_folds != LEARN_ONLY]):
        learnt = np.bincount(problem.labels[problem.own_folds != fold], minlength=problem.classes)
        if learnt.min() == 0:
            raise UserError(
                f"outside one of the data set's own folds there is no case of class {classes[int(learnt.argmin())]} to "
                "learn from; draw folds with --folds"
            )


def drawn_folds(labels: np.ndarray, patients: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (N,) of each sample: patients whole, classes spread evenly. Raises UserError where a class has too few."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(patients[labels == k])) for k in np.unique(labels))
    if fewest < folds:
        raise UserError(
            f"{folds} folds need {folds} patients of each class, and the rarest has {fewest}; use fewer with --folds"
        )
    out = np.empty(len(labels), int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    for fold, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, patients)):
        out[test] = fold
    return out


def run_once(head: Head, inputs: Inputs, problem: Problem, folds: int, seed: int, device: str = "cpu") -> RunResult:
    """One run: every outer fold's head, with its setting chosen inside, on the fold's own cases."""
    rng = np.random.default_rng(seed)
    outer = problem.own_folds
    if outer is None:
        outer = drawn_folds(problem.labels, problem.patients, folds, seed)
    scores = np.full((len(outer), problem.classes), np.nan)
    settings = []
    for fold in np.unique(outer[outer != LEARN_ONLY]):
        test = np.flatnonzero(outer == fold)
        train = np.flatnonzero(outer != fold)
        if problem.thin:
            train = _thinned(train, problem.labels, rng)
        fold_seed = int(rng.integers(2**31))
        which = _chosen(head, inputs, problem, train, fold_seed, device)
        fitted = head.fit(inputs[train], problem.labels[train], problem.classes, fold_seed, device)
        scores[test] = fitted[which](inputs[test])
        settings.append(head.settings[which])
    tested = np.flatnonzero(outer != LEARN_ONLY)
    return RunResult(tested, outer[tested], scores[tested], tuple(settings))


def _chosen(head: Head, inputs: Inputs, problem: Problem, train: np.ndarray, seed: int, device: str) -> int:
    """Number of the setting with the best AUROC over inner folds of the training samples; 0 where none can be made."""
    labels, patients = problem.labels[train], problem.patients[train]
    fewest = min(len(np.unique(patients[labels == k])) for k in range(problem.classes))
    folds = min(INNER_FOLDS, fewest)
    if folds < 2:
        return 0
    inner = drawn_folds(labels, patients, folds, seed)
    scores = np.empty((len(head.settings), len(train), problem.classes))
    for fold in range(folds):
        learn, judge = np.flatnonzero(inner != fold), np.flatnonzero(inner == fold)
        if len(np.unique(labels[learn])) < problem.classes:
            return 0  # patients with cases of several classes can leave a side without one
        fitted = head.fit(inputs[train[learn]], labels[learn], problem.classes, seed, device)
        for setting, predict in enumerate(fitted):
            scores[setting, judge] = predict(inputs[train[judge]])
    runs = np.broadcast_to(inner, (len(head.settings), len(train)))
    found = auroc_ap(Predictions(labels, scores, runs, patients), np.ones((1, len(train))))[0, 0]
    return int(np.argmax(np.round(np.nan_to_num(found, nan=0.0), 6)))


def _thinned(train: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All samples of all classes but the largest, and at most NEGATIVES_PER_POSITIVE times as many of that."""
    counts = np.bincount(labels[train])
    largest = labels[train] == counts.argmax()
    most = NEGATIVES_PER_POSITIVE * int((~largest).sum())
    if largest.sum() <= most:
        return train
    kept = rng.choice(train[largest], size=most, replace=False)
    return np.sort(np.append(train[~largest], kept))
