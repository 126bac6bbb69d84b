"""DINO's loss against a float64 double loop over pairs of views, value and gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from training.losses.dino import dino_loss, prototype_cross_entropy


def unit_rows(rows: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def plain_dino(features, prototypes, targets, batch, temperature):
    """Mean over all (teacher's global crop, other crop) pairs of a sample, pair by pair."""
    logits = (features @ prototypes.T / temperature).log_softmax(dim=1)
    views, terms = len(features) // batch, []
    for sample in range(batch):
        for answer in range(2):
            for view in range(views):
                if view != answer:
                    terms.append(-(targets[answer * batch + sample] * logits[view * batch + sample]).sum())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("views", [2, 3, 7])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_value_and_gradients_equal_the_plain_form(views, temperature):
    batch, prototypes = 3, 20
    features = unit_rows(views * batch, 8, 0).requires_grad_()
    table = unit_rows(prototypes, 8, 1).requires_grad_()
    targets = torch.randn(2 * batch, prototypes, generator=torch.Generator().manual_seed(2)).softmax(dim=1)
    loss = dino_loss(features, table, targets, batch, 1.0, temperature)
    (3 * loss).backward()
    exact = [t.detach().double().requires_grad_() for t in (features, table)]
    expected = plain_dino(*exact, targets.double(), batch, temperature)
    (3 * expected).backward()
    assert torch.allclose(loss.double(), expected, rtol=1e-5)
    for got, wanted in zip((features, table), exact, strict=True):
        assert torch.allclose(got.grad.double(), wanted.grad, atol=1e-5, rtol=1e-4)


def test_parts_of_a_batch_add_up_to_the_whole():
    batch, views = 4, 5
    features, table = unit_rows(views * batch, 8, 0), unit_rows(12, 8, 1)
    targets = unit_rows(2 * batch, 12, 2).abs()
    targets = targets / targets.sum(dim=1, keepdim=True)
    whole = dino_loss(features, table, targets, batch, 1.0)
    rows = features.unflatten(0, (views, batch))
    parts = sum(
        dino_loss(rows[:, part].flatten(0, 1), table, targets.unflatten(0, (2, batch))[:, part].flatten(0, 1), 2, 0.5)
        for part in (slice(0, 2), slice(2, 4))
    )
    assert torch.allclose(parts, whole, rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7 * 20, 1 << 24])
def test_chunking_changes_nothing(chunk):
    features, table = unit_rows(17, 8, 0).requires_grad_(), unit_rows(20, 8, 1).requires_grad_()
    targets, weights = torch.rand(17, 20).softmax(dim=1), torch.rand(17)
    results = []
    for size in (chunk, 17 * 20):
        features.grad = table.grad = None
        loss = prototype_cross_entropy(features, table, lambda p: targets[p].clone(), weights, chunk=size)
        loss.backward()
        results.append((loss.detach(), features.grad, table.grad))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*results, strict=True))


def test_equal_crops_and_uniform_targets_stand_at_ln_k():
    table = unit_rows(64, 8, 1)
    loss = dino_loss(torch.zeros(6, 8), table, torch.full((4, 64), 1 / 64), 2, 1.0)
    assert math.isclose(float(loss), math.log(64), rel_tol=1e-5)


def test_no_row_gives_zero_with_a_gradient():
    features, table = torch.zeros(0, 8, requires_grad=True), unit_rows(5, 8, 0).requires_grad_()
    loss = prototype_cross_entropy(features, table, lambda p: torch.zeros(0, 5), torch.zeros(0))
    loss.backward()
    assert loss == 0 and table.grad.abs().sum() == 0


def test_too_few_views_are_refused():
    with pytest.raises(ValueError, match="two or more views"):
        dino_loss(torch.zeros(3, 8), torch.zeros(5, 8), torch.zeros(6, 5), 3, 1.0)


def test_autocast_does_not_reach_the_loss():
    features, table = unit_rows(9, 8, 0).requires_grad_(), unit_rows(20, 8, 1)
    targets = torch.rand(9, 20).softmax(dim=1)
    plain = prototype_cross_entropy(features, table, lambda p: targets[p].clone(), torch.ones(9))
    with torch.autocast("cpu", torch.bfloat16):
        cast = prototype_cross_entropy(features, table, lambda p: targets[p].clone(), torch.ones(9))
    assert torch.equal(plain, cast)
