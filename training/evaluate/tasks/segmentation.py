"""``python -m training.evaluate segmentation``: a linear head on frozen features, by Dice and surface distance."""

from __future__ import annotations

import argparse

from tapct_core.cli.options import count
from tapct_core.errors import UserError

from ..datasets import READERS, read_dataset
from ..datasets.cases import Dataset, official_or_seeded
from ..embeddings.embed_cases import announce_needs
from ..report.tables import write_and_print
from ..runs.run_folder import RunFolder, say, say_broken
from .options import add_plan_options, add_run_options, begun, rows_from_args
from .segmentation_run import HEADS, Task, evaluate_row, head_bytes
from .segmentation_tables import tabulate

EPILOG = """example:
  python -m training.evaluate segmentation --dataset amos22 --root AMOS22 \\
      --encoder tap-ct-b-3d untrained:tap-ct-b-3d none --out runs/amos22

layouts:
  amos22   dataset.json, imagesTr, labelsTr, imagesVa, labelsVa; CT cases only, tested on the validation set
  lits17   volume-N.nii and segmentation-N.nii, in one folder or in its training batches; a seeded split
  folder   cases.csv with the columns case,ct,labels,split,patient (docs/evaluation.md)

Features are made once and kept; the same command goes on where it stopped, and takes further encoders."""


def add_parser(tasks) -> None:
    """Adds the task."""
    parser = tasks.add_parser(
        "segmentation",
        help="linear segmentation from frozen features",
        description="Fits one linear head on frozen features and scores it on every tested scan's own grid.",
        epilog=EPILOG,
    )
    add_run_options(parser, tuple(READERS))
    add_head_options(parser)
    add_plan_options(parser)
    parser.set_defaults(run=run)


def add_head_options(parser: argparse.ArgumentParser) -> None:
    """--head, --steps and --folds."""
    parser.add_argument(
        "--head", choices=HEADS, default="conv",
        help="conv: one linear convolution, Dice + cross-entropy (default); ridge: closed form; logistic",
    )  # fmt: skip
    parser.add_argument("--steps", type=count, default=1500, metavar="N", help="training steps of conv (default 1500)")
    parser.add_argument(
        "--folds", type=count, metavar="K", help="cross-validate by patient instead of the data set's own split"
    )


def run(args: argparse.Namespace) -> int:
    """The task; writes the run folder and prints its first table."""
    dataset = read_dataset(args.dataset, args.root)
    task = task_of(args, dataset)
    with begun(args) as (folder, store):
        rows = rows_from_args(args)
        prepare(folder, "segmentation", task)
        announce_needs(rows, dataset.by_id(), folder, store, lambda row: head_bytes(row, task))
        scored = []
        for row in rows:
            scored.append(evaluate_row(folder, store, row, task))
            say_broken(scored[-1].broken, len(dataset.cases), row.name)
        write_and_print(folder, tabulate("segmentation", task, scored))
    return 0


def task_of(args: argparse.Namespace, dataset: Dataset) -> Task:
    """The task that the options describe. Raises UserError for folds that cannot be made."""
    if args.folds == 1:
        raise UserError("one fold has nothing to learn from; give --folds 2 or more, or leave it out")
    return Task(dataset, official_or_seeded(dataset, args.folds, args.seed), args.head, args.steps, args.seed)


def prepare(folder: RunFolder, name: str, task: Task) -> None:
    """Claims the run folder and writes the split down."""
    settings = {
        "dataset": task.dataset.name,
        "cases": len(task.dataset.cases),
        "classes": task.dataset.classes,
        "split": task.split.words,
        "head": task.head,
        "seed": task.seed,
    }
    folder.claim(name, settings | ({"steps": task.steps} if task.head == "conv" else {}))
    folder.write_json("split.json", task.split.as_json())
    # Where the files lie, for the report's pictures; the only paths in the folder.
    folder.write_json(
        "cases.json",
        {
            c.id: {"ct": c.ct.absolute(), "labels": c.labels and c.labels.absolute(), "scan_header": c.scan_header}
            for c in task.dataset.cases
        },
    )
    for words in task.dataset.left_out:
        say(f"{task.dataset.name}: {words}")
    say(f"{task.dataset.name}: {task.split.words}")
