"""What is evaluated: cases with their files, data sets, and splits that keep a patient on one side.

A task gets a :class:`Dataset` from a reader of this folder (or makes its own), a :class:`Split` from
:func:`official_or_seeded`, and hands the cases to ``run.each``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tapct_core.errors import UserError


@dataclass(frozen=True)
class Case:
    """One scan and what belongs to it.

    ``id``      unique in the data set; it is printed and names files, so it must not name a patient.
    ``ct``      a CT file or a DICOM folder, as ``tapct_core.load_ct`` takes.
    ``labels``  its label map, where the task has one.
    ``split``   the data set's own word for its part: "train", "test", a fold's name; "" where it has none.
    ``group``   cases of one group (a patient) are never parted by a split; "" means the case alone.
    ``scan_header``  headers of the data set's label maps are known to be wrong in places: one of the scan's shape lies
                on the scan's grid, whatever its own header says.
    """

    id: str
    ct: Path
    labels: Path | None = None
    split: str = ""
    group: str = ""
    scan_header: bool = False

    def files(self) -> list[Path]:
        """The files this case consists of."""
        return [self.ct] + ([self.labels] if self.labels is not None else [])


@dataclass(frozen=True)
class Dataset:
    """Cases of one data set, in a fixed order.

    ``classes``   label value -> name, background (0) left out; empty where the labels themselves must tell.
    ``left_out``  words about cases that are no part of the task by rule, such as AMOS22's MR scans; they are
                  neither broken nor missing, and are said on the page.
    ``note``      one sentence for the page: what it is and where its labels come from.
    """

    name: str
    cases: tuple[Case, ...]
    classes: dict[int, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for case in self.cases:
            if case.id.casefold() in seen:
                raise UserError(f"{self.name} names the case {case.id} twice; give each scan one line and its own name")
            seen.add(case.id.casefold())
        if not self.cases:
            raise UserError(f"{self.name} has no cases; check --root and its layout")

    def by_id(self) -> dict[str, Case]:
        """The cases by their ids."""
        return {case.id: case for case in self.cases}


@dataclass(frozen=True)
class Fold:
    """One division into cases to learn from and cases to be judged on, by id."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Folds, and in words where they come from. Every case is tested in at most one fold."""

    folds: tuple[Fold, ...]
    words: str

    def as_json(self) -> dict:
        """What is written down in the run folder."""
        folds = [{"name": f.name, "train": list(f.train), "test": list(f.test)} for f in self.folds]
        return {"words": self.words, "folds": folds}

    @property
    def tested(self) -> tuple[str, ...]:
        """Ids of all cases that some fold tests, in the folds' order."""
        return tuple(id for fold in self.folds for id in fold.test)


def official_or_seeded(dataset: Dataset, folds: int | None = None, seed: int = 0, test_share: float = 0.2) -> Split:
    """The data set's own split where it has one and no number of folds was asked for, else a seeded one.

    ``folds`` >= 2: cross-validation over groups; None: one division with ``test_share`` of the groups tested.
    Raises UserError where there are fewer groups than folds, or nothing to test or to learn from.
    """
    own = {case.split for case in dataset.cases}
    if folds is None and {"train", "test"} <= own:
        refuse_shared_patients(dataset)
        train = tuple(case.id for case in dataset.cases if case.split == "train")
        test = tuple(case.id for case in dataset.cases if case.split == "test")
        return Split((Fold("official", train, test),), f"{dataset.name}'s own split: {len(train)} to {len(test)} cases")
    groups = sorted({_group(case) for case in dataset.cases})
    if folds is not None and len(groups) < folds or len(groups) < 2:
        raise UserError(
            f"{dataset.name} has {len(groups)} patient{'s' * (len(groups) != 1)}, too few for {folds or 2} folds; "
            "choose fewer folds or give more cases"
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    if folds is None:
        held_out = max(1, round(test_share * len(groups)))
        parts = [[groups[i] for i in order[:held_out]]]
        words = f"a seeded split by patient (seed {seed}): {held_out} of {len(groups)} patients are tested"
    else:
        parts = [[groups[i] for i in order[k::folds]] for k in range(folds)]
        words = f"{folds}-fold cross-validation by patient (seed {seed}), {len(groups)} patients"
    return Split(tuple(_fold(dataset, str(k), set(part)) for k, part in enumerate(parts)), words)


def refuse_shared_patients(dataset: Dataset) -> None:
    """Raise UserError where the data set's own split puts cases of one patient on two sides."""
    side: dict[str, Case] = {}
    for case in dataset.cases:
        first = side.setdefault(case.group, case) if case.group else case
        if first.split != case.split:
            raise UserError(
                f"{dataset.name}: {first.id} and {case.id} are of one patient, and one is in {first.split}, the other "
                f"in {case.split}, so what is learnt would be tested on itself; put both on one side, or split anew "
                "with --folds"
            )


def stamp(paths: Iterable[Path]) -> str:
    """A short hash of the files' names, sizes and times: it changes when a person puts a file right."""
    facts = []
    for path in paths:
        try:
            found = path.stat()
            facts.append(f"{path.name} {found.st_size} {found.st_mtime_ns}")
        except OSError:
            facts.append(f"{path.name} is not there")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _group(case: Case) -> str:
    return case.group or case.id


def _fold(dataset: Dataset, name: str, tested: set[str]) -> Fold:
    test = tuple(case.id for case in dataset.cases if _group(case) in tested)
    return Fold(name, tuple(case.id for case in dataset.cases if _group(case) not in tested), test)
