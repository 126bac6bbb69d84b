"""Numbers and times as people read them, the same in tables, plots and reports."""

from __future__ import annotations

from datetime import datetime

NOTHING = "–"
"""Stands where something is not known."""


def percent(value: float | None, digits: int = 0) -> str:
    """A change with its sign: "+12 %", "−30 %", "±0 %"."""
    if value is None:
        return NOTHING
    size = f"{abs(value):.{digits}f}"
    sign = "±" if float(size) == 0 else "+" if value > 0 else "−"
    return f"{sign}{size} %"


def millimetres(value: float | None) -> str:
    """A diameter without its unit, to a tenth."""
    return NOTHING if value is None else f"{value:.1f}"


def millilitres(value: float | None) -> str:
    """A volume without its unit, three digits at most where they say anything."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def local_time(stamp: str) -> str:
    """ISO 8601 as "YYYY-MM-DD HH:MM" of this place; "" for what is no time, as files written by hand may have."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return ""
