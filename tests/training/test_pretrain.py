"""The whole loop on real scans: it resumes bit for bit, on any ranks, stops when told, and skips what is broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training.pretrain import main
from training.run.checkpoint import checkpoint_path, list_checkpoints, load_tensors
from training.run.log import read_log

ROOT = Path(__file__).resolve().parents[2]
NOT_TIMING = ("crops_per_s", "gflops_per_s", "step_s", "data_wait", "eta_s", "time")


def numbers(run: Path) -> list[dict]:
    """The training records without what a clock wrote."""
    return [{k: v for k, v in record.items() if k not in NOT_TIMING} for record in read_log(run, "train")]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint but the random state."""
    path = checkpoint_path(run / "checkpoints", step)
    return {
        f"{part}.{k}": v
        for part in ("student", "teacher", "losses", "optimiser")
        for k, v in load_tensors(path, part).items()
    }


def assert_same_run(a: Path, b: Path, step: int) -> None:
    """Same losses at every step and the same bits in every tensor."""
    assert numbers(a) == numbers(b)
    mine, other = weights(a, step), weights(b, step)
    assert mine.keys() == other.keys() and len(mine) > 50
    different = [name for name in mine if not torch.equal(mine[name], other[name])]
    assert not different, different[:5]


def words(store: Path, run: Path, *more: str) -> list[str]:
    return [f"data.root={store}", f"run.dir={run}", *more]


@pytest.fixture(scope="module")
def whole(store, tiny, tmp_path_factory) -> Path:
    """20 steps without a break, one rank."""
    run = tmp_path_factory.mktemp("whole")
    assert main([str(tiny), *words(store, run)]) == 0
    return run


def test_resume_repeats_the_run_bit_for_bit(store, tiny, whole, tmp_path):
    # drop path draws from the generator, so this fails too when its state is not kept
    assert main([str(tiny), *words(store, tmp_path, "run.stop_after=10")]) == 0
    assert json.loads((tmp_path / "status.json").read_text())["step"] == 10
    assert list_checkpoints(tmp_path / "checkpoints") == [10]
    torch.manual_seed(99)
    assert main([str(tiny), *words(store, tmp_path)]) == 0
    assert_same_run(whole, tmp_path, 20)


def test_killed_and_started_again_it_repeats_the_run(store, tiny, whole, tmp_path):
    # kill -9 between two checkpoints: the steps since the last one are done again
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "training.pretrain", str(tiny), *words(store, tmp_path, "run.save_every=4")],
        cwd=ROOT, env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    log = tmp_path / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count('"kind": "train"') >= 6):
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert list_checkpoints(tmp_path / "checkpoints"), "nothing was saved before the kill"
    assert main([str(tiny), *words(store, tmp_path, "run.save_every=100")]) == 0
    assert_same_run(whole, tmp_path, 20)


SEVERAL_RUNS = """
import sys
from pathlib import Path
from training.run import distributed
from training import pretrain as loop
from training.run.config import load_config

real, calls = loop.make_views, []
def broken_on_rank_one_at_step_one(*args):
    views = real(*args)
    calls.append(1)
    if len(calls) == 2 and distributed.rank() == 1:
        views.globals.fill_(float("nan"))
    return views

for line in Path(sys.argv[2]).read_text().splitlines():
    loop.make_views = broken_on_rank_one_at_step_one if "broken" in line else real
    loop.pretrain(load_config(Path(sys.argv[1]), line.split()))
distributed.shut_down()
"""


def assert_same_losses(a: Path, b: Path) -> None:
    """Equal first steps up to the order of sums; later ones may drift as rounding grows."""
    for step, (one, two) in enumerate(zip(numbers(a), numbers(b), strict=True)):
        for name in ("dino", "ibot", "koleo", "gradient_norm"):
            assert one[name] == pytest.approx(two[name], rel=1e-4 if step == 0 else 2e-2), (step, name)


def test_two_ranks_resume_bit_for_bit_and_hand_over_to_one(store, tiny, tmp_path, launch):
    still = [
        "model.drop_path=0.0",
        "schedule.steps=4",
        "schedule.teacher_temperature_steps=2",
        "engine.precision=fp32",
    ]  # no drop path: its draws depend on how the batch is cut; float32: bf16 rounds more than the order of sums does
    (tmp_path / "several.py").write_text(SEVERAL_RUNS)
    runs = [
        ("whole",),
        ("parts", "run.stop_after=10"),
        ("parts",),
        ("fewer", "run.stop_after=10"),
        ("still", *still),
        ("broken", "run.stop_after=3"),
    ]
    lines = [" ".join(words(store, tmp_path / run[0], "batch.per_rank=2", *run[1:])) for run in runs]
    (tmp_path / "runs.txt").write_text("\n".join(lines))
    launch(2, tiny, tmp_path / "runs.txt", module=str(tmp_path / "several.py"))
    assert_same_run(tmp_path / "whole", tmp_path / "parts", 20)

    # a checkpoint of two ranks goes on with one, and the same global batch
    assert main([str(tiny), *words(store, tmp_path / "fewer")]) == 0
    assert numbers(tmp_path / "fewer")[9] == numbers(tmp_path / "whole")[9]
    assert numbers(tmp_path / "fewer")[-1]["step"] == 20
    assert weights(tmp_path / "whole", 20).keys() == weights(tmp_path / "fewer", 20).keys()

    # two ranks see the global batch of one rank, and learn the same up to the order of sums
    assert main([str(tiny), *words(store, tmp_path / "alone", *still)]) == 0
    assert_same_losses(tmp_path / "alone", tmp_path / "still")

    # one rank without numbers: both skip the step, and write down whose crops they were
    record = read_log(tmp_path / "broken", "non_finite")[0]
    assert record["step"] == 1 and [rank["rank"] for rank in record["ranks"]] == [0, 1]
    assert len(record["ranks"][1]["crops"]) == 2 and not record["ranks"][1]["finite"]
    left = weights(tmp_path / "broken", 3)
    assert all(torch.isfinite(value).all() for value in left.values() if value.is_floating_point())
    assert {int(value) for name, value in left.items() if name.endswith(".step")} == {2}, (
        "two of three steps were taken"
    )


def test_accumulated_halves_are_the_whole_batch(store, tiny, whole, tmp_path):
    # no drop path: its draws depend on how the batch is cut; float32: bf16 rounds more than the order of sums does
    still = [
        "model.drop_path=0.0", "schedule.steps=4", "schedule.teacher_temperature_steps=2", "engine.precision=fp32",
    ]  # fmt: skip
    assert main([str(tiny), *words(store, tmp_path / "one", *still)]) == 0
    assert main([str(tiny), *words(store, tmp_path / "two", *still, "batch.per_rank=2", "batch.accumulate=2")]) == 0
    assert_same_losses(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends_well(store, tiny, tmp_path, number):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "training.pretrain", str(tiny), *words(store, tmp_path, "schedule.steps=100000")],
        cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count('"kind": "train"') >= 3):
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "stopped" and signal.Signals(number).name in status["reason"]
    assert list_checkpoints(tmp_path / "checkpoints") == [status["step"]]
    assert numbers(tmp_path)[-1]["step"] == status["step"]


def test_time_that_is_up_stops_the_run(store, tiny, tmp_path):
    assert main([str(tiny), *words(store, tmp_path, "schedule.steps=100000", "run.max_minutes=0.02")]) == 0
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["reason"] == "stopped: run.max_minutes is up" and status["step"] < 1000


def test_a_step_without_numbers_changes_nothing_and_is_written_down(store, tiny, tmp_path, monkeypatch):
    from training import pretrain as loop

    real, calls = loop.make_views, []

    def broken_at_step_two(*args, **kwargs):
        views = real(*args, **kwargs)
        calls.append(1)
        if len(calls) == 3:
            views.globals[0] = float("nan")
        return views

    monkeypatch.setattr(loop, "make_views", broken_at_step_two)
    for stop in (2, 3):
        assert main([str(tiny), *words(store, tmp_path, f"run.stop_after={stop}")]) == 0
    before, after = weights(tmp_path, 2), weights(tmp_path, 3)
    assert all(torch.equal(before[name], after[name]) for name in before)
    record = read_log(tmp_path, "non_finite")[0]
    crops = record["ranks"][0]["crops"]
    assert record["step"] == 2 and len(crops) == 4 and {"scan", "start", "seed"} == set(crops[0])
    assert main([str(tiny), *words(store, tmp_path, "run.stop_after=4")]) == 0
    assert not all(torch.equal(after[name], value) for name, value in weights(tmp_path, 4).items())


def test_steps_without_numbers_in_a_row_end_the_run(store, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.run.config.OptimConfig.peak_lr", lambda optim, batch: 1e30)
    assert main([str(tiny), *words(store, tmp_path, "optim.clip=0", "run.non_finite_limit=3")]) == 3
    assert "3 steps in a row" in capsys.readouterr().err


def test_a_damaged_scan_is_skipped_and_named(store, tiny, tmp_path):
    import shutil

    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    victim = sorted((copy / "scans").iterdir())[0]
    chunk = next(path for path in victim.rglob("c/*/*/*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    chunk.write_bytes(content)
    assert main([str(tiny), *words(copy, tmp_path / "run")]) == 0
    assert {record["name"] for record in read_log(tmp_path / "run", "damaged_scan")} == {victim.stem}
    assert numbers(tmp_path / "run")[-1]["step"] == 20


def test_wrong_input_ends_in_one_line(store, tiny, tmp_path, capsys):
    for wrong, hint in (
        (["schedule.step=5"], "schedule.steps"),
        ([f"data.root={tmp_path}"], "training.ingest"),
        (["data.block=[4,32,32]"], "data.block"),
    ):
        assert main([str(tiny), *words(store, tmp_path / "run"), *wrong]) == 2
        said = capsys.readouterr().err
        assert hint in said and len(said.strip().splitlines()) == 1


def test_another_recipe_in_the_same_folder_is_refused(store, tiny, tmp_path, capsys):
    assert main([str(tiny), *words(store, tmp_path, "run.stop_after=1")]) == 0
    assert main([str(tiny), *words(store, tmp_path, "optim.lr=0.5")]) == 2
    assert "optim.lr was 0.002, now 0.5" in capsys.readouterr().err
    assert main([str(tiny), *words(store, tmp_path, "batch.per_rank=2")]) == 2
    assert "4 samples a step, now it would be 2" in capsys.readouterr().err


def test_a_checkpoint_that_does_not_fit_is_said_at_once_and_tried_again(store, tiny, tmp_path, monkeypatch, capsys):
    """The disk is full for the first two saves: training goes on, and the third attempt stands."""
    from training.run import checkpoint

    real, calls = checkpoint._crc32, []

    def full(path):
        calls.append(path)
        if len({one.parent for one in calls}) <= 2:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(checkpoint, "_crc32", full)
    assert main([str(tiny), *words(store, tmp_path, "run.save_every=8")]) == 0
    told = [record["step"] for record in read_log(tmp_path, "unsaved")]
    assert len(told) == 2 and told[0] - 8 <= 3  # within the steps that a save of this size takes
    assert numbers(tmp_path)[-1]["step"] == 20
    said = capsys.readouterr().err
    assert said.count("could not be saved (No space left on device); trying again at step") == 2
    assert weights(tmp_path, 20) and not list((tmp_path / "checkpoints").glob(".part-*"))


def test_an_end_that_cannot_be_saved_is_one_line(store, tiny, tmp_path, monkeypatch, capsys):
    from training.run import checkpoint

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_crc32", full)
    assert main([str(tiny), *words(store, tmp_path, "run.stop_after=2")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: the end of the run could not be saved") and "there is no checkpoint" in said
    assert not (tmp_path / "status.json").exists()


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path, capsys):
    from training.run.log import RunLog

    log = RunLog(tmp_path, tensorboard=False)
    log._file.close()
    with Path("/dev/full").open("ab", buffering=0) as log._file:
        for step in range(3):
            log.record("train", step, {"loss": 1.0})
    assert capsys.readouterr().err.count("cannot be written (No space left on device)") == 1
