"""Retrieval: the nearest scans by scan embedding, and whether they carry the query's label.

    python -m training.evaluate retrieval --dataset folder --root scans.csv --label diagnosis --encoder A B --out DIR

Every scan asks once; all others answer, ranked by cosine of ``FeatureMap.scan_embedding``. Scans of the asking patient
do not answer, unless the label is the patient itself. Scans whose label nobody else has only answer.

recall@k  share of queries with at least one scan of their label among the k nearest, as metric learning counts it
mAP       mean over queries of the average precision over the whole ranking
Ties go against the encoder. What a random order reaches is computed exactly, query by query.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from tapct_core.errors import UserError
from tapct_core.store import FeatureStore

from ..datasets.cases import Dataset
from ..datasets.scan_labels import read_words
from ..embeddings.embed_cases import Embedded, announce_needs, embed_cases
from ..embeddings.rows import LoadedRow
from ..metrics.paired import against_first, few_patients_note, gap_words, paired_gap
from ..metrics.statistics import Interval, interval
from ..report.tables import Results, Table, cell, write_and_print
from ..runs.run_folder import Outcome, RunFolder, each, say_broken
from .options import add_plan_options, add_run_options, begun, rows_from_args

AT = (1, 5, 10)
COLUMNS = ("encoder", *(f"recall@{k} (95 %)" for k in AT), "mAP (95 %)")
MOST_LABELS_SHOWN = 30


@dataclass(frozen=True, eq=False)
class Answers:
    """Of each query: ``hits`` (Q, len(AT)) 0 or 1, average ``precision`` (Q,), and both for a random order."""

    queries: np.ndarray
    hits: np.ndarray
    precision: np.ndarray
    random_hits: np.ndarray
    random_precision: np.ndarray


def add_parser(tasks) -> None:
    """Adds the task to ``python -m training.evaluate``."""
    parser = tasks.add_parser(
        "retrieval",
        help="nearest scans by scan embedding",
        description="Ranks scans by the cosine of their embeddings and asks whether the nearest share a label.",
        epilog=(
            "example:\n  python -m training.evaluate retrieval --dataset folder --root scans.csv --label diagnosis \\\n"
            "      --encoder tap-ct-b-3d untrained:tap-ct-b-3d --out runs/retrieval\n\n"
            "scans.csv: case,ct,label,patient; --label patient asks for the same patient's other scans."
        ),
    )
    add_run_options(parser, ("folder",))
    parser.add_argument("--label", metavar="COLUMN", default="label", help="of the CSV (default label)")
    add_plan_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command. Raises UserError for whatever is wrong with its input."""
    dataset, words = read_words(args.root, args.label)
    with begun(args) as (folder, store):
        rows = rows_from_args(args)
        write_and_print(folder, evaluate(folder, store, rows, dataset, words, args.label == "patient", args.seed))
    return 0


def evaluate(
    run: RunFolder, store: FeatureStore, rows: Sequence[LoadedRow], dataset: Dataset, words: Mapping[str, str],
    same_patient: bool = False, seed: int = 0,
) -> Results:  # fmt: skip
    """Everything from files to tables. ``words`` label the cases; ``same_patient``: whether own scans may answer.

    A case that is broken for any row is left out of all. Raises UserError.
    """
    for row in rows:
        if row.encoder is None:
            raise UserError("the row none has no scan embedding; use an encoder, or untrained:NAME as a control")
    settings = {"dataset": dataset.name, "same_patient": same_patient}
    run.claim("retrieval", settings | {"labels": hashlib.sha256(repr(sorted(words.items())).encode()).hexdigest()[:16]})
    cases = dataset.by_id()
    announce_needs(rows, cases, run, store)
    made: dict[str, Outcome] = {}
    broken: dict[str, str] = {}
    for row in rows:
        run.add_row(row.name, row.facts())
        embedded = embed_cases(run, row, cases, store)
        made[row.name] = _vectors(run, embedded)
        broken |= {**embedded.outcome.broken, **made[row.name].broken}
    say_broken(broken, len(cases), dataset.name)
    ids = [id for id in cases if id not in broken]
    labels = np.array([words[id] for id in ids])
    patients = np.array([cases[id].group or id for id in ids])
    answers = {
        row: answer(np.array([outcome.results[id]["vector"] for id in ids]), labels, None if same_patient else patients)
        for row, outcome in made.items()
    }
    return summarise(dataset, labels, patients, answers, broken, seed)


def answer(vectors: np.ndarray, labels: np.ndarray, patients: np.ndarray | None) -> Answers:
    """Scan embeddings (N, C) and labels (N,) -> how well each scan's label is found among the others.

    ``patients`` (N,): scans of one patient do not answer each other; None: they do.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    own = np.eye(len(labels), dtype=bool) if patients is None else patients[:, None] == patients[None]
    queries, hits, precisions, random_hits, random_precisions = [], [], [], [], []
    for query in range(len(labels)):
        others = np.flatnonzero(~own[query])
        alike = labels[others] == labels[query]
        if not alike.any():
            continue
        # Rounded, so that equal scans tie whatever the product's last bit; a tie puts unlike scans first.
        order = np.lexsort((alike, -np.round(similarity[query, others], 9)))
        ranked = alike[order]
        places = np.flatnonzero(ranked) + 1
        queries.append(query)
        hits.append([bool(ranked[:k].any()) for k in AT])
        precisions.append(float((np.arange(1, len(places) + 1) / places).mean()))
        random_hits.append([random_hit(len(others), int(alike.sum()), k) for k in AT])
        random_precisions.append(random_average_precision(len(others), int(alike.sum())))
    return Answers(
        np.array(queries, dtype=int),
        np.array(hits, dtype=float).reshape(-1, len(AT)),
        np.array(precisions),
        np.array(random_hits).reshape(-1, len(AT)),
        np.array(random_precisions),
    )


def random_hit(scans: int, alike: int, k: int) -> float:
    """Chance that k of ``scans`` drawn without replacement hold one of the ``alike``."""
    k = min(k, scans)
    return 1 - comb(scans - alike, k) / comb(scans, k)


def random_average_precision(scans: int, alike: int) -> float:
    """Expected average precision of a random order: at each rank, given that a like scan stands there, the like scans
    before it are expected to be (rank - 1) (alike - 1) / (scans - 1)."""
    ranks = np.arange(1, scans + 1)
    before = (ranks - 1) * (alike - 1) / max(1, scans - 1)
    return float(((1 + before) / ranks).mean())


def summarise(
    dataset: Dataset, labels: np.ndarray, patients: np.ndarray, answers: Mapping[str, Answers],
    broken: Mapping[str, str], seed: int = 0,
) -> Results:  # fmt: skip
    """The tables and what they say in words."""
    first = next(iter(answers.values()))
    if len(first.queries) == 0:
        raise UserError(f"no scan of {dataset.name} shares its label with another patient's; there is nothing to find")
    asking = patients[first.queries]
    lines, words = [], []
    for row, found in answers.items():
        cells = [_mean(values, asking, seed) for values in (*found.hits.T, found.precision)]
        lines.append([row, *(cell(i.value, i.low, i.high) for i in cells)])
        words.append(_verdict(row, found, asking, seed))
    guess = [*first.random_hits.mean(axis=0), first.random_precision.mean()]
    lines.append(["a random order", *(cell(value) for value in guess)])
    rows = {row: found.precision for row, found in answers.items()}
    gaps = against_first(rows, asking, _mean_precision, seed)
    words += [gap_words(row, next(iter(rows)), gap, "difference in mAP") for row, gap in gaps.items()]
    caption = (
        f"{len(first.queries)} queries among {len(labels)} scans of {len(np.unique(patients))} patients, "
        f"{len(np.unique(labels))} labels. recall@k: share of queries with a scan of their label among the k nearest. "
        "Intervals: 95 %, bootstrap over the asking patients."
    )
    tables = [Table(f"Retrieval, {dataset.name}", COLUMNS, lines, caption)]
    if 1 < len(np.unique(labels[first.queries])) <= MOST_LABELS_SHOWN:
        tables.append(_by_label(labels[first.queries], answers, asking, seed))
    notes = [note for note in (dataset.note, *dataset.left_out, few_patients_note(asking)) if note]
    return Results("retrieval", dataset.name, tables, words=words, left_out=dict(broken), notes=notes)


def _vectors(run: RunFolder, embedded: Embedded) -> Outcome:
    """rows/ROW/scans: the scan embedding of every case."""

    def work(id: str) -> dict:
        return {"vector": embedded.features(id).scan_embedding()}

    ids = {id: id for id in embedded.outcome.results}
    part = run.part(embedded.row.name, "scans")
    return each(run, part, ids, work, key=embedded.key, what=f"scan embeddings of {embedded.row.name}")


def _by_label(labels: np.ndarray, answers: Mapping[str, Answers], asking: np.ndarray, seed: int) -> Table:
    lines = []
    for label in np.unique(labels):
        mine = labels == label
        cells = [_mean(found.precision[mine], asking[mine], seed) for found in answers.values()]
        guess = float(next(iter(answers.values())).random_precision[mine].mean())
        lines.append([str(label), int(mine.sum()), *(cell(i.value, i.low, i.high) for i in cells), cell(guess)])
    columns = ("label", "queries", *answers, "a random order")
    return Table("mAP by label", columns, lines, "Mean average precision of the queries with each label.")


def _mean(values: np.ndarray, asking: np.ndarray, seed: int) -> Interval:
    return interval(values, asking, lambda rows: float(rows.mean()), seed=seed)


def _verdict(row: str, found: Answers, asking: np.ndarray, seed: int) -> str:
    """Whether mAP is more than a random order's, query by query."""
    gap = paired_gap(found.precision, found.random_precision, asking, _mean_precision, seed=seed)
    return gap_words(row, "a random order", gap, f"mAP {found.precision.mean():.3f}, difference", fewest=1)


def _mean_precision(values: np.ndarray) -> float:
    return float(values.mean())
