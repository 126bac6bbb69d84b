"""A study as curves over time, ready to be drawn: where time points lie on the axis, each lesion's diameter, the sum.

Whoever draws (a widget, a report) has only to scale what is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from .assessment import Assessment, assess, diameter_mm, sum_mm
from .finding import Finding
from .study import Lesion, Study

NARROWEST = 0.25
"""Time points lie at least this share of their mean distance apart: two scans of one week stay two columns."""


@dataclass(frozen=True)
class Mark:
    """A lesion's diameter (mm, as RECIST reads it; 0 when gone) at the time point of this number."""

    order: int
    mm: float
    finding: Finding


@dataclass(frozen=True)
class Curve:
    """One lesion. ``runs`` are the stretches without a gap: a time point at which it was not measured ends one."""

    lesion: Lesion
    number: int
    """Its place among the study's lesions, which chooses its colour."""
    runs: tuple[tuple[Mark, ...], ...]

    @property
    def marks(self) -> list[Mark]:
        """All of them in the order of time."""
        return [mark for run in self.runs for mark in run]


@dataclass(frozen=True)
class Course:
    """``places`` are 0 to 1, one a time point; proportional to days where every time point has a date (``dated``).

    ``sums_mm`` are of the targets, None where one was not measured; ``responses`` belong to the follow-ups.
    """

    names: tuple[str, ...]
    dates: tuple[str, ...]
    places: tuple[float, ...]
    dated: bool
    curves: tuple[Curve, ...]
    sums_mm: tuple[float | None, ...]
    responses: tuple[Assessment, ...]

    @property
    def largest_mm(self) -> float:
        """The largest diameter of a lesion; 0 where nothing was measured."""
        return max((mark.mm for curve in self.curves for mark in curve.marks), default=0.0)

    @property
    def largest_sum_mm(self) -> float:
        """The largest sum; 0 where there is none."""
        return max((total for total in self.sums_mm if total is not None), default=0.0)


def course_of(study: Study, slice_mm: float = 0.0) -> Course:
    """The curves of a study; ``slice_mm`` as for :func:`assess`."""
    names = tuple(timepoint.name for timepoint in study.timepoints)
    dates = tuple(timepoint.date for timepoint in study.timepoints)
    dated = len(names) > 1 and all(dates) and dates[0] != dates[-1]
    curves = tuple(Curve(lesion, number, _runs(lesion, names)) for number, lesion in enumerate(study.lesions))
    targets = any(lesion.role == "target" for lesion in study.lesions)
    sums = tuple(sum_mm(study, name) if targets else None for name in names)
    places = _places(dates if dated else None, len(names))
    return Course(names, dates, places, dated, curves, sums, tuple(assess(study, slice_mm)))


def ticks(largest: float, most: int = 4) -> list[float]:
    """Round numbers from 0 to at least ``largest``, at most ``most`` steps: 1, 2 or 5 times a power of ten apart."""
    if not largest > 0:
        return [0.0, 10.0]
    rough = largest / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9))
    return [float(step * i) for i in range(int(np.ceil(largest / step - 1e-9)) + 1)]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels: as near as may be to where each is wanted, ``gap`` apart, within ``low`` and ``high``.

    Labels that would overlap share the shift (their mean stays); where all do not fit, they stand closer.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    groups: list[tuple[float, list[int]]] = []  # (mean of what is left of each place after its own offset, members)
    for i in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        groups.append((wanted[i], [i]))
        while len(groups) > 1 and _end(groups[-2], gap) + gap > _start(groups[-1], gap):
            (a, first), (b, second) = groups[-2:]
            groups[-2:] = [((a * len(first) + b * len(second)) / (len(first) + len(second)), first + second)]
    out = [0.0] * len(wanted)
    least = low
    for group in groups:
        start = max(_start(group, gap), least)
        for n, i in enumerate(group[1]):
            out[i] = start + n * gap
        least = start + len(group[1]) * gap
    over = least - gap - high
    if over > 0:  # the last ones stand below the end: push back up
        most = high
        for i in sorted(range(len(out)), key=lambda i: -out[i]):
            out[i] = min(out[i], most)
            most = out[i] - gap
    return out


def _start(group: tuple[float, list[int]], gap: float) -> float:
    return group[0] - gap * (len(group[1]) - 1) / 2


def _end(group: tuple[float, list[int]], gap: float) -> float:
    return group[0] + gap * (len(group[1]) - 1) / 2


def _runs(lesion: Lesion, names: tuple[str, ...]) -> tuple[tuple[Mark, ...], ...]:
    runs: list[list[Mark]] = [[]]
    for order, name in enumerate(names):
        mm = diameter_mm(lesion, name)
        if mm is None:
            runs.append([])
        else:
            runs[-1].append(Mark(order, mm, lesion.findings[name]))
    return tuple(tuple(run) for run in runs if run)


def _places(dates: Sequence[str] | None, count: int) -> tuple[float, ...]:
    if count < 2:
        return (0.5,) * count
    days = np.arange(count) if dates is None else np.array([date.fromisoformat(one).toordinal() for one in dates])
    steps = np.diff(days).astype(float)
    steps = np.maximum(steps, NARROWEST * steps.mean())
    places = np.concatenate([[0.0], np.cumsum(steps)])
    return tuple(float(p) for p in places / places[-1])
