"""Attention pooling: what must not matter does not, and the layer is the paper's formula."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from training.evaluate.heads.attention_mil import AttentionMIL

C, K, H = 6, 3, 8


@pytest.fixture(params=[False, True], ids=["plain", "gated"])
def model(request) -> AttentionMIL:
    torch.manual_seed(0)
    return AttentionMIL(C, K, gated=request.param, hidden=H).double()


def bags(sizes, longest=None, fill=0.0):
    """Bags of these sizes, equal whatever the padding, and their mask."""
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(n, C, generator=generator, dtype=torch.float64) for n in sizes]
    longest = longest or max(sizes)
    out = torch.full((len(sizes), longest, C), fill, dtype=torch.float64)
    mask = torch.zeros(len(sizes), longest, dtype=torch.bool)
    for i, part in enumerate(parts):
        out[i, : len(part)] = part
        mask[i, : len(part)] = True
    return out, mask


def plain(model: AttentionMIL, bag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equations 7 to 9 of Ilse et al. for one unpadded bag (n, C), loop by loop -> logits (K,), attention (n,)."""
    p = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    raw = []
    for h in bag:
        v = np.tanh(p["value.weight"] @ h + p["value.bias"])
        if "gate.weight" in p:
            v = v / (1 + np.exp(-(p["gate.weight"] @ h + p["gate.bias"])))
        raw.append(float(p["weight.weight"][0] @ v))
    a = np.exp(raw) / np.exp(raw).sum()
    z = sum(w * h for w, h in zip(a, bag, strict=True))
    return p["classify.weight"] @ z + p["classify.bias"], a


def test_it_is_the_papers_formula(model):
    x, mask = bags([5, 1, 3], longest=7)
    judged = model(x, mask)
    for i, n in enumerate((5, 1, 3)):
        logits, attention = plain(model, x[i, :n].numpy())
        assert np.allclose(judged.logits[i].detach(), logits, atol=1e-12)
        assert np.allclose(judged.attention[i, :n].detach(), attention, atol=1e-12)


@pytest.mark.parametrize(("extra", "fill"), list(itertools.product([0, 1, 20], [0.0, 1e6, float("nan"), float("inf")])))
def test_padding_does_not_matter(model, extra, fill):
    alone = model(*bags([4, 2]))
    padded = model(*bags([4, 2], longest=4 + extra, fill=fill))
    assert torch.allclose(alone.logits, padded.logits, atol=1e-12)
    assert torch.allclose(alone.attention, padded.attention[:, :4], atol=1e-12)


def test_order_within_a_bag_does_not_matter(model):
    x, mask = bags([6])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    first, turned = model(x, mask), model(x[:, order], mask)
    assert torch.allclose(first.logits, turned.logits, atol=1e-12)
    assert torch.allclose(first.attention[:, order], turned.attention, atol=1e-12)


def test_padding_may_stand_anywhere(model):
    x, mask = bags([3], longest=5)
    order = torch.tensor([3, 0, 4, 1, 2])  # padding first and in the middle
    assert torch.allclose(model(x, mask).logits, model(x[:, order], mask[:, order]).logits, atol=1e-12)


def test_other_bags_of_the_batch_do_not_matter(model):
    x, mask = bags([4, 2, 6])
    whole = model(x, mask).logits
    assert torch.allclose(whole[1], model(x[1:2, :2], mask[1:2, :2]).logits[0], atol=1e-12)


def test_attention_sums_to_one_and_is_zero_on_padding(model):
    x, mask = bags([4, 1, 7], longest=9)
    attention = model(x, mask).attention
    assert torch.allclose(attention.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert (attention[mask] > 0).all() and (attention[~mask] == 0).all()


@pytest.mark.parametrize("fill", [0.0, float("nan")])
def test_gradient_reaches_instances_and_only_them(model, fill):
    x, mask = bags([4, 2], longest=6, fill=fill)
    x.requires_grad_(True)
    model(x, mask).logits[0].sum().backward()  # of the first bag alone
    assert (x.grad[0, :4].abs().sum(dim=1) > 0).all()
    assert (x.grad[0, 4:] == 0).all() and (x.grad[1] == 0).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_an_instance_without_attention_gets_no_gradient(model):
    """An instance that the attention scores far below the others is not attended, and none flows into it."""
    x, mask = bags([4])
    with torch.no_grad():
        model.value.weight.zero_()
        model.value.weight[0, 0] = 1.0
        model.value.bias.zero_()
        model.weight.weight.zero_()
        model.weight.weight[0, 0] = 2000.0
        x[0, :, 0] = torch.tensor([3.0, 3.0, -3.0, 3.0])
    if model.gate is not None:
        torch.nn.init.zeros_(model.gate.weight)
    x.requires_grad_(True)
    judged = model(x, mask)
    judged.logits.sum().backward()
    assert judged.attention[0, 2] == 0 and (x.grad[0, 2] == 0).all() and (x.grad[0, 0] != 0).any()


def test_a_bag_of_one_is_a_linear_layer(model):
    x, mask = bags([1])
    assert torch.allclose(model(x, mask).logits, model.classify(x[:, 0]))


def test_repeating_every_instance_changes_nothing(model):
    x, mask = bags([5])
    twice = model(x.repeat(1, 2, 1), mask.repeat(1, 2))
    assert torch.allclose(model(x, mask).logits, twice.logits, atol=1e-12)


def test_gradients_are_those_of_finite_differences(model):
    x, mask = bags([3, 2])
    x.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda bag: model(bag, mask).logits, (x,))


def test_empty_bags_and_wrong_masks_are_refused(model):
    x, mask = bags([3, 2])
    with pytest.raises(ValueError, match="no instances"):
        model(x, mask & torch.tensor([[True], [False]]))
    with pytest.raises(ValueError, match="mask"):
        model(x, mask[:, :2])
    with pytest.raises(ValueError, match="mask"):
        model(x, mask.double())
