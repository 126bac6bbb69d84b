"""The log survives a kill, holds only JSON, and its arithmetic is the architecture's."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tapct_core.vit import VisionTransformer3D, ViTConfig
from training.run.log import Meter, RunLog, duration, forward_flops, progress_line, read_log, sample_flops


def test_flops_are_what_the_counter_counts():
    config = ViTConfig(patch_size=(4, 8, 8), img_size=(8, 32, 32), embed_dim=64, depth=3, num_heads=2)
    # the plain attention kernel, whose products the counter sees
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        VisionTransformer3D(config)(torch.zeros(1, 1, 8, 32, 32))
    assert forward_flops(config, (8, 32, 32)) == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_flops_of_the_window_are_the_known_ones():
    # 603.5 and 201.9 GFLOP for 12 x 224 x 224 count 2,352 patches alone; five more tokens add about half a percent
    b = ViTConfig(embed_dim=768, num_heads=12)
    s = ViTConfig(embed_dim=384, num_heads=6)
    assert forward_flops(b, (12, 224, 224)) == pytest.approx(603.5e9, rel=6e-3)
    assert forward_flops(s, (12, 224, 224)) == pytest.approx(201.9e9, rel=6e-3)
    one = forward_flops(s, (12, 224, 224))
    assert sample_flops(s, [((12, 224, 224), 2)], [((12, 224, 224), 2)]) == pytest.approx(8 * one)


def test_records_come_back_and_repeated_steps_stand_once(tmp_path):
    log = RunLog(tmp_path, tensorboard=False)
    for step, loss in ((1, 3.0), (2, 2.0), (2, 1.5), (3, math.nan)):
        log.record("train", step, {"dino": loss})
    log.record("alarm", 2, {"words": "x"})
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"kind": "train", "st')  # killed while writing
    assert [(r["step"], r["dino"]) for r in read_log(tmp_path, "train")] == [(1, 3.0), (2, 1.5), (3, None)]
    assert len(read_log(tmp_path)) == 4
    for line in (tmp_path / "log.jsonl").read_text().splitlines()[:-1]:
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_other_ranks_write_nothing(tmp_path, capsys):
    log = RunLog(tmp_path / "run", active=False)
    log.record("train", 1, {"dino": 1.0})
    log.say("hello")
    log.close()
    assert not (tmp_path / "run").exists() and capsys.readouterr().err == ""


def test_tensorboard_gets_the_numbers(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path)
    log.record("train", 5, {"dino": 2.5, "words": "no number"})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/dino")] == [(5, 2.5)]


def test_rates_and_the_line(monkeypatch):
    import training.run.log as module

    clock = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    meter = Meter()
    for _ in range(5):
        meter.step(0.2)
    rates = meter.report(samples=8, crops=6, flops=4e9, steps_left=30)
    assert rates == pytest.approx({"crops_per_s": 24, "gflops_per_s": 2, "step_s": 2, "data_wait": 0.1, "eta_s": 60})
    line = progress_line(5, 35, {"dino": 1.5}, {"rank": 3.0}, rates)
    assert line == "step 5/35 | dino 1.5 | rank 3 | 24.0 crops/s 2 GFLOP/s | ETA 60 s"


@pytest.mark.parametrize(
    ("seconds", "words"), [(7, "7 s"), (600, "10 min"), (12_000, "3 h 20 min"), (180_000, "2 d 2 h")]
)
def test_durations_are_said_as_people_do(seconds, words):
    assert duration(seconds) == words
