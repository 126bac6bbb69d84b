"""iBOT's loss against a float64 loop over crops and hidden patches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.losses.ibot import hidden_weights, ibot_loss


def test_value_and_gradient_equal_the_plain_form():
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(4, 12, generator=generator) < 0.4
    mask[2] = False  # a crop that hides nothing has no vote, but counts among the crops
    rows, crops = int(mask.sum()), 10
    features = F.normalize(torch.randn(rows, 8, generator=generator), dim=1).requires_grad_()
    table = F.normalize(torch.randn(16, 8, generator=generator), dim=1)
    targets = torch.randn(rows, 16, generator=generator).softmax(dim=1)
    loss = ibot_loss(features, table, lambda part: targets[part].clone(), mask, crops)
    loss.backward()
    exact = features.detach().double().requires_grad_()
    logits, row, expected = (exact @ table.double().T / 0.1).log_softmax(dim=1), 0, 0.0
    for crop in range(4):
        hidden = int(mask[crop].sum())
        for _ in range(hidden):
            expected = expected - (targets[row].double() * logits[row]).sum() / hidden / crops
            row += 1
    expected.backward()
    assert torch.allclose(loss.double(), expected, rtol=1e-5)
    assert torch.allclose(features.grad.double(), exact.grad, atol=1e-6)


@pytest.mark.parametrize("crops", [1, 6])
def test_each_masked_crop_has_one_vote(crops):
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    assert torch.allclose(hidden_weights(mask, crops) * crops, torch.tensor([0.5, 0.5, 1.0]))


def test_nothing_hidden_gives_zero():
    features = torch.zeros(0, 8, requires_grad=True)
    loss = ibot_loss(features, torch.zeros(5, 8), lambda part: torch.zeros(0, 5), torch.zeros(3, 4).bool(), 3)
    loss.backward()
    assert loss == 0
