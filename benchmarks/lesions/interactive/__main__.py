"""Masks from strokes: how good after how many slices, beside what else there is.

    python -m benchmarks.interactive --data ../shared/data --split test --work rows --out docs/results/interactive.md

A simulated user (user.py) paints one slice a class and round and corrects each row's own answer. One line of JSON a
task, row and seed goes to WORK/<split>.jsonl as it is done; what is there already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from tapct_core.delineation.grid import WorkGrid
from tapct_core.encoders import load_encoder
from tapct_core.errors import UserError

from .page import write
from .rows import rows
from .tasks import SPLITS, Task, load_task
from .user import User

FAR_MM = 60.0
SLOW = ("random forest on multi-scale HU", "before: probe on tokens and HU, edges")
"""Rows that paint no more than --few rounds, since each answer takes many times as long."""


def measured(task: Task, row: object, body: np.ndarray, seed: int, rounds: int) -> dict:
    """Dice of each class, strokes and processor seconds after each round, and what corrections changed far away."""
    truth, user = task.truth.labels, User(task.truth, body, seed)
    found: dict[str, list] = {"dice": [], "strokes": [], "seconds": [], "far": [], "kept": []}
    answer = None
    for _ in range(rounds):
        before = user.painted.copy()
        user.paint(answer)
        strokes = user.strokes
        begin = time.process_time()
        try:
            new = row.answer(strokes)
        except (UserError, ArithmeticError, np.linalg.LinAlgError) as error:
            print(f"  {type(error).__name__}: {error}", flush=True)
            new = np.zeros_like(truth) if answer is None else answer
        found["seconds"].append(round(time.process_time() - begin, 2))
        found["dice"].append([round(_dice(new == v, truth == v), 4) for v in user.classes])
        found["strokes"].append(user.count)
        law = user.painted > 0
        kept = new[law] == np.where(user.painted == user.background, 0, user.painted)[law]
        found["kept"].append(round(float(kept.mean()), 4))
        if answer is not None:
            far = (
                ndimage.distance_transform_edt(user.painted == before, sampling=task.volume.geometry.spacing_mm)
                > FAR_MM
            )
            far &= body
            found["far"].append([int((new != answer)[far].sum()), int(far.sum())])
        answer = new
    return found


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / max(1, int(a.sum() + b.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=tuple(SPLITS), default="dev")
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--few", type=int, default=5, help="rounds of the slow rows")
    parser.add_argument("--tasks", nargs="+", help="only these; default all")
    parser.add_argument("--rows", nargs="+", help="only these; default all")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the measured rows")
    parser.add_argument("--out", type=Path, help="write the page from the rows of these seeds")
    args = parser.parse_args()
    file = args.work / f"{args.split}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    there = {(one["task"], one["row"], one["seed"]) for one in done}
    encoder = load_encoder(args.encoder)
    for seed in range(args.seeds):
        for recipe in SPLITS[args.split]:
            if args.tasks and recipe.name not in args.tasks:
                continue
            task = load_task(args.data, recipe)
            grid = WorkGrid.of(task.volume)
            body = grid.up(grid.body)
            for name, make in rows(task, encoder, body).items():
                if (args.rows and name not in args.rows) or (task.name, name, seed) in there:
                    continue
                rounds = min(args.rounds, args.few) if name in SLOW else args.rounds
                try:
                    row = make()
                    found = measured(task, row, body, seed, rounds)
                except ImportError as error:
                    print(f"no row for {name}: {error}", flush=True)
                    continue
                one = {"task": task.name, "kind": task.kind, "row": name, "seed": seed, **found}
                with open(file, "a") as lines:
                    lines.write(json.dumps(one) + "\n")
                done.append(one)
                means = [round(float(np.mean(d)), 3) for d in found["dice"]]
                print(f"{task.name} | {name} | {seed}: {means}", flush=True)
    if args.out:
        write(args.out, args.split, [one for one in done if one["seed"] < args.seeds])


if __name__ == "__main__":
    main()
