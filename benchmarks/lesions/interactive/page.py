"""The page of the interactive benchmark, from its measured rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import markdown_table, write_page

SLICES = (1, 3, 5, 10)
GOALS = (0.80, 0.85, 0.90)
FALL = 0.01


def write(path: Path, split: str, done: list[dict]) -> None:
    """Writes the page."""
    names = list(dict.fromkeys(one["row"] for one in done))
    kinds = {"organ": "organs over 50 ml", "thin": "thin structures", "lesion": "lesions"}
    parts = [_setting(split, done), "## Mean Dice after strokes on 1 / 3 / 5 / 10 slices a class"]
    header = ["", *(kinds[k] for k in kinds if any(o["kind"] == k for o in done)), "all tasks"]
    table = []
    for name in names:
        own = [one for one in done if one["row"] == name]
        cells = [_curve(own, done, k) for k in (*kinds, None) if k is None or any(o["kind"] == k for o in done)]
        table.append([name, *cells])
    parts.append(markdown_table(header, table))
    parts += ["## By task", _by_task(done, names), "## What it takes", _effort(done, names)]
    command = f"python -m benchmarks.interactive --split {split}"
    write_page(path, "Masks from strokes", command, parts)


def _setting(split: str, done: list[dict]) -> str:
    seeds = len({one["seed"] for one in done})
    return (
        f"Patients of the {split} split, {seeds} seed(s) of the simulated user: 6 mm brush, strokes up to 25 mm that "
        "miss the middle, one in twenty over the border by a voxel; per class and slice three strokes, in the first "
        "slice the class, background beside it and elsewhere, later the two largest errors of the row's own answer in "
        "the slice where it is most wrong, and the side that they leave out. Dice over all of the cut, which is the "
        "structures and 40 mm round them. Means over tasks of means over classes and seeds; ± the spread of the seeds' "
        "means. A dash: not measured. The labels of the abdomen are TotalSegmentator's output, not an expert's."
    )


def _at(one: dict, slices: int) -> float:
    return float(np.mean(one["dice"][slices - 1])) if len(one["dice"]) >= slices else np.nan


def _task_means(own: list[dict], slices: int) -> np.ndarray:
    """Mean of each task, over seeds."""
    tasks = list(dict.fromkeys(one["task"] for one in own))
    return np.array([np.mean([_at(o, slices) for o in own if o["task"] == task]) for task in tasks])


def _curve(own: list[dict], done: list[dict], kind: str | None) -> str:
    """Means over the tasks of a kind, or all, for a row that was measured on every one of them."""
    own, asked = ([o for o in some if kind in (None, o["kind"])] for some in (own, done))
    if {o["task"] for o in own} != {o["task"] for o in asked}:
        return "-"
    cells = []
    for slices in SLICES:
        means = _task_means(own, slices) if own else np.array([np.nan])
        if np.isnan(means).any():
            cells.append("-")
            continue
        seeds = sorted({one["seed"] for one in own})
        by_seed = [np.mean([_at(o, slices) for o in own if o["seed"] == seed]) for seed in seeds]
        spread = f" ± {np.std(by_seed):.2f}" if len(seeds) > 1 else ""
        cells.append(f"{means.mean():.2f}{spread}")
    return " / ".join(cells)


def _by_task(done: list[dict], names: list[str]) -> str:
    tasks = list(dict.fromkeys(one["task"] for one in done))
    table = []
    for name in names:
        row = [name]
        for task in tasks:
            own = [one for one in done if one["row"] == name and one["task"] == task]
            values = [np.mean([_at(o, s) for o in own]) if own else np.nan for s in SLICES]
            row.append(" / ".join("-" if np.isnan(v) else f"{v:.2f}" for v in values))
        table.append(row)
    return markdown_table(["", *tasks], table)


def _effort(done: list[dict], names: list[str]) -> str:
    """Strokes to each goal, processor seconds, falls, far changes and kept strokes."""
    header = ["", *(f"strokes to {goal:.2f} (never)" for goal in GOALS), "seconds an answer"]
    header += [f"rounds that lose more than {FALL}", "changed beyond 60 mm", "painted voxels kept"]
    table = []
    for name in names:
        own = [one for one in done if one["row"] == name]
        row = [name]
        for goal in GOALS:
            reached = [_first(o, lambda d, goal=goal: np.mean(d) >= goal) for o in own]
            found = [r for r in reached if r is not None]
            never = len(reached) - len(found)
            row.append(f"{np.median(found):.0f} ({never}/{len(reached)})" if found else f"- ({never}/{len(reached)})")
        row.append(f"{np.median([s for o in own for s in o['seconds']]):.1f}")
        steps = [b - a for o in own for a, b in _pairs([float(np.mean(d)) for d in o["dice"]])]
        row.append(f"{np.mean([step < -FALL for step in steps]):.0%}" if steps else "-")
        far = np.array([f for o in own for f in o["far"]]).reshape(-1, 2)
        row.append(f"{far[:, 0].sum() / max(1, far[:, 1].sum()):.2%}")
        row.append(f"{np.mean([k for o in own for k in o['kept']]):.1%}")
        table.append(row)
    return markdown_table(header, table)


def _first(one: dict, good: Callable[[list[float]], bool]) -> int | None:
    """Strokes after the first round that is good."""
    return next((strokes for strokes, dice in zip(one["strokes"], one["dice"], strict=True) if good(dice)), None)


def _pairs(values: list[float]) -> list[tuple[float, float]]:
    return list(zip(values, values[1:], strict=False))
