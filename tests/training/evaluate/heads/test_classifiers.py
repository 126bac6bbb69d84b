"""Heads learn what can be learnt, alike every time, and know nothing of order, scale or class sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from training.evaluate.heads.classifiers import HEADS, PENALTIES, Bags, class_scores

C = 12


def quick(name):
    """The head, attention with few steps: for what does not depend on how well it learnt."""
    return replace(HEADS[name], settings=(5, 40)) if name.startswith("abmil") else HEADS[name]


def vectors(seed=0, cases=80, gap=1.5, classes=2):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(cases) % classes)
    x = rng.normal(size=(cases, C)).astype(np.float32)
    x[np.arange(cases), labels] += gap
    return x, labels


def bagged(seed=0, cases=60, sizes=(3, 9)):
    """A bag is positive when a single instance of it carries the sign: what the mean of the bag hardly shows."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(cases) % 2)
    bags = []
    for label in labels:
        bag = rng.normal(size=(rng.integers(*sizes), C)).astype(np.float32)
        if label:
            bag[rng.integers(len(bag)), 0] += 8.0
        bags.append(bag)
    return Bags.of(bags), labels


@pytest.mark.parametrize("name", ["abmil", "abmil-gated"])
def test_attention_finds_the_one_instance_that_counts(name):
    (train, labels), (test, truth) = bagged(1, 120), bagged(2)
    for seed in range(2):
        scores = replace(HEADS[name], settings=(200,)).fit(train, labels, 2, seed, device="cpu")[-1](test)
        assert roc_auc_score(truth, scores[:, 1]) > 0.95


def test_the_linear_head_is_the_minimum_of_its_loss():
    """Against a direct minimisation of the balanced, penalised cross-entropy in float64."""
    x, labels = vectors(classes=2, cases=60)
    labels = np.where(np.arange(60) < 45, 0, labels)  # classes of different size
    z = (x - x.mean(0)) / x.std(0)
    weight = np.where(labels == 1, 60 / (2 * labels.sum()), 60 / (2 * (60 - labels.sum())))
    sign = 2 * labels - 1

    def loss(w, penalty):
        margin = sign * (z @ w[:C] + w[C])
        return (weight * np.logaddexp(0, -margin)).mean() + penalty / 2 * (w[:C] ** 2).sum()

    for penalty, predict in zip(PENALTIES, HEADS["cls"].fit(x, labels, 2, 0, "cpu"), strict=True):
        best = minimize(loss, np.zeros(C + 1), args=(penalty,), method="L-BFGS-B", options={"ftol": 1e-14}).x
        assert np.allclose(predict(x)[:, 1], z @ best[:C] + best[C], atol=5e-3)


@pytest.mark.parametrize("name", HEADS)
def test_equal_seeds_give_equal_bits(name):
    inputs, labels = bagged() if name.startswith("abmil") else vectors()
    torch.manual_seed(5)
    first = [p(inputs) for p in quick(name).fit(inputs, labels, 2, seed=3, device="cpu")]
    torch.manual_seed(6)  # the world's own chance has no say, and is left as it was found
    state = torch.get_rng_state()
    again = [p(inputs) for p in quick(name).fit(inputs, labels, 2, seed=3, device="cpu")]
    assert torch.equal(state, torch.get_rng_state())
    assert len(first) == len(quick(name).settings)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_another_seed_gives_another_attention():
    inputs, labels = bagged()
    one, other = (quick("abmil").fit(inputs, labels, 2, seed, "cpu")[-1](inputs) for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", ["cls", "abmil"])
def test_three_classes(name):
    x, labels = vectors(classes=3, gap=4.0)
    inputs = x if name == "cls" else Bags.of(list(x[:, None]))
    scores = quick(name).fit(inputs, labels, 3, 0, "cpu")[-1](inputs)
    assert scores.shape == (80, 3) and (scores.argmax(1) == labels).mean() > 0.9


@pytest.mark.parametrize("name", ["mean", "abmil-gated"])
def test_the_unit_of_a_channel_does_not_matter(name):
    inputs, labels = bagged() if name == "abmil-gated" else vectors()
    unit = np.exp(np.random.default_rng(0).normal(size=C)) * 100
    changed = Bags(inputs.instances * unit, inputs.offsets) if name == "abmil-gated" else inputs * unit
    one = quick(name).fit(inputs, labels, 2, 0, "cpu")[-1](inputs)
    other = quick(name).fit(changed, labels, 2, 0, "cpu")[-1](changed)
    assert np.allclose(one, other, atol=0.05 * np.abs(one).max())


@pytest.mark.parametrize("name", ["cls", "abmil"])
def test_a_channel_that_never_varies_does_no_harm(name):
    inputs, labels = bagged() if name == "abmil" else vectors()
    values = inputs.instances if name == "abmil" else inputs
    values[:, 3] = 7.0
    assert np.isfinite(quick(name).fit(inputs, labels, 2, 0, "cpu")[0](inputs)).all()


@pytest.mark.parametrize("name", ["cls", "abmil"])
def test_a_class_without_cases_is_refused(name):
    inputs, _ = bagged() if name == "abmil" else vectors()
    with pytest.raises(ValueError, match="all 2 classes"):
        quick(name).fit(inputs, np.zeros(len(inputs), int), 2, 0, "cpu")


def test_class_scores_rank_as_probabilities_and_do_not_saturate():
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(class_scores(logits), np.log(p / (1 - p)))
    assert class_scores(np.array([[0.0, 2000.0], [0.0, 3000.0]]))[:, 1].tolist() == [2000.0, 3000.0]


def test_bags_are_taken_padded_and_guarded():
    bags = Bags.of([np.full((n, 2), n, np.float16) for n in (1, 3, 2)])
    assert [len(bags), np.diff(bags[np.array([2, 0])].offsets).tolist()] == [3, [2, 1]]
    padded, mask = bags.padded(np.array([2, 1]))
    assert padded.dtype == torch.float32 and mask.tolist() == [[True, True, False], [True, True, True]]
    assert padded[0, 2].tolist() == [0, 0] and padded[1, 2].tolist() == [3, 3]
    with pytest.raises(ValueError, match="empty"):
        Bags.of([np.zeros((1, 2)), np.zeros((0, 2))])
