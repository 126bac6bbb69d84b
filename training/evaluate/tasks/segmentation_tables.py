"""The tables of a segmentation, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tapct_core.errors import UserError

from ..metrics.statistics import Interval, interval
from ..report.tables import Curves, Results, Table, cell
from .segmentation_run import RowScores, Task, empty_cases

FIGURES = {"dice": "Dice", "surface_mm": "surface distance, mm", "hausdorff95_mm": "95 % Hausdorff, mm"}


def tabulate(
    name: str, task: Task, scored: Sequence[RowScores], more: Sequence[Table] = (), curves: Sequence[Curves] = ()
) -> Results:
    """All tables of a segmentation run, every row over the same cases: those that worked for all of them."""
    common = [id for id in task.split.tested if all(id in one.scores.results for one in scored)]
    if not common:
        raise UserError("no case was scored by every row; the reasons are named above")
    empty = empty_cases({id: scored[0].scores.results[id] for id in common})
    classes = scored[0].classes
    cases = task.dataset.by_id()
    patients = np.array([cases[id].group or id for id in common])
    values = {
        one.row.name: {figure: matrix(one, common, classes, figure) for figure in (*FIGURES, "ml", "ml_truth")}
        for one in scored
    }
    broken: dict[str, str] = {}
    for one in scored:
        for id, why in one.broken.items():
            broken.setdefault(id, why)
    tables = [
        _summary(values, patients, len(common) - len(empty), len(broken)),
        *(_by_class(values, patients, classes, figure) for figure in FIGURES),
        *more,
        compute_table(scored),
    ]
    notes = [task.dataset.note, *task.dataset.left_out, _how(task), HOW_SCORED]
    if empty:
        notes.append(f"{len(empty)} tested cases hold none of the classes and enter no mean: {', '.join(empty)}.")
    words = comparisons(values, patients)
    return Results(name, task.dataset.name, tables, [_losses(scored), *curves], words, broken, [n for n in notes if n])


HOW_SCORED = (
    "Scored on each scan's own grid. A class's figure is its mean over the cases that hold it, a row's mean Dice the "
    "mean over classes. In brackets: 95 % percentile bootstrap by patient; heads are not trained again for it. Surface "
    "distance: mean symmetric distance of the surfaces (ASSD); classes that were missed altogether have Dice 0 and no "
    "distance, and are counted."
)


def matrix(one: RowScores, ids: Sequence[str], classes: Sequence[int], figure: str) -> np.ndarray:
    """A figure (cases, classes) float64, NaN where it is not defined."""
    found = [one.scores.results[id]["classes"] for id in ids]
    cells = [[scores.get(str(value), {}).get(figure) for value in classes] for scores in found]
    return np.array(cells, dtype=float)


def mean_by_class(values: np.ndarray) -> np.ndarray:
    """(cases, classes) -> mean over the cases in which it is defined, (classes,); NaN where it is in none."""
    known = np.isfinite(values)
    count_known = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, count_known, out=np.full(values.shape[1], np.nan), where=count_known > 0)


def mean_over_classes(values: np.ndarray) -> float:
    """(cases, classes) -> the mean of the classes' means."""
    means = mean_by_class(values)
    return float(means[np.isfinite(means)].mean()) if np.isfinite(means).any() else float("nan")


def comparisons(values: dict[str, dict[str, np.ndarray]], patients: np.ndarray) -> list[str]:
    """Each further row against the first in a sentence, by the paired bootstrap over patients."""
    (first, reference), *others = values.items()
    words = []
    for name, own in others:
        gap = _gap(reference["dice"], own["dice"], patients)
        figure = f"difference in mean Dice {gap.value:+.3f} (95 % {gap.low:+.3f} to {gap.high:+.3f})"
        if not np.isfinite(gap.low):
            words.append(f"{first} and {name} cannot be compared on these cases.")
        elif gap.low > 0 or gap.high < 0:
            better, worse = (first, name) if gap.value > 0 else (name, first)
            words.append(f"{better} is better than {worse}: {figure}.")
        else:
            words.append(f"{first} and {name} cannot be told apart on these cases: {figure}.")
    return words


def compute_table(scored: Sequence[RowScores]) -> Table:
    """What one scan costs: medians over the cases that were embedded."""
    rows = []
    for one in scored:
        results = list(one.embedded.outcome.results.values())
        seconds = [r["seconds"] for r in results if r["seconds"] is not None]
        rows.append(
            [
                one.row.name,
                int(np.median([np.prod(r["tokens"]) for r in results])),
                float(np.median([r["gflop"] for r in results])),
                float(np.median(seconds)) if seconds else None,
                float(np.median([r["megabytes"] for r in results])),
            ]
        )
    columns = ["row", "tokens", "GFLOP", "seconds", "MB"]
    caption = (
        "Median per scan. GFLOP follow from the network's shape and its windows; seconds are those of this machine "
        "while it embedded, and missing where features were there already."
    )
    return Table("Compute per scan", columns, rows, caption)


def _summary(values: dict, patients: np.ndarray, cases: int, broken: int) -> Table:
    rows = []
    reference = next(iter(values.values()))["dice"]
    for name, own in values.items():
        gap = _gap(own["dice"], reference, patients)
        held = own["ml_truth"] > 0
        missed = int((held & (own["ml"] == 0)).sum())
        false = own["ml"][~held]
        rows.append(
            [
                name,
                cases,
                broken,
                *(_mean(own[figure], patients, 3 if figure == "dice" else 1) for figure in FIGURES),
                f"{missed} of {int(held.sum())}",
                float(false.mean()) if false.size else None,
                "–" if own["dice"] is reference else cell(gap.value, gap.low, gap.high),
            ]
        )
    columns = [
        "row", "cases", "left out", "mean Dice", FIGURES["surface_mm"], FIGURES["hausdorff95_mm"], "classes missed",
        "ml found where there is none", "Dice against the first row",
    ]  # fmt: skip
    return Table("Segmentation by a linear head", columns, rows, "Means over classes, every row over the same cases.")


def _by_class(values: dict, patients: np.ndarray, classes: dict[int, str], figure: str) -> Table:
    rows = []
    for place, name in enumerate(classes.values()):
        held = int((next(iter(values.values()))["ml_truth"][:, place] > 0).sum())
        digits = 3 if figure == "dice" else 1
        cells = [_mean(own[figure][:, [place]], patients, digits) for own in values.values()]
        rows.append([name, held, *cells])
    return Table(f"{FIGURES[figure]} by class", ["class", "cases with it", *values], rows)


def _mean(values: np.ndarray, patients: np.ndarray, digits: int) -> dict:
    found = interval(values, patients, mean_over_classes)
    return cell(found.value, found.low, found.high, digits)


def _gap(first: np.ndarray, second: np.ndarray, patients: np.ndarray) -> Interval:
    """Mean Dice of ``first`` less that of ``second``, the same patients drawn for both."""

    def figure(pairs: np.ndarray) -> float:
        return mean_over_classes(pairs[:, 0]) - mean_over_classes(pairs[:, 1])

    return interval(np.stack([first, second], axis=1), patients, figure)


def _losses(scored: Sequence[RowScores]) -> Curves:
    lines = {
        one.row.name: next(iter(one.heads.results.values()))["curve"]
        for one in scored
        if next(iter(one.heads.results.values()))["curve"]
    }
    return Curves("Training of the heads, first fold", "step", "Dice + cross-entropy loss", lines)


def _how(task: Task) -> str:
    heads = {
        "conv": f"one linear convolution on frozen tokens, {task.steps} steps of Dice + cross-entropy",
        "ridge": "a linear discriminant on frozen tokens, in closed form",
        "logistic": "a logistic regression on frozen tokens",
    }
    return f"Head: {heads[task.head]}. Split: {task.split.words}."
