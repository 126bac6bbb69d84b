"""Health's numbers against their definitions, and both collapses caught in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.run.health import (
    CollapseAlarm,
    effective_rank,
    marginal_entropy,
    mean_entropy,
    measure,
    nearest_distance,
    prototype_use,
)

K = 64


def test_entropies_at_both_ends():
    uniform = torch.full((5, K), 1 / K)
    one = torch.nn.functional.one_hot(torch.zeros(5, dtype=torch.long), K).float()
    spread = torch.nn.functional.one_hot(torch.arange(5), K).float()
    assert mean_entropy(uniform).item() == pytest.approx(math.log(K))
    assert mean_entropy(one).item() == marginal_entropy(one).item() == 0
    assert mean_entropy(spread).item() == 0 and marginal_entropy(spread).item() == pytest.approx(math.log(5))


def test_prototype_use_counts_what_can_be_reached():
    assert prototype_use(torch.eye(K)[:8]).item() == 1
    assert prototype_use(torch.eye(K)[[3] * 8]).item() == pytest.approx(1 / 8)


def test_effective_rank_against_numpy():
    x = np.random.default_rng(0).normal(size=(20, 7)) * np.array([5, 3, 1, 1, 0.1, 0.1, 0])
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    share = values / values.sum()
    expected = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
    assert effective_rank(torch.from_numpy(x)).item() == pytest.approx(expected, rel=1e-5)
    assert effective_rank(torch.ones(6, 4)).item() == 0
    assert math.isnan(effective_rank(torch.full((3, 2), math.nan)).item())


def test_nearest_distance_against_all_pairs():
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = x / x.norm(dim=1, keepdim=True)
    pairs = torch.cdist(unit, unit) + 9 * torch.eye(9)
    assert nearest_distance(x).item() == pytest.approx(pairs.min(dim=1).values.mean().item(), rel=1e-5)
    assert math.isnan(nearest_distance(x[:1]).item())


def test_healthy_targets_raise_no_alarm():
    alarm = CollapseAlarm(K, grace=10)
    logits = torch.randn(32, K, generator=torch.Generator().manual_seed(0)) * 3
    numbers = measure(logits.softmax(1), torch.randn(16, 8, generator=torch.Generator().manual_seed(1))) | {"dino": 3.5}
    assert not any(alarm.look(step, numbers) for step in range(10, 40))


@pytest.mark.parametrize(
    ("targets", "loss", "word"),
    [(torch.full((8, K), 1 / K), math.log(K), "uniform"), (torch.eye(K)[[3] * 8], 0.05, "one prototype")],
)
def test_both_collapses_are_said_in_words_once_they_last(targets, loss, word):
    alarm = CollapseAlarm(K, grace=10, patience=3)
    numbers = measure(targets, torch.randn(8, 4, generator=torch.Generator().manual_seed(0))) | {"dino": loss}
    heard = [alarm.look(step, numbers) for step in (0, 5, 10, 11, 12, 13)]
    assert [bool(words) for words in heard] == [False, False, False, False, True, True]
    assert word in heard[-1][0] and "COLLAPSE" in heard[-1][0]
    healthy = numbers | {"teacher_entropy": 2.0, "dino": 3.0}
    assert alarm.look(14, healthy) == [] and alarm.look(15, numbers) == []  # the count begins anew


def test_equal_tokens_are_a_collapse_without_targets():
    alarm = CollapseAlarm(K, grace=0, patience=1)
    assert "one feature" in alarm.look(1, measure(None, torch.ones(6, 8)))[0]
