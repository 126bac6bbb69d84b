"""Weak scaling of pretraining on 1 and 2 processes, and what saving and resuming cost.

    python -m benchmarks.scaling --data FOLDER_OF_CTS [--repeats 3] [--out docs/results/scaling.md]

Each process gets one CPU thread (or, where there is CUDA, one device) and the same number of samples, so perfect
weak scaling is twice the crops a second. One- and two-process runs take turns, so that a machine shared with others
treats both alike; the table gives medians and their ratio. Resuming is timed as a person meets it: from starting
the command to its first finished step, with and without a checkpoint to read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from training.ingest import Layout, ingest
from training.pretrain import model_state
from training.run.checkpoint import Checkpointer, optimiser_state, parameter_names
from training.run.config import load_config
from training.run.engine import build
from training.run.log import read_log

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8
SKIP = 3
"""First steps are not counted: kernels are chosen and memory is got there."""


def run(config: Path, store: Path, folder: Path, ranks: int, words: list[str]) -> float:
    """Train as a person would; returns seconds from the start of the command to its first finished step."""
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--rdzv-backend", "c10d"]
        start += ["--rdzv-endpoint", "localhost:0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*start, "-m", "training.pretrain", str(config), f"data.root={store}", f"run.dir={folder}"]
    command += ["run.log_every=1", "run.tensorboard=false", "run.save_every=1000000", "engine.threads=1", *words]
    begun = time.time()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return next(record["time"] for record in read_log(folder, "train") if record["time"] > begun) - begun


def crops_per_second(folder: Path) -> float:
    """Median over the steps after the first few."""
    return statistics.median(record["crops_per_s"] for record in read_log(folder, "train")[SKIP:])


def checkpoint_seconds(config: Path, folder: Path, repeats: int) -> dict[str, float]:
    """Seconds that a save holds up training, that a save takes in all, and that a load takes; and its size in MB."""
    torch.set_num_threads(1)  # as the runs beside it
    settings = load_config(config, ["data.root=none", f"run.dir={folder}"])
    model = build(settings, torch.device("cpu"))
    optimiser = torch.optim.AdamW(model.student.parameters())
    for parameter in model.student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    keeper = Checkpointer(folder, keep_last=1)
    pause, whole, load = [], [], []
    for step in range(1, repeats + 1):
        state = {**model_state(model), "optimiser": optimiser_state(optimiser, parameter_names(model.student))}
        begun = time.perf_counter()
        keeper.save(step, state, {})
        pause.append(time.perf_counter() - begun)
        keeper.wait()
        whole.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        keeper.load_latest(model_state(model), (model.student,), optimiser)
        load.append(time.perf_counter() - begun)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    return {
        "pause": statistics.median(pause),
        "save": statistics.median(whole),
        "load": statistics.median(load),
        "mb": size,
    }


def main() -> None:
    """Print the page as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of CTs, or a list of paths")
    parser.add_argument("--config", type=Path, default=ROOT / "training" / "configs" / "tap_ct_xs_3d.yaml")
    parser.add_argument("--batch", type=int, default=4, help="samples a process")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="PAGE.md", help="write the page there too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch), Path(scratch) / "store"
        ingest(args.data, store, Layout((2.5, 2.0, 2.0), crop_body=True))
        rates: dict[int, list[float]] = {1: [], 2: []}
        fresh, resumed = [], []
        for repeat in range(args.repeats):
            for ranks in (1, 2):
                where = folder / f"{ranks}-{repeat}"
                words = [f"batch.per_rank={args.batch}", f"run.stop_after={STEPS}"]
                first = run(args.config, store, where, ranks, words)
                rates[ranks].append(crops_per_second(where))
                if ranks == 1:
                    fresh.append(first)
                    resumed.append(run(args.config, store, where, 1, [words[0], f"run.stop_after={STEPS + 1}"]))
        step = statistics.median(r["step_s"] for r in read_log(folder / "1-0", "train")[SKIP:])
        costs = checkpoint_seconds(args.config, folder / "checkpoints", 5)
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    ratios = [b / a for a, b in zip(rates[1], rates[2], strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    starts = f"{statistics.median(fresh):.1f} s / {statistics.median(resumed):.1f} s"
    page = f"""# Weak scaling and the cost of resuming

`python -m benchmarks.scaling`, config `{args.config.stem}`, {args.batch} samples a process and step, one CPU
thread a process, {args.repeats} turns of each, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} while it ran.
One- and two-process runs took turns. Read the ratios, not the rates; where the load is above the number of cores,
a second process also gets a second share of the machine, and weak scaling looks better than it is.

| what | value |
|---|---|
| crops/s, 1 process / 2 processes | {one:.1f} / {two:.1f} |
| weak scaling, 2 over 1 (perfect: 2; in brackets the turns' range) | {spread} |
| start of the command to the first step done, fresh / resumed | {starts} |
| checkpoint on disk | {costs["mb"]:.0f} MB |
| training held up by a save | {costs["pause"]:.3f} s, {costs["pause"] / step:.3f} of a step |
| save in the background / load | {costs["save"]:.2f} s / {costs["load"]:.2f} s |
"""
    print(page)
    if args.out:
        args.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
