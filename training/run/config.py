"""Everything a run can be told, as typed dataclasses; contradictions are refused with the remedy.

    load_config(Path("training/configs/tap_ct_xs_3d.yaml"), ["data.root=STORE", "run.dir=runs/a", "schedule.steps=500"])

The YAML files say where each value comes from. Crops, augmentations, heads and losses are described
where they are used (views.py, augment.py, projection_heads.py, student_teacher.py); this file joins them.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import yaml

from tapct_core.errors import UserError
from tapct_core.geometry import Shape
from tapct_core.preprocessing import InputSpec
from tapct_core.vit import ViTConfig

from ..data.augment import AugmentSpec
from ..data.views import ViewSpec
from ..network.projection_heads import HeadSpec
from ..network.student_teacher import LossSpec
from .config_limits import check, check_number
from .settings import apply_overrides, build, read_yaml

Range = tuple[float, float]


@dataclass(frozen=True)
class DataConfig:
    """Where crops come from. ``block`` (z, y, x): voxels read for a sample, out of which its views are cut."""

    root: str
    block: Shape
    sample_by: Literal["scan", "body"] = "scan"
    """"scan": every scan once an epoch; "body": in proportion to the body it shows."""
    threads: int = 4
    prefetch: int = 2
    """Steps read ahead."""
    cache_gb: float = 0.0
    """Decoded scans kept in memory: worth it for small stores only."""


@dataclass(frozen=True)
class ScaleConfig:
    """How HU become numbers and on what grid the encoder works later; TAP-CT's by default."""

    clip_hu: Range = (-1008.0, 822.0)
    mean_hu: float = -86.8086
    std_hu: float = 322.6347
    plan: Literal["release", "spacing"] = "release"
    spacing_mm: tuple[float, float, float] = (1.0, 0.8, 0.8)


@dataclass(frozen=True)
class ModelConfig(ViTConfig):
    """The network, and what it starts from."""

    init_from: str | None = None
    """An encoder's folder or name (``tapct encoders``) to go on from; None starts from random weights."""

    def vit(self) -> ViTConfig:
        """The network's part alone."""
        return ViTConfig(**{f.name: getattr(self, f.name) for f in fields(ViTConfig)})


@dataclass(frozen=True)
class MaskConfig:
    """What iBOT hides: see masks.block_masks."""

    probability: float = 0.5
    ratio: Range = (0.1, 0.5)
    block_share: Range = (0.02, 0.25)


@dataclass(frozen=True)
class HeadConfig(HeadSpec):
    """Projection heads: their sizes (heads.HeadSpec), and whether iBOT has one of its own."""

    separate: bool = True
    """A head of its own for iBOT, as 3DINO and DINOv2's larger runs have; False shares DINO's."""

    def head(self) -> HeadSpec:
        """The sizes alone."""
        return HeadSpec(**{f.name: getattr(self, f.name) for f in fields(HeadSpec)})


@dataclass(frozen=True)
class OptimConfig:
    """AdamW. ``lr`` is the peak at a batch of ``lr_batch``, scaled by the square root; lr_batch 0 takes it as it is."""

    lr: float = 2e-3
    lr_batch: int = 1024
    min_lr: float = 1e-6
    weight_decay: Range = (0.04, 0.4)
    betas: Range = (0.9, 0.999)
    clip: float = 3.0
    layer_decay: float = 0.9
    patch_embed_lr: float = 0.2

    def peak_lr(self, global_batch: int) -> float:
        """The rate after warm-up for a global batch."""
        return self.lr * (global_batch / self.lr_batch) ** 0.5 if self.lr_batch else self.lr


@dataclass(frozen=True)
class ScheduleConfig:
    """Everything that changes with the step. Ranges run from first to last."""

    steps: int
    warmup_steps: int = 0
    momentum: Range = (0.992, 1.0)
    teacher_temperature: Range = (0.04, 0.07)
    teacher_temperature_steps: int = 0
    freeze_last_layer_steps: int = 0
    head_only_steps: int = 0
    """Steps in which only the heads learn, for a run that starts from weights without heads."""


@dataclass(frozen=True)
class BatchConfig:
    """``per_rank`` samples a micro-batch, ``accumulate`` micro-batches an optimiser step."""

    per_rank: int
    accumulate: int = 1


@dataclass(frozen=True)
class EngineConfig:
    """What the run runs on."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto": bf16 where the hardware multiplies it, else fp32."""
    compile: bool = False
    activation_checkpointing: bool = False
    threads: int = 0
    """CPU threads of PyTorch; 0 leaves its own choice."""
    deterministic: bool = False
    """Refuse kernels whose result changes from run to run (CUDA); the CPU's do not."""


@dataclass(frozen=True)
class RunConfig:
    """The run's folder, and when it saves, speaks and stops."""

    dir: str
    stop_after: int | None = None
    """Stop cleanly after this step, as a signal would; the same command goes on from there."""
    max_minutes: float | None = None
    """Stop cleanly after this long in this process: for runs compared at equal time."""
    save_every: int = 1000
    keep_last: int = 3
    log_every: int = 20
    non_finite_limit: int = 10
    """Steps in a row whose loss or gradient is not finite before the run stops; each is skipped."""
    fall_back: bool = False
    """Go on from the checkpoint before the newest where that is damaged."""
    change_recipe: bool = False
    """Go on in a folder whose run had other settings, with the new ones."""
    tensorboard: bool = True


@dataclass(frozen=True)
class CaseConfig:
    """A scan for the online scores; without ``labels``, tissue classes made from HU stand in."""

    ct: str
    labels: str | None = None


@dataclass(frozen=True)
class OnlineConfig:
    """Frozen kNN and linear scores during the run; ``every`` 0 leaves them out."""

    every: int = 0
    cases: tuple[CaseConfig, ...] = ()
    neighbours: int = 10
    tokens_per_class: int = 200


@dataclass(frozen=True)
class Config:
    """One run. Raises UserError where settings contradict each other."""

    data: DataConfig
    model: ModelConfig
    views: ViewSpec
    heads: HeadConfig
    schedule: ScheduleConfig
    batch: BatchConfig
    run: RunConfig
    input: ScaleConfig = ScaleConfig()
    augment: AugmentSpec = AugmentSpec()
    mask: MaskConfig = MaskConfig()
    loss: LossSpec = LossSpec()
    optim: OptimConfig = OptimConfig()
    engine: EngineConfig = EngineConfig()
    online: OnlineConfig = OnlineConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        check(self)
        self._check_sizes()
        self._check_schedule()

    def _check_sizes(self) -> None:
        views, block, patch = self.views, self.data.block, self.model.patch_size
        for name, size in (("global_size", views.global_size), ("local_size", views.local_size)):
            if any(n % p for n, p in zip(size, patch, strict=True)):
                raise UserError(
                    f"views.{name} {list(size)} is not a whole number of patches {list(patch)}; change one of them"
                )
        deepest = int(round(max(views.global_crop.size[0], views.local_crop.size[0]) * views.depth_scale[1]))
        if deepest > block[0]:
            raise UserError(
                f"crops take up to {deepest} slices but data.block has {block[0]}; "
                f"set data.block[0] to {deepest} or more"
            )
        if views.global_size[0] != self.model.img_size[0] and self.input.plan == "release":
            raise UserError(
                f"global crops have {views.global_size[0]} slices and the encoder's window {self.model.img_size[0]}; "
                "set model.img_size to views.global_size"
            )
        if self.loss.ibot > 0 and self.mask.probability == 0:
            raise UserError("iBOT has weight but nothing is masked; set loss.ibot=0 or mask.probability above 0")

    def _check_schedule(self) -> None:
        schedule = self.schedule
        if self.model.init_from is None and schedule.head_only_steps:
            raise UserError(
                "schedule.head_only_steps is for a start from weights; set model.init_from, or head_only_steps=0"
            )
        if self.engine.compile and self.engine.activation_checkpointing and self.engine.device == "cpu":
            raise UserError(
                "engine.activation_checkpointing saves memory at the price of time, engine.compile the opposite; "
                "on CPU choose one"
            )
        if self.online.every and not self.online.cases:
            raise UserError("online.every is set but online.cases is empty; list a CT or two, or set online.every=0")

    def input_spec(self) -> InputSpec:
        """What the exported encoder says it expects, and what the crops are scaled by."""
        return InputSpec(self.model.patch_size, self.model.img_size, **asdict(self.input))

    def as_dict(self) -> dict:
        """Plain values, as YAML and JSON take them; ``build(Config, ...)`` reads them back."""
        return json.loads(json.dumps(asdict(self)))


def load_config(path: Path, overrides: list[str] = ()) -> Config:
    """A YAML file with ``key=value`` words over it -> Config. Raises UserError naming the key at fault.

    A warm-up that is longer than the run is shortened to the same share of it, with a warning, and so are
    the other opening phases: a short trial of a long recipe should try the recipe, not its first slope.
    """
    return fit_to_length(build(Config, apply_overrides(read_yaml(path), list(overrides)), check=check_number))


def fit_to_length(config: Config) -> Config:
    """Shorten opening phases (warm-up, temperature, frozen layers) that are as long as the run to a tenth of it."""
    schedule, changes = config.schedule, {}
    for name in ("warmup_steps", "teacher_temperature_steps", "freeze_last_layer_steps", "head_only_steps"):
        if getattr(schedule, name) >= max(1, schedule.steps):
            changes[name] = min(max(1, schedule.steps // 10), schedule.steps - 1)
            warnings.warn(
                f"schedule.{name}={getattr(schedule, name)} does not fit a run of {schedule.steps} steps; "
                f"taking {changes[name]}",
                stacklevel=2,
            )
    return replace(config, schedule=replace(schedule, **changes)) if changes else config


def save_config(config: Config, path: Path) -> None:
    """Write a resolved config, every value included."""
    path.write_text(yaml.safe_dump(config.as_dict(), sort_keys=False, default_flow_style=None), encoding="utf-8")
