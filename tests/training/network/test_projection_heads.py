"""Heads: unit vectors whatever comes in, also in half precision."""

from __future__ import annotations

import pytest
import torch

from training.network.projection_heads import HeadSpec, ProjectionHead, unit

SPEC = HeadSpec(prototypes=12, hidden=16, bottleneck=8)


def test_shapes_and_lengths():
    head = ProjectionHead(10, SPEC)
    out, table = head(torch.randn(5, 10)), head.unit_prototypes()
    assert out.shape == (5, 8) and table.shape == (12, 8)
    assert torch.allclose(out.norm(dim=1), torch.ones(5)) and torch.allclose(table.norm(dim=1), torch.ones(12))
    assert sum(isinstance(m, torch.nn.Linear) for m in head.mlp) == SPEC.layers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_zero_vector_gives_no_nan(dtype):
    x = torch.zeros(3, 8, dtype=dtype, requires_grad=True)
    y = unit(x)
    y.sum().backward()
    assert y.dtype == torch.float32 and torch.equal(y, torch.zeros(3, 8)) and x.grad.isfinite().all()


def test_tiny_half_vectors_keep_their_direction():
    x = torch.tensor([[3e-4, 4e-4]], dtype=torch.float16)
    assert torch.allclose(unit(x), torch.tensor([[0.6, 0.8]]), atol=1e-2)


def test_under_autocast_the_output_is_float32():
    with torch.autocast("cpu", torch.bfloat16):
        out = ProjectionHead(10, HeadSpec(12, 256, 64))(torch.randn(5, 10))
    assert out.dtype == torch.float32 and torch.allclose(out.norm(dim=1), torch.ones(5))


def test_an_empty_batch_passes_with_gradients():
    head = ProjectionHead(10, SPEC)
    head(torch.zeros(0, 10)).sum().backward()
    assert all(p.grad is not None for p in head.mlp.parameters())


def test_nonsense_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        HeadSpec(layers=0)
