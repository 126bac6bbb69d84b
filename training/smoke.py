"""Does everything that pretraining needs work on this machine? A few minutes, on the device that it would use:

    python -m training.smoke                       every check, a table, and smoke.json to send to us
    python -m training.smoke --device cpu          the same on the processor, as the tests run it
    python -m training.smoke --only step compile   some of them

Data are the packaged samples; nothing is fetched. A check that fails says why, and the others go on. Exit code 0 only
when all have passed. docs/first_gpu_run.md says what should be seen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml

from tapct_core.atomic import atomic_path
from tapct_core.samples import load_sample

from .data.block_masks import block_masks
from .data.crop_store import CropStore, create_store, write_scan
from .data.sampler import BatchPlan, Prefetcher, Sampler
from .data.views import make_views
from .network.optim import clip_gradients, parameter_groups
from .run.config import Config, load_config
from .run.engine import autocast_dtype, build, has_fast_bf16, wrap

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "seed": 3,
    "data": {"root": "store", "block": [8, 48, 48], "threads": 2, "prefetch": 1},
    "model": {"patch_size": [4, 8, 8], "img_size": [8, 32, 32], "embed_dim": 64, "depth": 2, "num_heads": 2,
              "drop_path": 0.2, "layer_scale_init": 0.1},
    "views": {"global_size": [8, 32, 32], "local_size": [8, 16, 16], "n_local": 2, "flip": [0.0, 0.5, 0.5]},
    "heads": {"prototypes": 256, "hidden": 64, "bottleneck": 32, "layers": 2},
    "optim": {"lr": 0.002, "lr_batch": 0},
    "schedule": {"steps": 6, "warmup_steps": 2},
    "batch": {"per_rank": 4},
    "engine": {"threads": 1},
    "run": {"dir": "run", "save_every": 100, "log_every": 1, "tensorboard": False},
}  # fmt: skip
"""A recipe of all three losses that runs in seconds anywhere."""
LARGE = ROOT / "training" / "configs" / "tap_ct_b_3d.yaml"


@dataclass
class Result:
    """What one check gave: ``said`` is a figure where it passed, the reason where it did not."""

    name: str
    passed: bool
    said: str
    seconds: float


@dataclass
class Bench:
    """What checks work with: the device, a scratch folder with a store, and the tiny recipe."""

    device: torch.device
    folder: Path
    _store: Path | None = field(default=None, repr=False)

    @property
    def store(self) -> Path:
        """A store of the packaged samples, made once."""
        if self._store is None:
            self._store = self.folder / "store"
            create_store(self._store, {"spacing_mm": None, "crop_body": False})
            for sample, role in (
                ("breathing_pair", "baseline"),
                ("breathing_pair", "followup"),
                ("abdomen_pelvis", "ct"),
            ):
                volume = load_sample(sample)[role]
                write_scan(self._store, f"{sample}_{role}", volume.hu, volume.geometry, {})
        return self._store

    def recipe(self, name: str = "tiny", **sections: dict) -> Path:
        """The tiny recipe as a file, with some settings of its sections replaced."""
        values: dict = dict(TINY)
        sections = {"engine": {"device": self.device.type}, **sections}
        for section, changed in sections.items():
            values[section] = {**values.get(section, {}), **changed}
        values["data"] = {**values["data"], "root": str(self.store)}
        values["run"] = {**values["run"], "dir": str(self.folder / name)}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def config(self, **sections: dict) -> Config:
        """The tiny recipe, loaded."""
        return load_config(self.recipe(**sections))

    def batch(self, config: Config):
        """The first micro-batch of a recipe's run."""
        sampler = Sampler(CropStore(self.store), config.data.block, config.seed)
        pin = self.device.type == "cuda"
        with Prefetcher(sampler, BatchPlan(config.batch.per_rank), 0, threads=2, pin=pin) as batches:
            return next(batches)[1][0]


def losses_of(bench: Bench, config: Config, device: torch.device) -> dict[str, float]:
    """The losses of the first step, and "gradient": the norm after the backward pass."""
    model = build(config, device)
    student, sync = wrap(model, config.engine)
    micro = bench.batch(config)
    views = make_views(micro.blocks.to(device), micro.seeds, config.views, config.augment, config.input_spec())
    masks = block_masks(
        np.concatenate([micro.seeds, micro.seeds + 1]), config.model.grid, (0.1, 0.5), 0.5, device=device
    )
    report = model.step_losses(
        [views], [masks], 0.05, spacing_mm=[micro.spacing_mm.to(device)], student=student, sync=sync
    )
    found = {name: float(loss) for name, loss in report.losses.items()}
    return {**found, "gradient": float(clip_gradients(model.student, 0.0)["all"])}


def agree(a: dict[str, float], b: dict[str, float], tolerance: float) -> str:
    """The largest relative difference in words. Raises AssertionError where it is above ``tolerance``."""
    gaps = {name: abs(a[name] - b[name]) / max(abs(b[name]), 1e-3) for name in b}
    worst = max(gaps, key=gaps.get)
    said = f"largest relative difference {gaps[worst]:.2g} ({worst}: {a[worst]:.5g} against {b[worst]:.5g})"
    assert gaps[worst] <= tolerance, said
    return said


STILL = {"model": {"drop_path": 0.0}}
"""Without drop path a step draws nothing, so that two of them can be compared."""


def check_device(bench: Bench) -> str:
    """What the device is."""
    if bench.device.type != "cuda":
        return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    facts = torch.cuda.get_device_properties(bench.device)
    return f"{facts.name}, {facts.total_memory / 1e9:.0f} GB, capability {facts.major}.{facts.minor}"


def check_crops(bench: Bench) -> str:
    """Crops and augmentations made on the device are those made on the processor."""
    config = bench.config()
    micro = bench.batch(config)
    made = [
        make_views(micro.blocks.to(device), micro.seeds, config.views, config.augment, config.input_spec())
        for device in (bench.device, torch.device("cpu"))
    ]
    gap = float((made[0].globals.float().cpu() - made[1].globals.float()).abs().max())
    assert gap < 0.02, f"the crops differ by up to {gap:.3g} standard deviations of HU"
    return f"largest difference {gap:.2g} standard deviations of HU"


def check_step(bench: Bench) -> str:
    """A step in float32 gives the processor's losses and gradient."""
    config = bench.config(**STILL, engine={"device": bench.device.type, "precision": "fp32"})
    return agree(losses_of(bench, config, bench.device), losses_of(bench, config, torch.device("cpu")), 1e-3)


def check_bf16(bench: Bench) -> str:
    """A step in bfloat16 is near the one in float32, where the hardware has it."""
    if not has_fast_bf16(bench.device):
        return "this device only emulates bfloat16; runs use float32"
    assert autocast_dtype("auto", bench.device) is torch.bfloat16
    two = [bench.config(**STILL, engine={"device": bench.device.type, "precision": p}) for p in ("bf16", "fp32")]
    return agree(*(losses_of(bench, config, bench.device) for config in two), 0.1)


def check_compile(bench: Bench) -> str:
    """A compiled step gives the losses of an eager one."""
    two = [bench.config(**STILL, engine={"device": bench.device.type, "compile": on}) for on in (True, False)]
    return agree(*(losses_of(bench, config, bench.device) for config in two), 0.02)


def check_checkpointing(bench: Bench) -> str:
    """A step that recomputes activations gives the losses of one that keeps them."""
    two = [
        bench.config(**STILL, engine={"device": bench.device.type, "activation_checkpointing": on})
        for on in (True, False)
    ]
    return agree(*(losses_of(bench, config, bench.device) for config in two), 1e-4)


def check_deterministic(bench: Bench) -> str:
    """With engine.deterministic no kernel of a step refuses, and two steps are equal to the bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (losses_of(bench, bench.config(**STILL), bench.device) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert first == second, f"{first} and {second} are not equal"
    return "two steps are equal to the bit"


def check_optimiser(bench: Bench) -> str:
    """Ten steps of AdamW on one batch bring the loss down."""
    config = bench.config(**STILL)
    model = build(config, bench.device)
    optimiser = torch.optim.AdamW(parameter_groups(model.student, config.model.depth), lr=2e-3)
    micro = bench.batch(config)
    views = make_views(micro.blocks.to(bench.device), micro.seeds, config.views, config.augment, config.input_spec())
    masks = torch.zeros(2 * len(micro.seeds), int(np.prod(config.model.grid)), dtype=torch.bool, device=bench.device)
    masks[:, ::3] = True
    totals = []
    for _ in range(10):
        report = model.step_losses([views], [masks], 0.07, spacing_mm=[micro.spacing_mm.to(bench.device)])
        optimiser.step()
        optimiser.zero_grad()
        totals.append(float(report.losses["total"]))
    assert np.isfinite(totals).all() and totals[-1] < totals[0], (
        f"the loss went from {totals[0]:.3f} to {totals[-1]:.3f}"
    )
    return f"loss {totals[0]:.3f} to {totals[-1]:.3f}"


def run_module(*words: object, ranks: int = 1) -> None:
    """``python -m ...``, on some ranks. Raises RuntimeError with the last line that it said."""
    start = [sys.executable, "-m"]
    if ranks > 1:
        start += ["torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", "0"]
        start += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*start, *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"{' '.join(map(str, words[:1]))} ended with {done.returncode}: {lines[-1]}")


def check_resume(bench: Bench) -> str:
    """A run that is stopped and started again ends with the weights of one that was not, and exports."""
    from safetensors.numpy import load_file

    for name, stops in (("whole", [6]), ("parted", [3, 6])):
        path = bench.recipe(name)
        for stop in stops:
            run_module("training.pretrain", path, f"run.stop_after={stop}")
        run_module("training.export", bench.folder / name, "--to", bench.folder / f"{name}_encoder")
    one, two = (load_file(bench.folder / f"{name}_encoder" / "model.safetensors") for name in ("whole", "parted"))
    different = [name for name in one if not np.array_equal(one[name], two[name])]
    if bench.device.type == "cpu":
        assert not different, f"{len(different)} tensors differ, the first {different[0]}"
        return "equal to the bit"
    gap = max(float(np.abs(one[name] - two[name]).max()) for name in one)
    assert gap < 1e-3, f"the weights differ by up to {gap:.2g}"
    return f"{len(different)} of {len(one)} tensors differ, by up to {gap:.2g} (engine.deterministic makes it none)"


def check_ranks(bench: Bench) -> str:
    """Two steps on several ranks, replicated and sharded: as many as there are GPUs, two on a processor."""
    ranks = torch.cuda.device_count() if bench.device.type == "cuda" else 2
    if ranks < 2:
        return "one GPU alone: nothing to talk to"
    for parallel in ("ddp", "fsdp2"):
        engine = {"device": bench.device.type, "parallel": parallel}
        path = bench.recipe(f"ranks_{parallel}", engine=engine, schedule={"steps": 2, "warmup_steps": 1})
        run_module("training.pretrain", path, ranks=ranks)
    return f"{ranks} ranks, ddp and fsdp2"


def check_memory(bench: Bench) -> str:
    """What a sample of the large recipe takes on this GPU, and how many fit: set batch.per_rank by it."""
    if bench.device.type != "cuda":
        return "measured on a GPU only"
    config = load_config(LARGE, [f"data.root={bench.store}", "run.dir=unused", "engine.compile=false"])
    model = build(config, bench.device)
    peaks = []
    for samples in (1, 2, 3):
        blocks = torch.zeros(samples, *config.data.block, dtype=torch.int16, device=bench.device)
        views = make_views(blocks, np.arange(samples), config.views, config.augment, config.input_spec())
        masks = block_masks(np.arange(2 * samples), config.model.grid, (0.1, 0.5), 0.5, device=bench.device)
        torch.cuda.reset_peak_memory_stats(bench.device)
        model.step_losses([views], [masks], 0.05, spacing_mm=[torch.ones(samples, 3, device=bench.device)])
        model.zero_grad(set_to_none=False)
        peaks.append(torch.cuda.max_memory_allocated(bench.device) / 1e9)
    weights = sum(p.numel() for p in model.student.parameters())
    each, moments = peaks[2] - peaks[1], 8 * weights / 1e9
    room = torch.cuda.get_device_properties(bench.device).total_memory / 1e9 * 0.92 - moments - (peaks[1] - 2 * each)
    beside = peaks[1] - 2 * each + moments
    return f"{each:.2f} GB a sample and {beside:.1f} GB beside: batch.per_rank={int(room / each)} fits"


CHECKS: dict[str, Callable[[Bench], str]] = {
    name.removeprefix("check_"): value for name, value in list(globals().items()) if name.startswith("check_")
}


def run_checks(bench: Bench, names: list[str]) -> list[Result]:
    """Every check in turn; whatever one of them raises becomes its reason."""
    results = []
    for name in names:
        began = time.perf_counter()
        try:
            said, passed = CHECKS[name](bench), True
        except Exception as error:  # the next one may pass, and all reasons are wanted
            said, passed = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", False
        results.append(Result(name, passed, said, round(time.perf_counter() - began, 2)))
        print(f"{'ok  ' if passed else 'FAIL'} {name:14s} {results[-1].seconds:7.1f} s  {said}", flush=True)
    return results


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.smoke", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", nargs="+", choices=tuple(CHECKS), metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--out", type=Path, default=Path("smoke.json"), metavar="FILE", help="default smoke.json")
    args = parser.parse_args(argv)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    if name == "cuda" and not torch.cuda.is_available():
        print("error: PyTorch sees no CUDA device; install its CUDA build, or use --device cpu", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="tapct-smoke-") as folder:
        results = run_checks(Bench(torch.device(name), Path(folder)), args.only or list(CHECKS))
    report = {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "checks": [asdict(result) for result in results],
    }
    with atomic_path(args.out) as part:
        part.write_text(json.dumps(report, indent=1) + "\n")
    failed = [result.name for result in results if not result.passed]
    print(f"{len(results) - len(failed)} of {len(results)} passed; {args.out} has it all")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
