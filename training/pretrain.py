"""3D DINOv2 pretraining on CT. One process, no launcher:

    python -m training.pretrain training/configs/tap_ct_xs_3d.yaml data.root=STORE run.dir=RUN

one machine with 8 devices, and 4 such machines (the same line on each):

    torchrun --nproc-per-node 8 -m training.pretrain training/configs/tap_ct_b_3d.yaml data.root=STORE run.dir=RUN
    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        -m training.pretrain training/configs/tap_ct_b_3d.yaml data.root=STORE run.dir=RUN

under SLURM: sbatch training/launch/slurm.sh CONFIG key=value ...

The same command again goes on where the run stopped, on as many ranks as there are then. SIGTERM and
SIGUSR1 save after the step under way and end the process, as do run.stop_after and run.max_minutes.

Exit codes: 0 the run is finished, or stopped cleanly when told to (RUN/status.json says which);
2 a config, a store or a checkpoint is wrong, in one line; 3 too many steps in a row were not finite.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch

from tapct_core.atomic import atomic_path
from tapct_core.errors import UserError
from tapct_core.geometry import Shape

from . import distributed, health
from .checkpoint import Checkpointer, optimiser_state, parameter_names
from .config import Config, load_config, recipe, save_config
from .engine import build, prepare_process, teacher_backbone, wrap
from .export import read_run
from .log import Meter, RunLog, duration, progress_line, sample_flops
from .masks import block_masks
from .online import OnlineProbe
from .optim import clip_gradients, parameter_groups, set_rates
from .sampler import BatchPlan, MicroBatch, Prefetcher, Sampler
from .schedules import Cosine, Ramp
from .store import CropStore
from .student_teacher import LossReport, StudentTeacher
from .views import Views, make_views


class NonFinite(RuntimeError):
    """Too many steps in a row whose loss or gradient was not finite."""


def pretrain(config: Config) -> str:
    """Run, or go on with, the pretraining that ``config`` describes; returns why it ended, "finished" or the reason.

    Raises UserError for what a person has to change and NonFinite where numbers will not recover.
    """
    # ---- what the run is made of
    device = prepare_process(config.engine)
    folder = Path(config.run.dir)
    store = CropStore(config.data.root, cache_gb=config.data.cache_gb)
    plan = BatchPlan(config.batch.per_rank, config.batch.accumulate, distributed.rank(), distributed.world_size())
    model = build(config, device)
    student, sync = wrap(model, config.engine)
    peak = config.optim.peak_lr(plan.size)
    optimiser = torch.optim.AdamW(
        parameter_groups(model.student, config.model.depth, config.optim.layer_decay, config.optim.patch_embed_lr),
        lr=peak, betas=config.optim.betas,
    )  # fmt: skip
    course = Course(config, peak)
    torch.manual_seed(config.seed + 1_000_003 * (distributed.rank() + 1))  # drop path: ranks draw apart

    # ---- where it stands
    claim_folder(folder, config)
    log = RunLog(folder, active=distributed.is_main(), tensorboard=config.run.tensorboard)
    checkpointer = Checkpointer(folder / "checkpoints", config.run.keep_last)
    facts = checkpointer.load_latest(model_state(model), (model.student,), optimiser, config.run.fall_back)
    first = facts["step"] if facts else 0
    check_data(facts, store, plan)
    crops, flops = work_of_a_sample(config)
    log.record("start", first, {"ranks": plan.world, "global_batch": plan.size, "scans": len(store), "device": str(device),
                                "precision": str(model.autocast or torch.float32), "gflop_per_sample": flops / 1e9})  # fmt: skip
    log.say(f"{'going on at' if first else 'starting at'} step {first} of {config.schedule.steps}: {len(store)} scans, "
            f"{plan.world} rank(s) x {plan.accumulate} x {plan.per_rank} samples, {flops / 1e9:.1f} GFLOP a sample, {device}")  # fmt: skip

    # ---- step by step
    alarm = health.CollapseAlarm(config.heads.prototypes, grace=max(20, config.schedule.warmup_steps))
    probe = OnlineProbe(config.online.cases, config.online.neighbours, config.online.tokens_per_class) if config.online.every else None
    sampler = Sampler(store, config.data.block, config.seed, config.data.sample_by)
    meter, lost, ended = Meter(), 0, "finished" if first >= config.schedule.steps else ""
    named: set[str] = set()
    with StopRequest(config.run.max_minutes) as stop, Prefetcher(
        sampler, plan, first, config.data.prefetch, config.data.threads, pin=device.type == "cuda"
    ) as batches:  # fmt: skip
        while not ended:
            asked = time.perf_counter()
            step, batch = next(batches)
            waited = time.perf_counter() - asked
            done = step + 1

            course.set(optimiser, step)
            micro_batches = [see(config, micro, device) for micro in batch]
            report = model.step_losses(
                [views for views, _ in micro_batches], [mask for _, mask in micro_batches], course.temperature(step),
                spacing_mm=[micro.spacing_mm.to(device) for micro in batch], student=student, sync=sync,
            )  # fmt: skip
            norm = clip_gradients(model.student.parameters(), config.optim.clip)
            finite = bool(torch.isfinite(report.losses["total"]) & torch.isfinite(norm))
            # one message for both questions: does every rank have numbers, and was any rank told to stop
            broken, told = distributed.all_reduce_max(torch.tensor([not finite, stop.asked()], dtype=torch.int32, device=device)).tolist()
            if broken:
                lost += 1
                write_down(log, step, batch, finite)
            else:
                lost = 0
                optimiser.step()
                model.update_teacher(course.momentum(step))
            optimiser.zero_grad(set_to_none=True)
            meter.step(waited)

            # ---- what the step has to tell
            for scan_id, words in batches.skipped.items() - named:
                named.add((scan_id, words))
                log.record("damaged_scan", step, {"name": scan_id, "words": words})
                log.say(f"skipped: {words}")
            if done % config.run.log_every == 0 or done == config.schedule.steps:
                rates = meter.report(plan.size, crops, plan.size * flops, config.schedule.steps - done)
                tell(log, alarm, config, done, report, {**course.values(step), "gradient_norm": float(norm)}, rates)
            if probe is not None and (done % config.online.every == 0 or done == config.schedule.steps):
                backbone = teacher_backbone(model)
                if distributed.is_main():
                    log.record("online", done, scores := probe.score(backbone, config.input_spec()))
                    log.say(f"step {done} | online kNN {scores['knn']:.3f} linear {scores['linear']:.3f} (guessing {1 / scores['classes']:.3f})")
                distributed.barrier()

            # ---- whether it goes on
            if lost >= config.run.non_finite_limit:
                ended = "not finite"
            elif done >= config.schedule.steps:
                ended = "finished"
            elif told:
                ended = f"stopped: {stop.reason}"
            elif done == config.run.stop_after:
                ended = f"stopped: run.stop_after={done}"
            if ended or done % config.run.save_every == 0:
                state = {**model_state(model), "optimiser": optimiser_state(optimiser, parameter_names(model.student))}
                checkpointer.save(done, state, data_facts(store, plan), wait=bool(ended))
                if ended:
                    finish(folder, log, done, ended)
    checkpointer.wait()
    log.close()
    if ended == "not finite":
        raise NonFinite(f"{lost} steps in a row were not finite; {folder / 'log.jsonl'} names their crops. Lower optim.lr or lengthen the warm-up")
    return ended


class Course:
    """Everything that changes with the step, as functions of the step alone."""

    def __init__(self, config: Config, peak_lr: float) -> None:
        schedule, optim = config.schedule, config.optim
        self.schedule = schedule
        self.lr = Cosine(peak_lr, min(optim.min_lr, peak_lr), schedule.steps, schedule.warmup_steps)
        self.weight_decay = Cosine(*optim.weight_decay, schedule.steps)
        self.momentum = Cosine(*schedule.momentum, schedule.steps)
        self.temperature = Ramp(*schedule.teacher_temperature, schedule.teacher_temperature_steps)

    def set(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Write the step's rates into the optimiser."""
        frozen = 0.0 if step < self.schedule.freeze_last_layer_steps else None
        set_rates(optimiser, self.lr(step), self.weight_decay(step), frozen, step < self.schedule.head_only_steps)

    def values(self, step: int) -> dict[str, float]:
        """What the log shows."""
        return {"lr": self.lr(step), "weight_decay": self.weight_decay(step), "momentum": self.momentum(step),
                "teacher_temperature": self.temperature(step)}  # fmt: skip


def see(config: Config, micro: MicroBatch, device: torch.device) -> tuple[Views, torch.Tensor]:
    """A micro-batch's views and its masks (2B, N), made on the device out of the samples' seeds."""
    views = make_views(micro.blocks.to(device, non_blocking=True), micro.seeds, config.views, config.augment, config.input_spec())
    grid: Shape = tuple(n // p for n, p in zip(config.views.global_size, config.model.patch_size, strict=True))
    mask = config.mask
    probability = mask.probability if config.loss.ibot > 0 else 0.0
    seeds = np.concatenate([micro.seeds, micro.seeds + 1])  # a mask of its own for either global crop
    return views, block_masks(seeds, grid, mask.ratio, probability, mask.block_share, device)


def model_state(model: StudentTeacher) -> dict:
    """Student, teacher and the losses' own state (centres, sharpness) by name; loading writes into these tensors."""
    return {
        "student": model.student.state_dict(),
        "teacher": model.teacher.state_dict(),
        "losses": {name: buffer for name, buffer in model.named_buffers() if "." not in name},
    }


def data_facts(store: CropStore, plan: BatchPlan) -> dict:
    """What the position in the data means: it is the step, given these."""
    return {"global_batch": plan.size, "scans": len(store), "first_scan": store.scans[0].scan_id, "last_scan": store.scans[-1].scan_id}


def check_data(facts: dict | None, store: CropStore, plan: BatchPlan) -> None:
    """Say so where a resumed run will not see what it would have seen. Raises UserError for another global batch."""
    if facts is None:
        return
    if facts["global_batch"] != plan.size:
        raise UserError(
            f"the run was going with {facts['global_batch']} samples a step, now it would be {plan.size} "
            f"({plan.world} ranks x {plan.accumulate} x {plan.per_rank}); set batch.per_rank and batch.accumulate to keep it"
        )
    if any(facts[key] != value for key, value in data_facts(store, plan).items()):
        warnings.warn("the store is not the one of the last checkpoint; crops come in another order from here", stacklevel=2)


def claim_folder(folder: Path, config: Config) -> None:
    """Write RUN/config.yaml, or check that the run there has the same recipe. Raises UserError naming what differs."""
    if (folder / "config.yaml").is_file():
        old, new = flat(recipe(read_run(folder))), flat(recipe(config))
        changed = [f"{key} was {old.get(key)}, now {new.get(key)}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        if changed and not config.run.change_recipe:
            raise UserError(
                f"{folder} holds a run of another recipe ({'; '.join(changed[:3])}{' ...' if len(changed) > 3 else ''}); "
                "use another run.dir, or say run.change_recipe=true to go on with the new one"
            )
    distributed.barrier()  # all have read before one writes
    if distributed.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "config.yaml") as part:
            save_config(config, part)


def flat(values: dict, prefix: str = "") -> dict:
    """Nested dicts -> one with dotted keys."""
    return {k: v for key, value in values.items()
            for k, v in (flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}).items()}  # fmt: skip


def work_of_a_sample(config: Config) -> tuple[int, float]:
    """Crops of one sample, and the floating-point operations of its part in a step."""
    views = config.views
    seen_by_both = [(views.global_size, 2)]
    return 2 + views.n_local, sample_flops(config.model.vit(), [*seen_by_both, (views.local_size, views.n_local)], seen_by_both)


def write_down(log: RunLog, step: int, batch: list[MicroBatch], finite: bool) -> None:
    """The identity of a batch that gave no number, from every rank, so that it can be looked at."""
    crops = [{"scan": s.scan_id, "start": s.start, "seed": s.seed} for micro in batch for s in micro.samples]
    ranks = distributed.gather_objects({"rank": distributed.rank(), "finite": finite, "crops": crops})
    log.record("non_finite", step, {"ranks": ranks})
    log.say(f"step {step}: loss or gradient not finite, skipped by all ranks; its crops are in log.jsonl")


def tell(log: RunLog, alarm: health.CollapseAlarm, config: Config, done: int, report: LossReport, values: dict, rates: dict) -> None:
    """Log losses (mean over ranks), health (over all ranks' crops), schedules and speed; sound the alarm in words."""
    losses = {name: distributed.all_reduce_mean(value.clone()).item() for name, value in report.losses.items()}
    cls = distributed.all_gather(report.cls)
    numbers = health.measure(distributed.all_gather(report.targets) if report.targets is not None else None, cls)
    alarms = alarm.look(done, {**numbers, **losses})
    log.record("train", done, {**losses, **numbers, **values, **rates})
    shown = {short: numbers[name] for name, short in (("teacher_entropy", "entropy"), ("effective_rank", "rank")) if name in numbers}
    log.say(progress_line(done, config.schedule.steps, losses, {**shown, "lr": values["lr"]}, rates) + (" | !! COLLAPSE" if alarms else ""))
    for words in alarms:
        log.record("alarm", done, {"words": words})
        log.say(f"!! {words}")


def finish(folder: Path, log: RunLog, done: int, ended: str) -> None:
    """Write RUN/status.json once the last checkpoint is whole."""
    if distributed.is_main():
        with atomic_path(folder / "status.json") as part:
            part.write_text(json.dumps({"state": ended.split(":")[0], "reason": ended, "step": done}) + "\n")
        log.record("end", done, {"words": ended})
        log.say(f"{ended}; step {done} is saved in {folder / 'checkpoints'}")


class StopRequest(AbstractContextManager):
    """Remembers SIGTERM and SIGUSR1, and when the time is up, for the end of the step under way."""

    def __init__(self, max_minutes: float | None) -> None:
        self.reason = "another rank was told to stop"
        self._signalled = False
        self._until = time.monotonic() + 60 * max_minutes if max_minutes else float("inf")
        self._before: dict = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether this rank was told to stop."""
        if not self._signalled and time.monotonic() >= self._until:
            self.reason = "run.max_minutes is up"
            return True
        return self._signalled

    def _note(self, number: int, frame: object) -> None:
        self._signalled, self.reason = True, signal.Signals(number).name


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain", description="3D self-supervised pretraining on CT.")
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example data.root=STORE run.dir=RUN schedule.steps=1000")
    args = parser.parse_args(argv)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        pretrain(load_config(args.config, args.overrides))
        return 0
    except (UserError, NonFinite) as error:
        if distributed.is_main():
            print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 3
    finally:
        distributed.shut_down()


if __name__ == "__main__":
    sys.exit(main())
