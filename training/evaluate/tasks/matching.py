"""Point matching: given points of a scan, found in another by ``tapct_core.matching``, against where they are.

    python -m training.evaluate matching --dataset folder --root points.csv --encoder tap-ct-b-3d none --out DIR

Each encoder is judged twice: by its tokens alone, and with all of matching's steps, where evidence from HU helps and
hides what the tokens know. The row "none" is HU alone. Reference: the same coordinates, unmoved.

rows/ROW/embed/CASE.json         the scan's features (embeddings/embed_cases.py)
rows/ROW/found-METHOD/PAIR.json  where the points were found, and how far off
table.json                       results
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tapct_core.errors import UserError
from tapct_core.matching import STEPS, match_points
from tapct_core.store import FeatureStore

from ..datasets.cases import Dataset
from ..datasets.correspondences import Pair, read
from ..embeddings.embed_cases import Embedded, announce_needs, embed_cases
from ..embeddings.rows import LoadedRow
from ..metrics.paired import against_first, few_patients_note, gap_words
from ..metrics.statistics import interval
from ..report.tables import Curves, Results, Table, cell, write_and_print
from ..runs.run_folder import Outcome, RunFolder, each, say_broken
from .options import add_plan_options, add_run_options, begun, rows_from_args

TOKENS = ("tokens", "surroundings", "trilinear", "subtoken", "prior", "votes", "way_back")
METHODS = {"tokens alone": TOKENS, "all steps": STEPS}
FIGURES: dict[str, Callable[[np.ndarray], float]] = {
    "mean, mm (95 %)": lambda errors: float(errors.mean()),
    "median, mm (95 %)": lambda errors: float(np.median(errors)),
    "90th percentile, mm": lambda errors: float(np.quantile(errors, 0.9)),
    "≤ 5 mm, % (95 %)": lambda errors: 100 * float((errors <= 5).mean()),
    "≤ 10 mm, % (95 %)": lambda errors: 100 * float((errors <= 10).mean()),
}


def add_parser(tasks) -> None:
    """Adds the task to ``python -m training.evaluate``."""
    parser = tasks.add_parser(
        "matching",
        help="given points found again in another scan, in mm",
        description="Finds given points of one scan in another by frozen features and measures the error in mm.",
        epilog=(
            "example:\n  python -m training.evaluate matching --dataset folder --root points.csv \\\n"
            "      --encoder tap-ct-b-3d untrained:tap-ct-b-3d none --out runs/points\n\n"
            "points.csv: baseline,followup,x0,y0,z0,x1,y1,z1 and, better, patient; coordinates in LPS mm."
        ),
    )
    add_run_options(parser, ("folder",))
    add_plan_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command. Raises UserError for whatever is wrong with its input."""
    dataset, pairs = read(args.root)
    with begun(args) as (folder, store):
        write_and_print(folder, evaluate(folder, store, rows_from_args(args), dataset, pairs, args.seed))
    return 0


def evaluate(
    run: RunFolder, store: FeatureStore, rows: Sequence[LoadedRow], dataset: Dataset, pairs: Mapping[str, Pair],
    seed: int = 0,
) -> Results:  # fmt: skip
    """Everything from files to tables; a pair that is broken for any row or method is left out of all."""
    points = {id: np.hstack([pair.points, pair.truth]).tolist() for id, pair in pairs.items()}
    run.claim("matching", {"dataset": dataset.name, "points": hashlib.sha256(repr(points).encode()).hexdigest()[:16]})
    cases = dataset.by_id()
    announce_needs(rows, cases, run, store)
    found: dict[tuple[str, str], Outcome] = {}
    for row in rows:
        run.add_row(row.name, row.facts())
        embedded = embed_cases(run, row, cases, store)
        for method, steps in METHODS.items():
            if row.encoder is None and method == "tokens alone":
                continue  # it has none
            found[row.name, method] = _match(run, embedded, pairs, method, steps)
    broken = {id: why for outcome in found.values() for id, why in outcome.broken.items()}
    say_broken(broken, len(pairs), dataset.name)
    return summarise(dataset, pairs, found, broken, seed)


def _match(run: RunFolder, embedded: Embedded, pairs: Mapping[str, Pair], method: str, steps: Sequence[str]) -> Outcome:
    """Errors of all pairs by one method; a pair whose scan could not be embedded is broken for that reason."""
    made = embedded.outcome

    def work(pair: Pair) -> dict:
        for scan in (pair.baseline, pair.followup):
            if scan in made.broken:
                raise UserError(f"{scan}: {made.broken[scan]}")
        before, after = (embedded.features(scan) for scan in (pair.baseline, pair.followup))
        places = match_points(before, after, pair.points, steps=steps)
        best = np.array([place.best.point_lps_mm for place in places])
        return {"found": best, "error_mm": np.linalg.norm(best - pair.truth, axis=1)}

    def key(id: str) -> str:
        scans = pairs[id].baseline, pairs[id].followup
        return " ".join(embedded.key(scan) if scan in made.results else made.broken[scan] for scan in scans)

    name = method.replace(" ", "-")
    part = run.part(embedded.row.name, f"found-{name}")
    return each(run, part, dict(pairs), work, key=key, what=f"matching with {embedded.row.name}, {method}")


def summarise(
    dataset: Dataset, pairs: Mapping[str, Pair], found: Mapping[tuple[str, str], Outcome], broken: Mapping[str, str],
    seed: int,
) -> Results:  # fmt: skip
    """The table and what it says in words."""
    usable = [pair for id, pair in pairs.items() if id not in broken]
    if not usable:
        raise UserError("no pair could be matched by every row; the reasons are named above")
    patients = np.concatenate([np.repeat(pair.patient, len(pair.points)) for pair in usable])
    unmoved = np.concatenate([np.linalg.norm(pair.points - pair.truth, axis=1) for pair in usable])
    errors = {
        name: np.concatenate([outcome.results[pair.id]["error_mm"] for pair in usable]).astype(float)
        for name, outcome in found.items()
    }
    lines = []
    for (row, method), values in {**errors, ("the same coordinates", ""): unmoved}.items():
        cells = [interval(values, patients, figure, seed=seed) for figure in FIGURES.values()]
        lines.append([row, method, *(cell(i.value, i.low, i.high, 1) for i in cells)])
    count = len(np.unique(patients))
    caption = (
        f"{len(unmoved)} points in {len(usable)} pair{'s' * (len(usable) != 1)} of {count} "
        f"patient{'s' * (count != 1)}. Error: distance of the "
        "first proposal from the given place. Intervals: 95 %, bootstrap by patient"
        + ("." if count > 1 else "; one patient gives none, and says nothing of others.")
    )
    table = Table(f"Point matching, {dataset.name}", ("encoder", "evidence", *FIGURES), lines, caption)
    words = [_comparison(errors, patients, method, seed) for method in METHODS]
    words = [sentence for group in words for sentence in group]
    curves = Curves("Errors", "mm", "share of points within", {
        ", ".join(name): [[mm, float((values <= mm).mean())] for mm in range(41)] for name, values in errors.items()
    })  # fmt: skip
    notes = [note for note in (dataset.note, few_patients_note(patients)) if note]
    return Results("matching", dataset.name, [table], [curves], words, dict(broken), notes)


def _comparison(
    errors: Mapping[tuple[str, str], np.ndarray], patients: np.ndarray, method: str, seed: int
) -> list[str]:
    """Every further encoder against the first by its mean error."""
    of_method = {row: values for (row, of), values in errors.items() if of == method}
    if not of_method:
        return []
    first = next(iter(of_method))
    gaps = against_first(of_method, patients, lambda values: float(values.mean()), seed)
    return [
        f"{method}: {gap_words(row, first, gap, 'difference in mean error, mm,', more_is_better=False, digits=2)}"
        for row, gap in gaps.items()
    ]
