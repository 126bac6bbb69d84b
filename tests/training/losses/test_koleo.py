"""KoLeo against a float64 loop, and where the plain form is infinite."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.losses.koleo import koleo_loss


def plain_koleo(x: torch.Tensor) -> torch.Tensor:
    """-mean log of the distance to the nearest other row, looked for one by one."""
    x = F.normalize(x.double(), dim=1)
    terms = []
    for i in range(len(x)):
        terms.append(-min((torch.linalg.vector_norm(x[i] - x[j]) for j in range(len(x)) if j != i), key=float).log())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("batch", [2, 3, 9])
def test_value_and_gradient_equal_the_plain_form(batch):
    x = torch.randn(batch, 16, generator=torch.Generator().manual_seed(batch)).requires_grad_()
    loss = koleo_loss(x)
    loss.backward()
    exact = x.detach().double().requires_grad_()
    expected = plain_koleo(exact)
    expected.backward()
    assert torch.allclose(loss.double(), expected, atol=1e-5)
    assert torch.allclose(x.grad.double(), exact.grad, atol=1e-5)


def test_groups_are_independent():
    x = torch.randn(12, 16)
    assert torch.allclose(koleo_loss(x, group=4), torch.stack([koleo_loss(part) for part in x.split(4)]).mean())
    with pytest.raises(ValueError, match="whole groups"):
        koleo_loss(x, group=5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_equal_crops_and_single_crops_stay_finite(dtype):
    for x in (torch.ones(4, 16), torch.zeros(4, 16), torch.randn(1, 16)):
        x = x.to(dtype).requires_grad_()
        loss = koleo_loss(x)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite() and x.grad.isfinite().all()
    assert koleo_loss(torch.randn(1, 16, dtype=dtype)) == 0


def test_half_precision_is_left_at_the_door():
    x = torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(koleo_loss(x), koleo_loss(x.clone()))
        assert torch.allclose(koleo_loss(x).double(), plain_koleo(x), atol=1e-5)
