"""What every benchmark needs: the machine in one line, its matmul peak, paired timing, a Markdown table.

Times are compared only within one run and as ratios: the rivals take turns, and the ratio is the median
over the turns of (rival's time / our time in the same turn), so a machine that slows down slows down both.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def machine_line() -> str:
    """Processor, threads and PyTorch, as far as a reader needs them to judge a ratio."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    processor = f"{model or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"
    return f"{processor}, {torch.get_num_threads()} thread(s), PyTorch {torch.__version__}"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def matmul(size: int) -> tuple[Callable[[], object], float]:
    """A float32 product of two square matrices by PyTorch's ``@``, and its GFLOP."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return (lambda: a @ b), 2 * size**3 / 1e9


def take_turns(works: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each work in each of ``turns`` turns, after one call of each that does not count.

    Every second turn runs backwards, so that no work always follows the same one.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns):
        for name in list(works)[:: -1 if turn % 2 else 1]:
            times[name].append(seconds(works[name]))
    return times


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median over the turns of slower / faster."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def read_rows(path: Path | None) -> dict[str, list[dict]]:
    """Rows by pair from an earlier run; a last line that was cut short is measured again."""
    if path is None or not path.is_file():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            part = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[part["pair"]] = part["rows"]
    return found


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers are written with three significant digits."""
    cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return "\n".join(
        [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {' | '.join(row)} |" for row in cells)]
    )


def write_page(path: Path, title: str, command: str, parts: Sequence[str]) -> None:
    """One results page: title, the command that made it, the machine, then ``parts``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = [f"# {title}", f"Written by `{command}` on {machine_line()}."]
    path.write_text("\n\n".join([*head, *parts]) + "\n", encoding="utf-8")
