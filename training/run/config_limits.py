"""What every number of a config may be: its range in a table (a loss' own beside it), and how it must stand to others.

``check(config)`` refuses, in one line that names the key, what no run can mean: a value outside its range (NaN and
infinity are outside all of them), and pairs that contradict each other. The upper ends are generous: they are there to
catch a slip of the keyboard or a unit, not to say what is wise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from tapct_core.errors import UserError

from ..losses.sinkhorn import MIN_TEMPERATURE
from ..network.student_teacher import LossSpec
from .limit import Limit

COUNT = Limit(1, 10**9)
COUNT_OR_NONE = Limit(0, 10**9)
SIZE = Limit(1, 4096)
CHANCE = Limit(0, 1)
SHARE = Limit(0, 1, above=True, order="up")
HU = Limit(-32768, 32767, order="strictly up")
FACTOR = Limit(0, 100, above=True, order="up")

LIMITS: dict[str, Limit] = {
    "seed": Limit(0, 2**63 - 1),
    "data.block": SIZE,
    "data.threads": Limit(1, 1024),
    "data.prefetch": Limit(0, 1024),
    "data.cache_gb": Limit(0, 1e5),
    "input.clip_hu": HU,
    "input.mean_hu": Limit(-32768, 32767),
    "input.std_hu": Limit(0, 32767, above=True),
    "input.spacing_mm": Limit(0.05, 50),
    "model.patch_size": SIZE,
    "model.img_size": SIZE,
    "model.embed_dim": Limit(1, 2**16),
    "model.depth": Limit(1, 1000),
    "model.num_heads": Limit(1, 1024),
    "model.num_register_tokens": Limit(0, 1024),
    "model.mlp_ratio": Limit(0, 64, above=True),
    "model.layer_norm_eps": Limit(0, 0.1, above=True),
    "model.layer_scale_init": Limit(0, 10, above=True),
    "model.drop_path": Limit(0, 1, below=True),
    "views.global_size": SIZE,
    "views.local_size": SIZE,
    "views.n_local": Limit(0, 64),
    "views.global_scale": SHARE,
    "views.local_scale": SHARE,
    "views.aspect": FACTOR,
    "views.depth_scale": FACTOR,
    "views.flip": CHANCE,
    "views.turn": Limit(0, 90),
    "augment.contrast_chance": CHANCE,
    "augment.contrast": FACTOR,
    "augment.gamma_chance": CHANCE,
    "augment.gamma": FACTOR,
    "augment.shift_chance": CHANCE,
    "augment.shift_hu": Limit(0, 2000),
    "augment.phase_chance": CHANCE,
    "augment.phase_hu": Limit(-2000, 2000, order="up"),
    "augment.blur_chance": CHANCE,
    "augment.blur": Limit(0, 20, above=True, order="up"),
    "augment.sharpen_chance": CHANCE,
    "augment.sharpen": Limit(0, 20, order="up"),
    "augment.noise_chance": CHANCE,
    "augment.noise_hu": Limit(0, 2000, order="up"),
    "augment.span_hu": HU,
    "mask.probability": CHANCE,
    "mask.ratio": Limit(0, 1, below=True, order="up"),
    "mask.block_share": SHARE,
    "heads.prototypes": Limit(2, 2**24),
    "heads.hidden": Limit(1, 2**20),
    "heads.bottleneck": Limit(1, 2**20),
    "heads.layers": Limit(1, 32),
    **{f"loss.{f.name}": f.metadata["limit"] for f in fields(LossSpec) if "limit" in f.metadata},
    "optim.lr": Limit(0, 1, above=True),
    "optim.lr_batch": Limit(0, 10**7),
    "optim.min_lr": Limit(0, 1),
    "optim.weight_decay": Limit(0, 10),
    "optim.betas": Limit(0, 1, below=True),
    "optim.clip": Limit(0, 1e6),
    "optim.layer_decay": Limit(0, 1, above=True),
    "optim.patch_embed_lr": Limit(0, 10),
    "schedule.steps": COUNT,
    "schedule.warmup_steps": COUNT_OR_NONE,
    "schedule.momentum": Limit(0, 1, above=True, order="up"),
    "schedule.teacher_temperature": Limit(0.001, 10),
    "schedule.teacher_temperature_steps": COUNT_OR_NONE,
    "schedule.freeze_last_layer_steps": COUNT_OR_NONE,
    "schedule.head_only_steps": COUNT_OR_NONE,
    "batch.per_rank": Limit(1, 2**16),
    "batch.accumulate": Limit(1, 2**16),
    "engine.threads": Limit(0, 1024),
    "run.stop_after": COUNT,
    "run.max_minutes": Limit(0, 10**7, above=True),
    "run.save_every": COUNT,
    "run.keep_last": COUNT,
    "run.log_every": COUNT,
    "run.non_finite_limit": COUNT,
    "online.every": COUNT_OR_NONE,
    "online.neighbours": COUNT,
    "online.tokens_per_class": COUNT,
}


def numbers(section: Any, where: str = "") -> Iterator[tuple[str, int | float | tuple]]:
    """Every number, and list of numbers, of a config: ("optim.lr", 0.002) and so on; not truth values or words."""
    for f in fields(section):
        name, value = f"{where}{f.name}", getattr(section, f.name)
        if is_dataclass(value):
            yield from numbers(value, f"{name}.")
        elif is_numeric(value):
            yield name, value


def is_numeric(value: Any) -> bool:
    """Whether it is a number or a list of numbers, and no truth value."""
    entries = value if isinstance(value, tuple) else (value,)
    return bool(entries) and all(type(entry) in (int, float) for entry in entries)


def check(config: Any) -> None:
    """Raise UserError for the first number outside its range, and for settings that contradict each other."""
    for name, value in numbers(config):
        check_number(name, value)
    _check_words(config)
    _check_relations(config)


def check_number(name: str, value: Any) -> None:
    """Raise UserError where a number, or a list of them, is outside its range. KeyError for a number that has none."""
    if not is_numeric(value):
        return
    limit = LIMITS[name]
    entries = value if isinstance(value, tuple) else (value,)
    shown = list(value) if isinstance(value, tuple) else value
    if not all(limit.admits(entry) for entry in entries):
        each = "every entry" if isinstance(value, tuple) else "it"
        raise UserError(f"{name} is {shown}; {each} must be {limit.words()}")
    pairs = list(zip(entries, entries[1:], strict=False))
    if limit.order == "up" and any(a > b for a, b in pairs):
        raise UserError(f"{name} is {shown}; it runs upwards, the smaller number first")
    if limit.order == "strictly up" and any(a >= b for a, b in pairs):
        raise UserError(f"{name} is {shown}; it runs upwards, and its ends must differ")


def _check_words(config: Any) -> None:
    for name, value in (("data.root", config.data.root), ("run.dir", config.run.dir)):
        if not value.strip():
            raise UserError(f"{name} is empty; set it in the config or as {name}=FOLDER after it")


def _check_relations(config: Any) -> None:
    optim, (low, high) = config.optim, config.input.clip_hu
    if not low <= config.input.mean_hu <= high:
        raise UserError(f"input.mean_hu is {config.input.mean_hu:g}, outside input.clip_hu {[low, high]}; change one")
    if optim.min_lr > optim.lr:
        raise UserError(f"optim.min_lr {optim.min_lr:g} is above optim.lr {optim.lr:g}, and the rate falls; change one")
    coldest = min(config.schedule.teacher_temperature)
    if config.loss.centring == "sinkhorn" and coldest < MIN_TEMPERATURE:
        raise UserError(f"schedule.teacher_temperature {coldest:g}: with Sinkhorn centring at least {MIN_TEMPERATURE}")
    neighbours = config.loss.koleo_group or config.batch.per_rank
    if config.loss.koleo > 0 and neighbours < 2:
        raise UserError(
            "KoLeo looks for each crop's nearest neighbour and there is one crop alone; raise batch.per_rank or "
            "loss.koleo_group to 2 or more, or set loss.koleo=0"
        )
    if config.loss.koleo > 0 and config.batch.per_rank % neighbours:
        raise UserError(
            f"batch.per_rank {config.batch.per_rank} is no whole number of loss.koleo_group {neighbours}; change one"
        )
    if config.loss.ibot > 0 and config.mask.ratio[1] == 0:
        raise UserError("iBOT has weight but mask.ratio hides nothing; set loss.ibot=0 or raise mask.ratio")
