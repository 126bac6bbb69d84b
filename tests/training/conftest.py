"""A small store of real scans and a config small enough to train in a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.ingest import Layout, ingest

ROOT = Path(__file__).resolve().parents[2]

TINY = """
seed: 3
data: {root: store, block: [8, 32, 32], threads: 2, prefetch: 1}
model:
  {patch_size: [4, 8, 8], img_size: [8, 24, 24], embed_dim: 32, depth: 2, num_heads: 2, drop_path: 0.2,
   layer_scale_init: 0.1}
views: {global_size: [8, 24, 24], local_size: [8, 16, 16], n_local: 2, flip: [0.0, 0.5, 0.5]}
heads: {prototypes: 64, hidden: 32, bottleneck: 16, layers: 2}
loss: {koleo_group: 2}
optim: {lr: 0.002, lr_batch: 0, layer_decay: 0.9}
schedule: {steps: 20, warmup_steps: 3, momentum: [0.9, 1.0], teacher_temperature_steps: 5, freeze_last_layer_steps: 2}
batch: {per_rank: 4}
engine: {device: cpu, threads: 1}
run: {dir: run, save_every: 100, log_every: 1, tensorboard: false}
"""


@pytest.fixture(scope="session")
def store(tmp_path_factory, data_dir) -> Path:
    """Three real scans of the train split, resampled coarsely so that they are quick to read."""
    folder = tmp_path_factory.mktemp("training")
    scans = folder / "scans.txt"
    names = ["ct/cip_chest_64_ct.nii.gz", "ct/crlm_ct_1004_ct.nii.gz", "ct_limbs/sts_001_ct.nii.gz"]
    scans.write_text("".join(f"{data_dir / name}\n" for name in names))
    ingest(scans, folder / "store", Layout(spacing_mm=(4.0, 4.0, 4.0), crop_body=True))
    return folder / "store"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A config of 20 steps that trains in about a second."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def launch():
    """Run ``python -m training.pretrain WORDS`` on some ranks, as a person would; returns the finished process."""

    def run(
        ranks: int, *words: object, module: str = "training.pretrain", check: bool = True
    ) -> subprocess.CompletedProcess:
        start = [sys.executable] if ranks == 1 else [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", "0",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
        ]  # fmt: skip
        target = [module] if module.endswith(".py") else ["-m", module]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*start, *target, *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180
        )
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    return run
