"""The tables of a segmentation, and what they say in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tapct_core.errors import UserError

from ..metrics.paired import against_first, few_patients_note, gap_words
from ..metrics.statistics import interval
from ..report.tables import Curves, Results, Table, cell
from .segmentation_run import RowScores, Task, empty_cases

FIGURES = {
    "dice": "Dice", "surface_dice": "surface Dice at 2 mm", "surface_mm": "surface distance, mm",
    "hausdorff95_mm": "95 % Hausdorff, mm",
}  # fmt: skip


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
    taken = [id for id, result in scored[0].embedded.outcome.results.items() if result.get("scan_header")]
    if taken:
        notes.append(
            f"{len(taken)} label maps lie elsewhere by their own headers; of the scan's shape, they were taken to lie "
            f"on its grid: {', '.join(taken)}."
        )
    if few_patients_note(patients):
        notes.append(few_patients_note(patients))
    words = comparisons(values, patients)
    return Results(name, task.dataset.name, tables, [_losses(scored), *curves], words, broken, [n for n in notes if n])


HOW_SCORED = (
    "Scored on each scan's own grid. A class's figure is its mean over the cases that hold it, a row's mean Dice the "
    "mean over classes. In brackets: 95 % percentile bootstrap by patient; heads are not trained again for it, and a "
    "draw of patients without one of the classes does not count. Rows are compared by exchanging their figures patient "
    "by patient, p adjusted for the number of rows (Holm 1979). Surface "
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
    """Each further row against the first in a sentence; see :func:`against_first`."""
    first = next(iter(values))
    dice = {name: own["dice"] for name, own in values.items()}
    gaps = against_first(dice, patients, _mean_of_held(dice[first]))
    return [gap_words(name, first, gap, "difference in mean Dice") for name, gap in gaps.items()]


def _mean_of_held(whole: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean over the classes that ``whole`` (cases, classes) holds; NaN for a draw of cases that lacks one of them.

    Averaging the rest instead would give a draw without the hardest class a better mean.
    """
    held = np.isfinite(whole).any(axis=0)

    def figure(drawn: np.ndarray) -> float:
        means = mean_by_class(drawn)[held]
        return float(means.mean()) if held.any() else float("nan")

    return figure


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
    first = next(iter(values))
    dice = {name: own["dice"] for name, own in values.items()}
    gaps = against_first(dice, patients, _mean_of_held(dice[first]))
    for name, own in values.items():
        gap = gaps[name].difference if name in gaps else None
        held = own["ml_truth"] > 0
        missed = int((held & (own["ml"] == 0)).sum())
        false = own["ml"][~held]
        rows.append(
            [
                name,
                cases,
                broken,
                *(_mean(own[figure], patients, 1 if figure.endswith("_mm") else 3) for figure in FIGURES),
                f"{missed} of {int(held.sum())}",
                float(false.mean()) if false.size else None,
                "–" if gap is None else cell(gap.value, gap.low, gap.high),
            ]
        )
    columns = [
        "row", "cases", "left out", "mean Dice", *list(FIGURES.values())[1:], "classes missed",
        "ml found where there is none", "Dice against the first row",
    ]  # fmt: skip
    return Table("Segmentation by a linear head", columns, rows, "Means over classes, every row over the same cases.")


def _by_class(values: dict, patients: np.ndarray, classes: dict[int, str], figure: str) -> Table:
    rows = []
    for place, name in enumerate(classes.values()):
        held = int((next(iter(values.values()))["ml_truth"][:, place] > 0).sum())
        digits = 1 if figure.endswith("_mm") else 3
        cells = [_mean(own[figure][:, [place]], patients, digits) for own in values.values()]
        rows.append([name, held, *cells])
    return Table(f"{FIGURES[figure]} by class", ["class", "cases with it", *values], rows)


def _mean(values: np.ndarray, patients: np.ndarray, digits: int) -> dict:
    found = interval(values, patients, _mean_of_held(values))
    return cell(found.value, found.low, found.high, digits)


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
