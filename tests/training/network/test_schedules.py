"""Schedules: their values at both ends, between the phases, and the same after a resume."""

from __future__ import annotations

import math

import pytest

from training.network.schedules import Cosine, Ramp


def test_first_and_last_step():
    lr = Cosine(peak=2e-3, final=1e-6, steps=100, warmup=10)
    assert lr(0) == 0.0 and lr(5) == pytest.approx(1e-3) and lr(10) == pytest.approx(2e-3)
    assert lr(99) == pytest.approx(1e-6) and lr(1000) == lr(99)
    assert lr(9) < lr(10) > lr(11)


def test_it_is_half_a_cosine():
    wd = Cosine(peak=0.04, final=0.4, steps=101)
    assert wd(0) == 0.04 and wd(100) == pytest.approx(0.4) and wd(50) == pytest.approx(0.22)
    for step in range(101):
        assert wd(step) == pytest.approx(0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * step / 100)))


def test_frozen_steps_come_first():
    last_layer = Cosine(peak=1.0, final=0.0, steps=50, warmup=10, frozen=5)
    assert [last_layer(s) for s in range(5)] == [0.0] * 5
    assert last_layer(5) == 0.0 and last_layer(15) == 1.0 and last_layer(49) == pytest.approx(0.0)


def test_a_resumed_run_sees_the_same_values():
    """A schedule has no state: step 10 is step 10 whether or not steps 0 to 9 were asked for."""
    lr = Cosine(1e-3, 1e-6, 40, 10)
    assert [lr(s) for s in range(40)][20:] == [Cosine(1e-3, 1e-6, 40, 10)(s) for s in range(20, 40)]


def test_one_step_runs():
    assert Cosine(peak=1e-3, final=1e-6, steps=1)(0) == 1e-6
    assert Cosine(peak=1e-3, final=1e-6, steps=2, warmup=1)(1) == 1e-6


def test_ramp():
    temperature = Ramp(0.04, 0.07, 30)
    assert temperature(0) == 0.04 and temperature(15) == pytest.approx(0.055)
    assert temperature(30) == temperature(3000) == pytest.approx(0.07)
    assert Ramp(0.04, 0.07, 0)(0) == pytest.approx(0.07)


@pytest.mark.parametrize("wrong", [{"warmup": 10}, {"warmup": 6, "frozen": 4}, {"warmup": -1}])
def test_a_warmup_longer_than_the_run_is_refused(wrong):
    with pytest.raises(ValueError, match="shorten the warm-up"):
        Cosine(1.0, 0.0, 10, **wrong)
