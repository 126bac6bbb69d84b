"""Nested cross-validation: patients stay whole, nobody judges what he has seen, settings are chosen inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tapct_core.errors import UserError
from training.evaluate.datasets.cases import Case, Dataset
from training.evaluate.heads.classifiers import HEADS
from training.evaluate.heads.cross_validation import LEARN_ONLY, Problem, check_folds, drawn_folds, own_folds, run_once


@dataclass
class Recorder:
    """A head that notes whom it learns from and judges; inputs are sample numbers. Its second setting knows the truth
    in ``answers``, the others answer by chance."""

    answers: np.ndarray
    settings: tuple[float, ...] = (1.0, 2.0, 3.0)
    fits: list[tuple[set[int], list[set[int]]]] = field(default_factory=list)

    def fit(self, inputs, labels, classes, seed, device):
        judged: list[set[int]] = []
        self.fits.append((set(inputs[:, 0].tolist()), judged))

        def predictor(number):
            def predict(others):
                judged.append(set(others[:, 0].tolist()))
                if number == 1:
                    return np.eye(classes)[self.answers[others[:, 0]]]
                return np.random.default_rng(number).normal(size=(len(others), classes))

            return predict

        return [predictor(number) for number in range(len(self.settings))]


def problem(patients=20, each=2, classes=2, **more) -> Problem:
    patient = np.repeat(np.arange(patients), each)
    return Problem((np.arange(patients) % classes)[patient], patient.astype(str), classes, **more)


def test_drawn_folds_keep_patients_whole_and_classes_spread():
    p = problem(each=3)
    folds = drawn_folds(p.labels, p.patients, 4, seed=7)
    assert all(len(np.unique(folds[p.patients == one])) == 1 for one in np.unique(p.patients))
    assert all(set(p.labels[folds == fold]) == {0, 1} for fold in range(4))
    assert np.array_equal(folds, drawn_folds(p.labels, p.patients, 4, seed=7))
    assert not np.array_equal(folds, drawn_folds(p.labels, p.patients, 4, seed=8))
    with pytest.raises(UserError, match="rarest has 10; use fewer"):
        drawn_folds(p.labels, p.patients, 11, seed=7)


def test_nobody_judges_whom_it_or_its_choice_has_seen():
    p = problem()
    head = Recorder(p.labels)
    numbers = np.arange(len(p.labels))[:, None]
    result = run_once(head, numbers, p, folds=4, seed=0)
    for learnt, judged in head.fits:
        of_learnt = {p.patients[i] for i in learnt}
        for samples in judged:
            assert of_learnt.isdisjoint(p.patients[i] for i in samples)
    # per outer fold: three inner fits, all within what the fourth, the fold's own, then learns from
    for fold, start in enumerate(range(0, len(head.fits), 4)):
        *inner, (learnt, judged) = head.fits[start : start + 4]
        outer = set(result.tested[result.folds == fold].tolist())
        assert judged == [outer] and learnt == set(range(len(p.labels))) - outer
        for own, seen in inner:
            assert own | set().union(*seen) <= learnt
    assert result.settings == (2.0,) * 4 and np.isfinite(result.scores).all()
    assert set(result.tested) == set(range(len(p.labels)))


def test_where_settings_tie_the_more_restrained_one_is_taken():
    p = problem()
    head = Recorder(np.zeros(len(p.labels), int), settings=(1.0, 2.0))  # its second setting always says class 0
    head.fit = lambda *_: [lambda others: np.zeros((len(others), 2))] * 2
    assert set(run_once(head, np.arange(len(p.labels))[:, None], p, 4, seed=0).settings) == {1.0}


def test_own_folds_are_used_and_what_is_learn_only_is_never_judged():
    folds = np.repeat([LEARN_ONLY, 0, 1], [20, 10, 10])
    p = problem(own_folds=folds)
    head = Recorder(p.labels)
    result = run_once(head, np.arange(40)[:, None], p, folds=99, seed=0)
    assert result.tested.tolist() == list(range(20, 40)) and result.folds.tolist() == [0] * 10 + [1] * 10


def test_many_negatives_are_thinned_for_learning_and_all_of_them_judged():
    patient = np.repeat(np.arange(20), 50)
    labels = (np.arange(1000) % 50 == 0).astype(int)  # one positive a patient
    p = Problem(labels, patient.astype(str), 2, thin=True)
    head = Recorder(labels)
    result = run_once(head, np.arange(1000)[:, None], p, folds=4, seed=3)
    assert len(result.tested) == 1000
    sizes = [len(learnt) for learnt, _ in head.fits[3::4]]
    assert sizes == [15 * 11] * 4  # 15 positives and ten negatives each
    assert all(labels[list(learnt)].sum() == 15 for learnt, _ in head.fits[3::4])
    again = Recorder(labels)
    run_once(again, np.arange(1000)[:, None], p, folds=4, seed=4)
    assert again.fits[3][0] != head.fits[3][0]


@pytest.mark.slow
def test_noise_scores_a_half_although_settings_are_chosen():
    """More channels than cases, labels that mean nothing: over 8 runs AUROC averages a half."""
    from training.evaluate.metrics.ranking import Predictions, measure

    p = problem(patients=30, each=1)
    values = []
    for seed in range(8):
        x = np.random.default_rng(seed).normal(size=(30, 60))
        r = run_once(HEADS["cls"], x, p, folds=3, seed=seed)
        one = Predictions(p.labels[r.tested], r.scores[None], r.folds[None], p.patients[r.tested])
        values.append(measure(one, np.ones((1, 30)))[0, 0, 0])
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / np.sqrt(8) and np.std(values) > 0.03


def test_too_few_patients_for_inner_folds_take_the_most_restrained_setting():
    p = Problem(np.array([0, 0, 1, 1]), np.array(["a", "b", "c", "d"]), 2)
    result = run_once(HEADS["cls"], np.random.default_rng(0).normal(size=(4, 3)), p, folds=2, seed=0)
    assert result.settings == (HEADS["cls"].settings[0],) * 2


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (["", "", ""], None),
        (["train", "test", "train"], {"0": LEARN_ONLY, "1": 0, "2": LEARN_ONLY}),
        (["subset1", "subset0", "subset1"], {"0": 1, "1": 0, "2": 1}),
    ],
)
def test_the_data_sets_own_folds(splits, expected):
    dataset = Dataset("x", tuple(Case(str(n), Path("ct"), split=split) for n, split in enumerate(splits)))
    assert own_folds(dataset) == expected


@pytest.mark.parametrize("splits", [["train", "val", "test"], ["a", "a"], ["train", "train"]])
def test_splits_that_make_no_sense_are_refused(splits):
    dataset = Dataset("x", tuple(Case(str(n), Path("ct"), split=split) for n, split in enumerate(splits)))
    with pytest.raises(UserError, match="use train and test, or two or more other names"):
        own_folds(dataset)


def test_own_folds_without_a_class_to_learn_from_are_refused_at_once():
    p = Problem(np.array([0, 0, 1, 1]), np.arange(4).astype(str), 2, own_folds=np.array([0, 0, 1, 1]))
    with pytest.raises(UserError, match="no case of class (good|bad) to learn from; draw folds"):
        check_folds(p, ("good", "bad"), 5, 0)
    check_folds(Problem(p.labels, p.patients, 2, own_folds=np.array([0, 1, 0, 1])), ("good", "bad"), 5, 0)
