"""The teacher's average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.network.ema import update_average


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.996, 1.0])
def test_it_is_the_running_mean(momentum):
    torch.manual_seed(0)
    teacher, student = nn.Linear(3, 4), nn.Linear(3, 4)
    expected = [p.detach().double().clone() for p in teacher.parameters()]
    for _ in range(20):
        for p in student.parameters():
            p.data.add_(torch.randn_like(p))
        update_average(teacher, student, momentum)
        now = [p.detach().double() for p in student.parameters()]
        expected = [momentum * e + (1 - momentum) * p for e, p in zip(expected, now, strict=True)]
    for p, e in zip(teacher.parameters(), expected, strict=True):
        assert torch.allclose(p.double(), e, atol=1e-5)


def test_the_student_is_untouched_and_no_graph_is_made():
    teacher, student = nn.Linear(3, 4), nn.Linear(3, 4)
    before = student.weight.detach().clone()
    update_average(teacher, student, 0.5)
    assert torch.equal(student.weight, before) and teacher.weight.is_leaf and teacher.weight.grad is None


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="same network"):
        update_average(nn.Linear(3, 4), nn.Linear(3, 5), 0.9)
    with pytest.raises(ValueError, match="momentum"):
        update_average(nn.Linear(3, 4), nn.Linear(3, 4), 1.5)
