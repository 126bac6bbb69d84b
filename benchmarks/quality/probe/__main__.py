"""What frozen features are worth for segmentation by a probe, against what HU alone give; and how fast it is.

    python -m benchmarks.probe                  quality on the test patient -> docs/results/probe.md (+ pictures)
    python -m benchmarks.probe --dev            the same on dev patients, to choose recipes; printed only
    python -m benchmarks.probe --speed          seconds and memory, synthetic -> docs/results/probe_speed.md
    python -m benchmarks.probe --phase          another patient in another contrast phase -> docs/results/probe_phase.md

The data are found as the tests find them: $TAPCT_DATA, else shared/data beside the checkout. The rows of the packaged
encoder appear when its weights are there, or those of another with --encoders.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from benchmarks.probe.quality import LABELS, Results, cell, quality, whole_list
from benchmarks.probe.tasks import BACKGROUND, Task, abdomen, blocks, chest_lesion, limb, lung_thirds

from benchmarks.common import markdown_table, write_page
from tapct_core.encoders import PACKAGED

ROOT = Path(__file__).resolve().parents[3]
DEV_TASKS = ("limb 24", "limb 25", "chest lesion", "lung thirds")


def data_dir() -> Path:
    """The folder of real CTs."""
    return Path(os.environ.get("TAPCT_DATA", ROOT.parent / "shared" / "data"))


def means_table(results: Results, seeds: int) -> str:
    """Mean Dice for every source and head, plain / guided, by amount of labels."""
    table = [
        [name, head, *(cell(results.get((name, head, amount))) for amount in LABELS)]
        for name, head in dict.fromkeys(key[:2] for key in results)
    ]
    header = ["features", "head", "1 stroke a class", "3 strokes", "10 strokes", "full masks"]
    return (
        f"Mean Dice over classes, trilinear / with the guided filter. Strokes: mean of {seeds} drawing(s), of one for "
        "the forest. Conv: the paper's protocol, one linear convolution trained by gradient on full masks. Forest: no "
        "guided filter.\n\n" + markdown_table(header, table)
    )


def verdict(results: Results) -> str:
    """What the table says about the encoder: against HU alone and random weights, and which row is best."""
    names = list(dict.fromkeys(key[0] for key in results))
    lines = []
    for amount in LABELS:
        own = {key: np.mean([(r.mean, r.guided) for r in runs], axis=0) for key, runs in results.items()}
        own = {key[:2]: value for key, value in own.items() if key[2] == amount}
        best = max(own, key=lambda key: np.nanmax(own[key]))
        by_source = {name: max(np.nanmax(v) for key, v in own.items() if key[0] == name) for name in names}
        ranked = ", ".join(f"{name} {dice:.3f}" for name, dice in sorted(by_source.items(), key=lambda i: -i[1]))
        labels = "full masks" if amount == "full" else f"{amount} stroke(s) a class"
        lines.append(f"- {labels}: best row {', '.join(best)}. {ranked}.")
    return "Each feature set's best head, with or without the filter:\n\n" + "\n".join(lines)


def classes_table(results: Results) -> str:
    """Dice a class for every source: full masks, logistic head."""
    names = list(dict.fromkeys(key[0] for key in results))
    head = "logistic"
    found = {name: results[name, head, "full"][0].classes for name in names}
    table = [[organ, *(f"{found[name][organ]:.3f}" for name in names)] for organ in found[names[0]]]
    return f"Dice a class, full masks, {head} head, trilinear.\n\n" + markdown_table(["class", *names], table)


def seconds_table(results: Results) -> str:
    """Seconds of fit, one slice and the whole scan, from 3 strokes and from full masks."""
    table = []
    for name, head in dict.fromkeys(key[:2] for key in results):
        for amount in [amount for amount in (3, "full") if (name, head, amount) in results]:
            parts = [f"{np.median([r.seconds[i] for r in results[name, head, amount]]):.2f}" for i in range(3)]
            table.append([name, head, amount, *parts])
    return (
        "Seconds (shared machine: only for comparing rows); the whole scan from the time of its test slices.\n\n"
        + markdown_table(["features", "head", "strokes", "fit", "one slice", "whole scan"], table)
    )


def picture(task: Task, results: Results, path: Path) -> None:
    """A test slice: truth, and what each source made of 3 strokes and of full masks, plain and guided."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _, test = blocks(task.truth.geometry)
    truth = task.truth.labels
    slices = [z for span in test for z in range(span.start, span.stop)]
    z = max(slices, key=lambda z: (len(np.unique(truth[z])), (truth[z] > 0).sum()))
    names = list(dict.fromkeys(key[0] for key in results))
    three, full = ({name: results[name, "logistic", amount][0] for name in names} for amount in (3, "full"))
    rows = [
        [("truth", truth)] + [(f"{name}\n3 strokes", run.labels) for name, run in three.items()],
        [("CT", None)] + [(f"{name}\nfull masks", run.labels) for name, run in full.items()],
        [("CT", None)] + [(f"{name}\nfull masks, guided", run.guided_labels) for name, run in full.items()],
    ]
    figure = Figure(figsize=(2.4 * (len(names) + 1), 2.6 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, row in zip(figure.subplots(len(rows), len(names) + 1), rows, strict=True):
        for axis, (title, labels) in zip(axes, row, strict=True):
            axis.imshow(np.clip(task.volume.hu[z], -160, 240), cmap="gray")
            if labels is not None:
                overlay = np.ma.masked_equal(np.where(labels[z] == BACKGROUND, 0, labels[z]), 0)
                axis.imshow(overlay, cmap="tab20", vmin=0, vmax=20, alpha=0.6, interpolation="none")
            axis.set_title(title, fontsize=7)
            axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


RULE = (
    "The rule: along z, in periods of 84 mm that begin 12 mm before the first slice, 36 mm are to learn from, 12 mm "
    "are a gap, 24 mm are tested, 12 mm are a gap again (more than one token of 10 mm); at this offset, chosen by the "
    "labels alone, every main organ lies in train and in test slices. Strokes are drawn by a program in the train "
    "slices: 25 mm long, 4 mm wide, inside the class, deep and near the border in turn, background too. One patient, "
    "so neighbouring slices of the same anatomy: this measures how features carry labels along a scan, not to other "
    "patients. The labels are TotalSegmentator's output, not an expert's; what is in none of the merged organs is "
    "background."
)


def main() -> None:
    """Runs what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dev", nargs="*", metavar="TASK", help=f"only some of {', '.join(DEV_TASKS)}; default all")
    for name in ("speed", "phase"):
        mode.add_argument(f"--{name}", action="store_true")
    parser.add_argument(
        "--encoders", nargs="+", default=[PACKAGED], metavar="NAME|DIR", help="their rows; the untrained twin is added"
    )
    parser.add_argument("--seeds", type=int, default=2, help="drawings of strokes to average over (default 2)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    args = parser.parse_args()
    if args.speed:
        from benchmarks.probe.speed import run
    elif args.phase:
        from benchmarks.probe.phase import run
    else:
        run = run_test if args.dev is None else run_dev
    run(args, data_dir())
    print(f"{time.process_time() / 60:.1f} processor minutes")


def run_dev(args: argparse.Namespace, data: Path) -> None:
    """The dev tasks; printed only."""
    makers = (lambda: limb(data, 24), lambda: limb(data, 25), lambda: chest_lesion(data), lambda: lung_thirds(data))
    for name, maker in zip(DEV_TASKS, makers, strict=True):
        if not args.dev or name in args.dev:
            results = quality(maker(), args.encoders, args.seeds)
            parts = (means_table(results, args.seeds), verdict(results), classes_table(results), seconds_table(results))
            print("\n\n".join(parts))


def run_test(args: argparse.Namespace, data: Path) -> None:
    """The test patient, once for the page."""
    task = abdomen(data)
    results = quality(task, args.encoders, args.seeds)
    picture(task, results, args.out / "probe.png")
    shown = "![a test slice](probe.png)\n\nLogistic head; a test slice."
    rest = (classes_table(results), seconds_table(results), whole_list(abdomen(data, merged=False), args.encoders))
    parts = [RULE, means_table(results, args.seeds), verdict(results), shown, *rest]
    write_page(args.out / "probe.md", "Segmentation by probes on frozen features", "python -m benchmarks.probe", parts)


if __name__ == "__main__":
    main()
