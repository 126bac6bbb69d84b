"""What changes with the step: pure functions of the step number, so resuming needs no state.

Step 0 is the first optimiser step, ``steps - 1`` the last; both ends hold their values exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cosine:
    """Optional frozen steps at 0, a linear warm-up from ``start`` to ``peak``, then half a cosine to ``final``.

    The first step after the warm-up has ``peak`` and the last step of the run ``final``. ``start`` is the value of
    the first warm-up step. Raises ValueError where warm-up and frozen steps leave no step for the cosine.
    """

    peak: float
    final: float
    steps: int
    warmup: int = 0
    start: float = 0.0
    frozen: int = 0

    def __post_init__(self) -> None:
        if min(self.warmup, self.frozen) < 0 or self.warmup + self.frozen >= self.steps:
            raise ValueError(
                f"{self.warmup} warm-up and {self.frozen} frozen steps leave nothing of a run of {self.steps} steps; "
                "lengthen the run or shorten the warm-up"
            )

    def __call__(self, step: int) -> float:
        """Value at ``step``; beyond the run's last step it stays at ``final``."""
        if step < self.frozen:
            return 0.0
        step -= self.frozen
        if step < self.warmup:
            return self.start + (self.peak - self.start) * step / self.warmup
        last = self.steps - 1 - self.frozen - self.warmup
        done = min(1.0, (step - self.warmup) / last) if last else 1.0
        left = 0.5 * (1 + math.cos(math.pi * done))
        return left * self.peak + (1 - left) * self.final


@dataclass(frozen=True)
class Ramp:
    """Linear from ``first`` at step 0 to ``last`` at step ``length``, constant from there (teacher temperature)."""

    first: float
    last: float
    length: int

    def __call__(self, step: int) -> float:
        done = min(1.0, step / self.length) if self.length else 1.0
        return self.first + (self.last - self.first) * done
