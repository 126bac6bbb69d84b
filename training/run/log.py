"""What a run says: one JSON line a record, TensorBoard where it is installed, and a line a person reads."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from tapct_core.vit import Grid, ViTConfig


def forward_flops(config: ViTConfig, crop: Grid) -> float:
    """Floating-point operations of one forward pass on one crop of ``crop`` (z, y, x) voxels.

    24 d^2 N + 4 N^2 d a block for N tokens of width d at MLP ratio 4 (8 d^2 N + 4 r d^2 N in general), and
    the patch embedding; a multiply-add counts two.
    """
    patches = math.prod(size // patch for size, patch in zip(crop, config.patch_size, strict=True))
    tokens, width = patches + 1 + config.num_register_tokens, config.embed_dim
    block = (8 + 4 * config.mlp_ratio) * width**2 * tokens + 4 * tokens**2 * width
    return config.depth * block + 2 * patches * math.prod(config.patch_size) * width


def sample_flops(config: ViTConfig, student: list[tuple[Grid, int]], teacher: list[tuple[Grid, int]]) -> float:
    """Operations that one sample costs in a step: crops as (size, how many).

    The student's forward and backward are three forwards, the teacher's one; heads are left out.
    """
    return 3 * sum(n * forward_flops(config, crop) for crop, n in student) + sum(
        n * forward_flops(config, crop) for crop, n in teacher
    )


class RunLog:
    """Writes RUN/log.jsonl and RUN/tensorboard from rank 0; on other ranks every method does nothing."""

    def __init__(self, folder: Path, active: bool = True, tensorboard: bool = True) -> None:
        self._file = None
        self._board = None
        self._lost = False
        self.active = active
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        # without a buffer: what the disk refused is not written a second time
        self._file = (folder / "log.jsonl").open("ab", buffering=0)
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self.say("TensorBoard is not installed, so only log.jsonl is written (pip install tensorboard)")
            else:
                self._board = SummaryWriter(str(folder / "tensorboard"), flush_secs=60)

    def record(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One JSON line {"kind", "step", "time", ...}; numbers go to TensorBoard as ``kind/name`` as well.

        What is not finite becomes null, since JSON has no NaN.
        """
        if not self.active:
            return
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        line = json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **clean}) + "\n"
        try:
            self._file.write(line.encode())
        except OSError as error:  # a disk that is full costs lines of the log, never the run
            if not self._lost:
                self.say(f"!! log.jsonl cannot be written ({error.strerror}); lines are lost until it can")
            self._lost = True
        if self._board is not None:
            for name, value in clean.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def say(self, words: str) -> None:
        """A line on stderr."""
        if self.active:
            print(words, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Flush and close both."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of RUN/log.jsonl, of one kind or all. A last line cut off by a kill is left out.

    Steps that a run repeated after a resume stand once, as last written.
    """
    records: dict[tuple, dict[str, Any]] = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if kind is None or record.get("kind") == kind:
            records[record.get("kind"), record.get("step"), record.get("name", "")] = record
    return sorted(records.values(), key=lambda record: record["step"])


class Meter:
    """Time between reports, and what was done in it."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._steps = 0
        self._waited = 0.0

    def step(self, waited_s: float) -> None:
        """One step is done; ``waited_s`` of it went by waiting for data."""
        self._steps += 1
        self._waited += waited_s

    def report(self, samples: int, crops: int, flops: float, steps_left: int) -> dict[str, float]:
        """Rates since the last report; starts again. ``samples`` and ``flops`` are a step's, ``crops`` a sample's."""
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        step_s = elapsed / max(1, self._steps)
        rates = {
            "crops_per_s": samples * crops / step_s,
            "gflops_per_s": flops / step_s / 1e9,
            "step_s": step_s,
            "data_wait": self._waited / elapsed,
            "eta_s": steps_left * step_s,
        }
        self.__init__()
        return rates


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 12 min, 3 h 20 min, 5 d 2 h."""
    minutes = int(seconds // 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def progress_line(
    step: int, steps: int, losses: dict[str, float], numbers: dict[str, float], rates: dict[str, float]
) -> str:
    """The line of a log step: losses, health, speed, what is left."""
    parts = [f"step {step}/{steps}", " ".join(f"{name} {value:.4g}" for name, value in losses.items())]
    parts.append(" ".join(f"{name} {value:.3g}" for name, value in numbers.items()))
    parts.append(f"{rates['crops_per_s']:.1f} crops/s {rates['gflops_per_s']:.3g} GFLOP/s")
    parts.append(f"ETA {duration(rates['eta_s'])}")
    return " | ".join(part for part in parts if part)
