"""Splits: a patient never stands on both sides, every case is tested once, and what is chosen is written in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapct_core.errors import UserError
from training.evaluate.datasets.cases import Case, Dataset, official_or_seeded, stamp
from training.evaluate.heads.cross_validation import own_folds


def dataset(patients: list[int], splits: list[str] | None = None) -> Dataset:
    splits = splits or [""] * len(patients)
    cases = [
        Case(f"c{i}", Path(f"c{i}.nii"), split=split, group=f"p{patient}")
        for i, (patient, split) in enumerate(zip(patients, splits, strict=True))
    ]
    return Dataset("mine", tuple(cases))


@given(st.lists(st.integers(0, 6), min_size=4, max_size=25), st.integers(2, 4), st.integers(0, 5))
def test_folds_never_part_a_patient_and_test_everybody_once(patients, folds, seed):
    if len(set(patients)) < folds:
        with pytest.raises(UserError, match="too few"):
            official_or_seeded(dataset(patients), folds, seed)
        return
    data = dataset(patients)
    split = official_or_seeded(data, folds, seed)
    patient = {case.id: case.group for case in data.cases}
    assert sorted(split.tested) == sorted(patient)
    for fold in split.folds:
        assert fold.test and set(fold.train) | set(fold.test) == set(patient)
        assert not {patient[id] for id in fold.train} & {patient[id] for id in fold.test}


def test_a_seed_decides_and_is_said():
    data = dataset(list(range(20)))
    first, again, other = (official_or_seeded(data, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.folds != other.folds
    assert len(first.tested) == 4 and "seed 1" in first.words and "4 of 20" in first.words


def test_the_official_split_is_taken_unless_folds_are_asked_for():
    data = dataset([0, 1, 2, 3], ["train", "test", "train", "test"])
    official = official_or_seeded(data)
    assert [(fold.train, fold.test) for fold in official.folds] == [(("c0", "c2"), ("c1", "c3"))]
    assert "own split" in official.words
    assert len(official_or_seeded(data, folds=2).folds) == 2


def test_a_patient_on_both_sides_of_a_split_is_refused():
    cases = [Case(f"c{n}", Path("ct"), split=split, group=group) for n, (split, group) in enumerate(
        [("train", "p1"), ("train", "p2"), ("test", "p1"), ("test", "")]
    )]  # fmt: skip
    shared = Dataset("own", tuple(cases))
    with pytest.raises(UserError, match="c0 and c2 are of one patient"):
        official_or_seeded(shared)
    assert len(official_or_seeded(shared, folds=3).folds) == 3
    with pytest.raises(UserError, match="of one patient"):
        own_folds(shared)


def test_names_are_unique_however_they_are_written():
    with pytest.raises(UserError, match="twice"):
        Dataset("mine", (Case("A", Path("a")), Case("a", Path("b"))))
    with pytest.raises(UserError, match="no cases"):
        Dataset("mine", ())


def test_a_stamp_changes_with_the_file(tmp_path):
    file = tmp_path / "a.nii"
    absent = stamp([file])
    file.write_bytes(b"1")
    there = stamp([file])
    file.write_bytes(b"22")
    assert len({absent, there, stamp([file])}) == 3
