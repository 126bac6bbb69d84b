"""What a run's rates, momentum and temperature are at each step: config and schedules joined."""

from __future__ import annotations

import torch

from ..network.optim import set_rates
from ..network.schedules import Cosine, Ramp
from .config import Config


class RunSchedule:
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
