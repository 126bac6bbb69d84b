"""Scans with a label each: a CSV.

    case,ct,label,patient,split
    a,ct/a.nii.gz,malignant,p1,fold 1
    b,ct/b.nii.gz,benign,p2,fold 2

``ct`` and the label's column are needed; paths are taken from the CSV's own folder, and a ``ct`` may be a DICOM folder.
``case`` defaults to the CT's name. Cases of one ``patient`` are never parted. ``split`` is train or test, or the name
of an official fold, or left out: then seeded folds are made. A scan with an empty label is left out, with a count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tapct_core.errors import UserError

from .cases import Case, Dataset
from .folder import LISTING, case_name, read_rows
from .labelled import Labelled, Target

MOST_CLASSES = 20


def read(root: Path, column: str = "label", positive: str | None = None) -> Labelled:
    """The cases of ROOT/cases.csv, or of the CSV that ``root`` is, with the labels of ``column``.

    Classes stand in the order of their names, numbers by size; ``positive`` puts one of two last. Raises UserError
    where a line or the labels cannot be used.
    """
    dataset, words = read_words(root, column)
    classes = _classes(list(words.values()), positive, f"{dataset.name}, column {column}")
    return Labelled(dataset, {id: Target(np.array([classes.index(word)])) for id, word in words.items()}, classes)


def read_words(root: Path, column: str) -> tuple[Dataset, dict[str, str]]:
    """The cases that have a word in ``column``, and that word by case id. Raises UserError naming the line."""
    listing = root / LISTING if root.is_dir() else root
    cases: list[Case] = []
    words: list[str] = []
    empty = 0
    for line, row in enumerate(read_rows(listing, ("ct", column)), start=2):
        if not row["ct"]:
            raise UserError(f"{listing.name}, line {line}: ct is empty; name the file")
        if not row[column]:
            empty += 1
            continue
        id = row.get("case") or case_name(row["ct"])
        split, patient = row.get("split", ""), row.get("patient", "")
        cases.append(Case(id, listing.parent / row["ct"], split=split, group=patient))
        words.append(row[column])
    if not cases:
        raise UserError(f"{listing.name}: no scan has a {column}; fill the column in")
    if any(case.split for case in cases) and not all(case.split for case in cases):
        raise UserError(f"{listing.name} gives some cases a split and others none; give all of them one, or none")
    _check_patients(cases, listing.name)
    dataset = Dataset(
        listing.parent.resolve().name if listing.name == LISTING else listing.stem,
        tuple(cases),
        left_out=(f"{empty} scan{'s' * (empty != 1)} without a {column}",) if empty else (),
        note=f"A CSV of scans, labels of its column {column}.",
    )
    return dataset, {case.id: word for case, word in zip(cases, words, strict=True)}


def _classes(words: list[str], positive: str | None, where: str) -> tuple[str, ...]:
    try:
        names = sorted(set(words), key=float)
    except ValueError:
        names = sorted(set(words))
    if len(names) < 2:
        raise UserError(f"{where}: every scan has the label {names[0]}; two classes or more are needed")
    if len(names) > MOST_CLASSES or min(words.count(name) for name in names) < 2:
        raise UserError(
            f"{where} has {len(names)} labels, some of a single scan; classes are needed, at most {MOST_CLASSES} and "
            "of two scans each (cut a number into ranges first)"
        )
    if positive is None:
        return tuple(names)
    if len(names) != 2 or positive not in names:
        raise UserError(f"{where}: the positive class is one of two, and its labels are {', '.join(names)}")
    return tuple(sorted(names, key=lambda name: name == positive))


def _check_patients(cases: list[Case], listing: str) -> None:
    """A patient must not stand on two sides of an official split."""
    where: dict[str, str] = {}
    for case in cases:
        if case.group and where.setdefault(case.group, case.split) != case.split:
            raise UserError(f"{listing}: the patient of case {case.id} stands in two splits; keep a patient in one")
