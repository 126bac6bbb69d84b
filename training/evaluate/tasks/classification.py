"""Classification by heads on frozen features: nested cross-validation, repeated, with intervals and tests.

    python -m training.evaluate classification --dataset luna16 --root LUNA16 --encoder tap-ct-b-3d --out runs/luna16
    python -m training.evaluate classification --dataset folder --root scans.csv --label subtype --encoder A B --out DIR

rows/ROW/embed/CASE.json            the case's features (embeddings/embed_cases.py)
rows/ROW/samples/CASE.safetensors   what heads see of them (embeddings/vectors.py)
rows/ROW/runs-HEAD/run-NN.json      one run of the cross-validation: scores of every tested sample
rows/ROW/permuted-HEAD/run-NN.json  one run with permuted labels: what luck reaches
samples.json                        which sample is of which case, and its class
table.json                          results
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tapct_core.cli.options import count
from tapct_core.errors import UserError
from tapct_core.store import FeatureStore

from ...run import distributed
from ..datasets import luna16, scan_labels
from ..datasets.labelled import Labelled
from ..embeddings.embed_cases import announce_needs, embed_cases
from ..embeddings.rows import LoadedRow
from ..embeddings.vectors import VECTORS_PER_POINT, load_samples, make_samples
from ..heads.classifiers import HEADS, Inputs
from ..heads.cross_validation import Problem, RunResult, check_folds, own_folds, run_once
from ..metrics.ranking import Predictions
from ..metrics.statistics import label_permuter, run_values
from ..report.tables import Results, write_and_print
from ..runs.run_folder import Outcome, RunFolder, each, say, say_broken
from .classification_tables import ENOUGH_RUNS, Judged, summarise
from .options import add_plan_options, add_run_options, begun, rows_from_args

FOLDS = 5
PERMUTATIONS = 99


@dataclass(frozen=True)
class Plan:
    """What is done to every row alike. ``folds`` None: the data set's own, else FOLDS drawn anew for every run.

    ``permutations`` runs have their labels permuted, for the test against chance; 0: finished predictions are tested.
    """

    heads: tuple[str, ...]
    runs: int = ENOUGH_RUNS
    permutations: int = PERMUTATIONS
    folds: int | None = None
    seed: int = 0
    device: str = "cpu"


def add_parser(tasks) -> None:
    """Adds the task to ``python -m training.evaluate``."""
    parser = tasks.add_parser(
        "classification",
        help="linear and attention heads on frozen features of scans or nodule candidates",
        description="Trains heads on frozen features in nested cross-validation, repeatedly, and says what is luck.",
        epilog=(
            "example:\n  python -m training.evaluate classification --dataset luna16 --root LUNA16 \\\n"
            "      --encoder tap-ct-b-3d untrained:tap-ct-b-3d --out runs/luna16\n\n"
            "--dataset folder: ROOT/cases.csv (or ROOT itself a CSV) with the columns case,ct,label,patient,split."
        ),
    )
    add_run_options(parser, ("luna16", "folder"))
    group = parser.add_argument_group("heads and folds")
    group.add_argument("--heads", nargs="+", choices=HEADS, help="default: all that the data set has")
    group.add_argument(
        "--runs", type=count, default=ENOUGH_RUNS, metavar="N", help=f"of the cross-validation (default {ENOUGH_RUNS})"
    )
    group.add_argument(
        "--permutations", type=_whole, metavar="N",
        help=f"runs with permuted labels, the test against chance (default {PERMUTATIONS}, for points 0; 0: labels are "
        "permuted under finished predictions, which is quick, and with few cases too ready to see something)",
    )  # fmt: skip
    group.add_argument(
        "--folds", type=count, metavar="K", help=f"draw K folds by patient (default: the data set's own, else {FOLDS})"
    )
    group.add_argument("--label", metavar="COLUMN", default="label", help="of the CSV (default label)")
    group.add_argument("--positive", metavar="WORD", help="which of two labels is the positive one (default: the last)")
    group.add_argument(
        "--negatives", type=_whole, default=50, metavar="N",
        help="luna16: candidates without a nodule taken of each scan, drawn by the seed (default 50; 0: all)",
    )  # fmt: skip
    add_plan_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command. Raises UserError for whatever is wrong with its input."""
    if args.dataset == "luna16":
        labelled = luna16.read(args.root, args.negatives, args.seed)
    else:
        labelled = scan_labels.read(args.root, args.label, args.positive)
    heads = tuple(args.heads or (name for name, head in HEADS.items() if head.takes in labelled.kinds))
    for name in heads:
        if HEADS[name].takes not in labelled.kinds:
            raise UserError(f"the head {name} is for points, and {labelled.dataset.name} labels scans; leave it out")
    if args.folds == 1:
        raise UserError("one fold has nothing to learn from; give --folds 2 or more, or leave it out")
    with begun(args) as (folder, store):
        permutations = args.permutations
        if permutations is None:
            permutations = 0 if labelled.by_point else PERMUTATIONS
        plan = Plan(heads, args.runs, permutations, args.folds, args.seed, args.device)
        rows = rows_from_args(args)
        write_and_print(folder, evaluate(folder, store, rows, labelled, plan))
    return 0


def evaluate(run: RunFolder, store: FeatureStore, rows: Sequence[LoadedRow], labelled: Labelled, plan: Plan) -> Results:
    """Everything from files to tables; what the run folder has already is not done again.

    All rows are judged on the same cases: one that is broken for any row is left out of all. Raises UserError.
    """
    for row in rows:
        if row.encoder is None:
            raise UserError("the row none has no tokens to classify by; use an encoder, or untrained:NAME as a control")
    cases = labelled.dataset.by_id()
    problem = make_problem(labelled, list(cases), plan.folds)  # what cannot be split is said before all the work
    check_folds(problem, labelled.classes, plan.folds or FOLDS, plan.seed)
    run.claim("classification", _settings(labelled, plan))
    announce_needs(rows, cases, run, store)
    if labelled.by_point:
        size = sum(2 * VECTORS_PER_POINT * row.encoder.embed_dim for row in rows) * len(problem.labels)
        say(f"and about {size / 1e9:.2g} GB in {run.path} for the vectors of {len(problem.labels)} points")
    made, broken = {}, {}
    for row in rows:
        run.add_row(row.name, row.facts())
        embedded = embed_cases(run, row, cases, store)
        made[row.name] = make_samples(run, embedded, labelled)
        broken |= {**embedded.outcome.broken, **made[row.name].broken}
    say_broken(broken, len(cases), labelled.dataset.name)
    ids = [id for id in cases if id not in broken]
    problem = make_problem(labelled, ids, plan.folds)
    if distributed.is_main():
        of_sample = [id for id in ids for _ in labelled.targets[id].labels]
        run.write_json("samples.json", {"cases": of_sample, "labels": problem.labels, "classes": labelled.classes})
    judged: list[Judged] = []
    for head in plan.heads:
        found, luck = {}, {}
        for row in rows:
            keys = [made[row.name].results[id]["features"] for id in ids]
            work = HeadRuns(run, row.name, head, ids, problem, plan, json.dumps(keys))
            found[row.name], luck[row.name] = work.all_runs(), work.permuted_runs()
        shared = [name for name in next(iter(found.values())).results if all(name in o.results for o in found.values())]
        for row, outcome in found.items():
            judged.append(_judged(row, head, problem, [outcome.results[n] for n in shared], luck[row]))
    return summarise(labelled, problem, plan.seed, judged, broken)


def make_problem(labelled: Labelled, ids: Sequence[str], folds: int | None) -> Problem:
    """Labels, patients and folds of the samples of these cases, in order."""
    cases = labelled.dataset.by_id()
    counts = [len(labelled.targets[id].labels) for id in ids]
    of_case = own_folds(labelled.dataset) if folds is None else None
    labels = np.concatenate([np.zeros(0, int), *(labelled.targets[id].labels for id in ids)])
    absent = set(range(len(labelled.classes))) - set(labels.tolist())
    if absent:
        raise UserError(f"no usable case is of class {labelled.classes[absent.pop()]}; the broken ones are named above")
    return Problem(
        labels=labels,
        patients=np.repeat([cases[id].group or id for id in ids], counts),
        classes=len(labelled.classes),
        own_folds=None if of_case is None else np.repeat([of_case[id] for id in ids], counts),
        thin=labelled.by_point,
    )


def _settings(labelled: Labelled, plan: Plan) -> dict:
    known = {id: [one.labels.tolist(), np.asarray(one.points).tolist()] for id, one in labelled.targets.items()}
    return {
        "dataset": labelled.dataset.name,
        "classes": labelled.classes,
        "labels": hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16],
        "folds": plan.folds,
        "seed": plan.seed,
    }


class HeadRuns:
    """All runs of one head on one encoder's features. ``made_of`` changes whenever the features would."""

    def __init__(
        self, run: RunFolder, row: str, head: str, ids: Sequence[str], problem: Problem, plan: Plan, made_of: str
    ) -> None:
        self.run, self.row, self.name, self.ids, self.problem, self.plan = run, row, head, ids, problem, plan
        facts = [made_of, HEADS[head], problem.patients.tolist(), problem.labels.tolist()]
        self.key = hashlib.sha256(repr(facts).encode()).hexdigest()

    @cached_property
    def inputs(self) -> Inputs:
        """What the head sees of all samples; read when the first run needs it."""
        return load_samples(self.run, self.row, self.ids, HEADS[self.name].takes)

    def all_runs(self) -> Outcome:
        """rows/ROW/runs-HEAD: scores of every tested sample in every run."""

        def work(number: int) -> dict:
            result = self._once(number, self.problem)
            rounded = [[float(f"{value:.9g}") for value in sample] for sample in result.scores]
            return {"tested": result.tested, "folds": result.folds, "scores": rounded, "settings": result.settings}

        return self._each("runs", self.plan.runs, work)

    def permuted_runs(self) -> Outcome:
        """rows/ROW/permuted-HEAD: AUROC of runs whose labels were permuted before anything was trained."""
        permute = label_permuter(self.problem.labels, self.problem.patients)

        def work(number: int) -> dict:
            labels = permute(np.random.default_rng([self.plan.seed, number]))
            result = self._once(number, replace(self.problem, labels=labels))
            tested = result.tested
            one = Predictions(labels[tested], result.scores[None], result.folds[None], self.problem.patients[tested])
            return {"auroc": run_values(one)["auroc"][0]}

        return self._each("permuted", self.plan.permutations, work)

    def _once(self, number: int, problem: Problem) -> RunResult:
        # The seed knows neither encoder nor head: all of them are judged on the same folds and permutations.
        seed = 1000 * self.plan.seed + number
        return run_once(HEADS[self.name], self.inputs, problem, self.plan.folds or FOLDS, seed, self.plan.device)

    def _each(self, part: str, count: int, work: Callable[[int], dict]) -> Outcome:
        if not count:
            return Outcome()
        numbers = {f"run-{number:02d}": number for number in range(count)}
        what = f"{self.name} on {self.row}" + (", labels permuted" if part == "permuted" else "")
        return each(self.run, self.run.part(self.row, f"{part}-{self.name}"), numbers, work, key=self.key, what=what)


def _judged(row: str, head: str, problem: Problem, runs: Sequence[Mapping], permuted: Outcome) -> Judged:
    if not runs:
        raise UserError(f"no run of the head {head} worked for every encoder; their reasons are named above")
    tested = np.array(runs[0]["tested"])
    scores, folds = (np.array([one[name] for one in runs]) for name in ("scores", "folds"))
    settings = [setting for one in runs for setting in one["settings"]]
    predictions = Predictions(problem.labels[tested], scores, folds, problem.patients[tested])
    return Judged(row, head, predictions, settings, {name: one["auroc"] for name, one in permuted.results.items()})


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)
