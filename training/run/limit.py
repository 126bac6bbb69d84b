"""The range of a setting, in a table of them or at the setting itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..losses.sinkhorn import MIN_TEMPERATURE


@dataclass(frozen=True)
class Limit:
    """Numbers from ``low`` to ``high``; ``above`` leaves the lower end out, ``below`` the upper one.

    Of a list every entry must lie inside; ``order``: "up" where it must not descend, "strictly up" where its entries
    must differ too.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    order: str = ""

    def admits(self, value: float) -> bool:
        """Whether one number lies inside."""
        over = value > self.low if self.above else value >= self.low
        return math.isfinite(value) and over and (value < self.high if self.below else value <= self.high)

    def words(self) -> str:
        """The range in words: "above 0 and at most 1"."""
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        return f"{low} and {'below' if self.below else 'at most'} {self.high:g}"


WEIGHT = Limit(0, 1000)
TEMPERATURE = Limit(MIN_TEMPERATURE, 10)


def limited(default: Any, limit: Limit) -> Any:
    """A dataclass's field with a default and a range."""
    return field(default=default, metadata={"limit": limit})
