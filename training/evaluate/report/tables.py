"""What a task leaves for the page: OUT/table.json, the same shape for every task, so that one report reads them all.

A task ends with ``write_and_print(run, Results(...))``. Cells are words or numbers; a figure with an interval is
``cell(value, low, high)``. Nothing published elsewhere enters here: those figures have a table of their own
(published.py), so that no reader takes one for a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tapct_core.errors import UserError

from ...run import distributed
from ..runs.run_folder import RunFolder, read_json, say

FILE = "table.json"
DASH = "–"


@dataclass(frozen=True)
class Table:
    """One table: ``rows`` of cells under ``columns``; ``caption`` says what the figures are and how they were made."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Curves:
    """Lines over a common axis: ``lines`` name -> [[x, y], ...]; ``log_x`` for compute."""

    title: str
    x: str
    y: str
    lines: dict[str, Sequence[Sequence[float]]]
    log_x: bool = False


@dataclass(frozen=True)
class Results:
    """All that a task has to say.

    ``words``     findings in sentences, such as that a result cannot be told from chance.
    ``left_out``  case -> reason, for every broken case; their number stands on the page.
    ``notes``     where the data and the split come from, and what must not be read into the figures.
    """

    task: str
    dataset: str
    tables: Sequence[Table]
    curves: Sequence[Curves] = ()
    words: Sequence[str] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def cell(value: float | None, low: float | None = None, high: float | None = None, digits: int = 3) -> dict[str, Any]:
    """A figure with its 95 % interval; None or NaN where it is not defined."""
    clean = [None if v is None or not math.isfinite(v) else float(v) for v in (value, low, high)]
    return {"value": clean[0], "low": clean[1], "high": clean[2], "digits": digits}


def words_of(entry: Any) -> str:
    """A cell as it is printed: 0.912 (0.861–0.954), a dash for nothing."""
    if isinstance(entry, dict):
        if entry["value"] is None:
            return DASH
        digits = entry["digits"]
        if entry["low"] is None or entry["high"] is None:
            return f"{entry['value']:.{digits}f}"
        return f"{entry['value']:.{digits}f} ({entry['low']:.{digits}f}–{entry['high']:.{digits}f})"
    if entry is None or (isinstance(entry, float) and not math.isfinite(entry)):
        return DASH
    return f"{entry:.3g}" if isinstance(entry, float) else str(entry)


def write_tables(run: RunFolder, results: Results) -> None:
    """Write OUT/table.json."""
    run.write_json(FILE, asdict(results))


def write_and_print(run: RunFolder, results: Results) -> None:
    """The end of a task: OUT/table.json, tables on stdout and findings on stderr. The first rank alone does it."""
    if not distributed.is_main():
        return
    write_tables(run, results)
    print("\n\n".join(markdown(table) for table in results.tables))
    say("")
    for words in (*results.words, f"the page: python -m training.evaluate report {run.path} --out PAGE"):
        say(words)


def read_tables(run: RunFolder) -> Results:
    """OUT/table.json. Raises UserError where the run has not come to its end."""
    run.settings()
    if not (run.path / FILE).is_file():
        raise UserError(f"{run.path} has no results yet; let its command come to the end")
    found = read_json(run.path / FILE)
    try:
        return Results(
            **{
                **found,
                "tables": [Table(**table) for table in found["tables"]],
                "curves": [Curves(**curves) for curves in found["curves"]],
            }
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.path / FILE} is of another version ({error}); run its command again") from None


def markdown(table: Table) -> str:
    """The table in Markdown, without its caption."""
    lines = [f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}"]
    return "\n".join(lines + [f"| {' | '.join(words_of(entry) for entry in row)} |" for row in table.rows])
