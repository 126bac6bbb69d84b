"""3D DINOv2 pretraining on CT. One process, no launcher:

    python -m training.pretrain training/configs/tap_ct_xs_3d.yaml data.root=STORE run.dir=RUN

one machine with 8 devices, and 4 such machines (the same line on each):

    torchrun --nproc-per-node 8 -m training.pretrain training/configs/tap_ct_b_3d.yaml data.root=STORE run.dir=RUN
    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        -m training.pretrain training/configs/tap_ct_b_3d.yaml data.root=STORE run.dir=RUN

under SLURM: sbatch training/launch/slurm.sh CONFIG key=value ...

The same command again goes on where the run stopped, on as many ranks as there are then. SIGTERM, SIGUSR1
and Ctrl-C save after the step under way and end the process, as do run.stop_after and run.max_minutes.

Exit codes: 0 the run is finished, or stopped cleanly when told to (RUN/status.json says which);
2 a config, a store or a checkpoint is wrong, in one line; 3 too many steps in a row were not finite.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch

from tapct_core.errors import UserError
from tapct_core.geometry import Shape
from tapct_core.terminal import print_any_name

from .data.block_masks import block_masks
from .data.crop_store import CropStore
from .data.sampler import BatchPlan, MicroBatch, Prefetcher, Sampler
from .data.views import Views, make_views
from .network.optim import clip_gradients, parameter_groups
from .network.student_teacher import LossReport, StudentTeacher
from .run import distributed, health
from .run.checkpoint import (
    Checkpointer,
    CheckpointError,
    in_words,
    list_checkpoints,
    optimiser_state,
    parameter_names,
)
from .run.config import Config, load_config
from .run.engine import build, prepare_process, teacher_backbone, wrap
from .run.log import Meter, RunLog, progress_line, sample_flops
from .run.online import OnlineProbe
from .run.run_folder import check_data, claim_folder, data_facts, write_status
from .run.run_schedule import RunSchedule

RETRIES = 10
"""A checkpoint that could not be saved is tried again this often between two regular ones."""


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
    schedule = RunSchedule(config, peak)
    torch.manual_seed(config.seed + 1_000_003 * (distributed.rank() + 1))  # drop path: ranks draw apart

    # ---- where it stands
    claim_folder(folder, config)
    checkpointer = Checkpointer(folder / "checkpoints", config.run.keep_last)
    facts = checkpointer.load_latest(model_state(model), (model.student,), optimiser, config.run.fall_back)
    first = facts["step"] if facts else 0
    check_data(facts, store, plan)
    log = RunLog(folder, active=distributed.is_main(), tensorboard=config.run.tensorboard)
    crops, flops = work_of_a_sample(config)
    setting = {"ranks": plan.world, "global_batch": plan.size, "scans": len(store), "device": str(device)}
    precision = str(model.autocast or torch.float32).removeprefix("torch.")
    log.record("start", first, {**setting, "precision": precision, "gflop_per_sample": flops / 1e9})
    log.say(
        f"{'going on' if first else 'starting'} at step {first} of {config.schedule.steps}: {len(store)} scans, "
        f"{plan.world} rank(s) x {plan.accumulate} x {plan.per_rank} samples of {flops / 1e9:.3g} GFLOP, {device}"
    )

    # ---- step by step
    alarm = health.CollapseAlarm(config.heads.prototypes, grace=max(20, config.schedule.warmup_steps))
    probe = (
        OnlineProbe(config.online.cases, config.online.neighbours, config.online.tokens_per_class)
        if config.online.every
        else None
    )
    sampler = Sampler(store, config.data.block, config.seed, config.data.sample_by)
    meter, lost, named, again = Meter(), 0, set(), 0
    last = min(config.schedule.steps, config.run.stop_after or config.schedule.steps)
    ended = "nothing left to do" if first >= last else ""
    with StopRequest(config.run.max_minutes) as stop, Prefetcher(
        sampler, plan, first, config.data.prefetch, config.data.threads, pin=device.type == "cuda"
    ) as batches:  # fmt: skip
        while not ended:
            asked = time.perf_counter()
            step, batch = next(batches)
            waited = time.perf_counter() - asked
            done = step + 1

            schedule.set(optimiser, step)
            micro_batches = [see(config, micro, device) for micro in batch]
            report = model.step_losses(
                [views for views, _ in micro_batches], [mask for _, mask in micro_batches], schedule.temperature(step),
                spacing_mm=[micro.spacing_mm.to(device) for micro in batch], student=student, sync=sync,
            )  # fmt: skip
            norms = clip_gradients(model.student, config.optim.clip)
            norm = norms.pop("all")
            finite = bool(torch.isfinite(report.losses["total"]) & torch.isfinite(norm))
            unsaved = checkpointer.failure()
            # one message for three questions: has every rank numbers, was any told to stop, did any fail to save
            broken, told, failed = distributed.all_reduce_max(
                torch.tensor([not finite, stop.asked(), bool(unsaved)], dtype=torch.int32, device=device)
            ).tolist()
            if failed:
                again = done + max(1, config.run.save_every // RETRIES)
                log.record("unsaved", done, {"words": unsaved})
                log.say(
                    f"!! a checkpoint could not be saved ({unsaved or 'on another rank'}); trying again at step {again}"
                )
            if broken:
                lost += 1
                write_down(log, step, batch, finite)
            else:
                lost = 0
                optimiser.step()
                model.update_teacher(schedule.momentum(step))
            optimiser.zero_grad(set_to_none=True)
            meter.step(waited)

            # ---- what the step has to tell
            if done % config.run.log_every == 0 or done == config.schedule.steps:
                for words in set().union(*distributed.gather_objects(batches.skipped())) - named:
                    named.add(words)
                    log.record("damaged_scan", done, {"name": words.split()[1], "words": words})
                    log.say(f"skipped: {words}")
                rates = meter.report(plan.size, crops, plan.size * flops, config.schedule.steps - done)
                tell(log, alarm, config, done, report, {**schedule.values(step), **norm_values(norm, norms)}, rates)
            if probe is not None and (done % config.online.every == 0 or done == config.schedule.steps):
                backbone = teacher_backbone(model)
                if distributed.is_main():
                    log.record("online", done, scores := probe.score(backbone, config.input_spec()))
                    log.say(f"step {done} | online " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()))
                distributed.barrier()

            # ---- whether it goes on
            if lost >= config.run.non_finite_limit:
                ended = "not finite"
            elif done >= config.schedule.steps:
                ended = "finished"
            elif told:
                ended = f"stopped: {stop.reason}"
            elif done == last:
                ended = f"stopped: run.stop_after={done}"
            if ended or done % config.run.save_every == 0 or done == again:
                state = {**model_state(model), "optimiser": optimiser_state(optimiser, parameter_names(model.student))}
                checkpointer.save(done, state, data_facts(store, plan))
                if ended:
                    last_save(checkpointer, folder)
                    write_status(folder, done, ended)
                    log.record("end", done, {"words": ended})
                    log.say(f"{ended}; step {done} is saved in {folder / 'checkpoints'}")
    log.close()
    if ended == "not finite":
        raise NonFinite(
            f"{lost} steps in a row were not finite; {folder / 'log.jsonl'} names their crops. "
            "Lower optim.lr or lengthen the warm-up"
        )
    return ended


def norm_values(joint: torch.Tensor, parts: dict[str, torch.Tensor]) -> dict[str, float]:
    """What the log says of the gradients: their joint norm, and that of each part where there are several."""
    own = {f"gradient_norm_{name}": float(norm) for name, norm in parts.items()} if len(parts) > 1 else {}
    return {"gradient_norm": float(joint), **own}


def last_save(checkpointer: Checkpointer, folder: Path) -> None:
    """Until the run's end is on disk. Raises CheckpointError, in one line, where it cannot be."""
    try:
        checkpointer.wait()
    except Exception as error:
        kept = list_checkpoints(folder / "checkpoints")
        where = f"the last checkpoint is step {kept[-1]}" if kept else "there is no checkpoint"
        raise CheckpointError(
            f"the end of the run could not be saved in {folder} ({in_words(error)}) and {where}; "
            "free some space and start it again"
        ) from error
    distributed.barrier()


def see(config: Config, micro: MicroBatch, device: torch.device) -> tuple[Views, torch.Tensor]:
    """A micro-batch's views and its masks (2B, N), made on the device out of the samples' seeds."""
    views = make_views(
        micro.blocks.to(device, non_blocking=True), micro.seeds, config.views, config.augment, config.input_spec()
    )
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


def work_of_a_sample(config: Config) -> tuple[int, float]:
    """Crops of one sample, and the floating-point operations of its part in a step."""
    views = config.views
    seen_by_both = [(views.global_size, 2)]
    return 2 + views.n_local, sample_flops(
        config.model.vit(),
        [*seen_by_both, (views.local_size, views.n_local)],
        seen_by_both if config.loss.asks_teacher else [],
    )


def write_down(log: RunLog, step: int, batch: list[MicroBatch], finite: bool) -> None:
    """The identity of a batch that gave no number, from every rank, so that it can be looked at."""
    crops = [{"scan": s.scan_id, "start": s.start, "seed": s.seed} for micro in batch for s in micro.samples]
    ranks = distributed.gather_objects({"rank": distributed.rank(), "finite": finite, "crops": crops})
    log.record("non_finite", step, {"ranks": ranks})
    log.say(f"step {step}: loss or gradient not finite, skipped by all ranks; its crops are in log.jsonl")


def tell(
    log: RunLog, alarm: health.CollapseAlarm, config: Config, done: int, report: LossReport, values: dict, rates: dict
) -> None:
    """Log losses (mean over ranks), health (over all ranks' crops), schedules and speed; sound the alarm in words."""
    losses = {name: distributed.all_reduce_mean(value.clone()).item() for name, value in report.losses.items()}
    cls = distributed.all_gather(report.cls)
    numbers = health.measure(distributed.all_gather(report.targets) if report.targets is not None else None, cls)
    alarms = alarm.look(done, {**numbers, **losses})
    log.record("train", done, {**losses, **numbers, **values, **rates})
    shown = {
        short: numbers[name]
        for name, short in (("teacher_entropy", "entropy"), ("effective_rank", "rank"))
        if name in numbers
    }
    log.say(
        progress_line(done, config.schedule.steps, losses, {**shown, "lr": values["lr"]}, rates)
        + (" | !! COLLAPSE" if alarms else "")
    )
    for words in alarms:
        log.record("alarm", done, {"words": words})
        log.say(f"!! {words}")


class StopRequest(AbstractContextManager):
    """Remembers SIGTERM, SIGUSR1 and Ctrl-C, and when the time is up, for the end of the step under way."""

    def __init__(self, max_minutes: float | None) -> None:
        self.reason = "another rank was told to stop"
        self._signalled = False
        self._until = time.monotonic() + 60 * max_minutes if max_minutes else float("inf")
        self._before: dict = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
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
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])  # a second Ctrl-C does not wait


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    print_any_name()
    parser = argparse.ArgumentParser(
        prog="python -m training.pretrain", description="3D self-supervised pretraining on CT."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example data.root=STORE run.dir=RUN schedule.steps=1000"
    )
    args = parser.parse_args(argv)
    try:
        pretrain(load_config(args.config, args.overrides))
        return 0
    except (UserError, NonFinite) as error:
        if distributed.is_main():
            print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 3
    except OSError as error:
        if error.errno is None:
            raise
        print(
            f"error: {error.strerror}: {error.filename or 'the output'}; check the path and its space", file=sys.stderr
        )
        return 2
    finally:
        distributed.shut_down()


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    sys.exit(main())
