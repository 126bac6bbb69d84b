"""Targets against DINOv2's algorithm written plainly in float64, chunked or not, and on degenerate rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.losses.sinkhorn import CentredTargets, SinkhornTargets, chunks


def unit_rows(rows: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def plain_sinkhorn(logits: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """DINOv2's SinkhornKnoppTeacher (github.com/facebookresearch/dinov2) in float64: alternate on one table."""
    q = torch.exp(logits.double() / temperature).T
    prototypes, samples = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(dim=1, keepdim=True) / prototypes
        q = q / q.sum(dim=0, keepdim=True) / samples
    return (q * samples).T


@pytest.mark.parametrize("temperature", [0.04, 0.07, 0.5])
@pytest.mark.parametrize("rows, prototypes", [(40, 16), (6, 64), (1, 8)])
@pytest.mark.parametrize("iterations", [1, 3, 7])
def test_sinkhorn_equals_the_plain_form(temperature, rows, prototypes, iterations):
    features, table = unit_rows(rows, 12, 0), unit_rows(prototypes, 12, 1)
    expected = plain_sinkhorn(features @ table.T, temperature, iterations)
    got = SinkhornTargets(features, table, temperature, iterations).rows(slice(0, rows))
    assert torch.allclose(got.double(), expected, atol=1e-5)
    assert torch.allclose(got.sum(dim=1), torch.ones(rows), atol=1e-5)


@pytest.mark.parametrize("keep", [0, 1 << 28])
def test_chunks_and_keeping_change_nothing(keep):
    features, table = unit_rows(50, 12, 0), unit_rows(32, 12, 1)
    whole = SinkhornTargets(features, table, 0.05).rows(slice(0, 50))
    parts = SinkhornTargets(features, table, 0.05, keep=keep, chunk=32 * 7)
    got = torch.cat([parts.rows(part) for part in (slice(0, 13), slice(13, 14), slice(14, 50))])
    assert torch.allclose(got, whole, atol=1e-6)
    first = parts.rows(slice(3, 9))
    first.zero_()  # the caller may overwrite what it was given
    assert torch.allclose(parts.rows(slice(3, 9)), whole[3:9], atol=1e-6)


def test_many_iterations_share_the_prototypes_evenly():
    targets = SinkhornTargets(unit_rows(400, 8, 0), unit_rows(16, 8, 1), 0.1, iterations=50).rows(slice(0, 400))
    assert torch.allclose(targets.sum(dim=0), torch.full((16,), 400 / 16), rtol=1e-3)


def test_degenerate_rows_give_finite_targets():
    table = unit_rows(16, 8, 1)
    same = unit_rows(1, 8, 0).expand(20, 8)
    uniform = torch.full((20, 16), 1 / 16)
    assert torch.allclose(SinkhornTargets(same, table, 0.05).rows(slice(0, 20)), uniform, atol=1e-4)
    for rows in (torch.zeros(5, 8), torch.cat([table[:1], -table[:1]])):
        targets = SinkhornTargets(rows, table, 0.025).rows(slice(0, len(rows)))
        assert targets.isfinite().all() and torch.allclose(targets.sum(dim=1), torch.ones(len(rows)), atol=1e-4)
    none = SinkhornTargets(torch.zeros(0, 8), table, 0.05)
    assert none.rows(slice(0, 0)).shape == (0, 16) and none.weight.isfinite().all()


def test_centred_targets_and_their_centre():
    features, table, centre = unit_rows(30, 12, 0), unit_rows(16, 12, 1), 0.1 * torch.randn(16)
    targets = CentredTargets(features, table, 0.05, centre)
    logits = features.double() @ table.double().T
    assert torch.allclose(targets.rows(slice(4, 9)).double(), ((logits[4:9] - centre) / 0.05).softmax(dim=1), atol=1e-6)
    assert torch.allclose(targets.next_centre(0.9).double(), 0.9 * centre + 0.1 * logits.mean(dim=0), atol=1e-6)
    assert torch.equal(CentredTargets(features[:0], table, 0.05, centre).next_centre(), centre)


def test_chunks_cover_every_row_once():
    assert [(p.start, p.stop) for p in chunks(10, 100, 350)] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert list(chunks(0, 100)) == []
    assert len(list(chunks(3, 100, 1))) == 3
