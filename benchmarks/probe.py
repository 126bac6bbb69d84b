"""What frozen features are worth for segmentation by a probe, against what HU alone give; and how fast it is.

    python -m benchmarks.probe                  quality on the test patient -> docs/results/probe.md (+ pictures)
    python -m benchmarks.probe --dev            the same on dev patients, to choose recipes; printed only
    python -m benchmarks.probe --speed          seconds and memory, synthetic -> docs/results/probe_speed.md
    python -m benchmarks.probe --phase          another patient in another contrast phase -> docs/results/probe_phase.md

The data are found as the tests find them: $TAPCT_DATA, else shared/data beside the checkout. The row of the packaged
encoder appears when its weights are there.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.common import markdown_table, write_page
from benchmarks.probe_forest import Forest
from benchmarks.probe_tasks import BACKGROUND, Task, abdomen, blocks, chest_lesion, crop, limb, lung_thirds, strokes
from tapct_core.embedding import embed
from tapct_core.encoders import load_encoder
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.volume import LabelMap

ROOT = Path(__file__).resolve().parents[1]
LABELS = (1, 3, 10, "full")
HEADS = ("ridge", "logistic", "forest")


@dataclass(frozen=True)
class Source:
    """A row of features: a map, and which HU columns stand beside its tokens."""

    name: str
    features: FeatureMap
    hu_features: str | None


def data_dir() -> Path:
    """The folder of real CTs."""
    return Path(os.environ.get("TAPCT_DATA", ROOT.parent / "shared" / "data"))


def encoder_maps(task: Task, names: list[str]) -> dict[str, FeatureMap]:
    """Features of the task's scan by each encoder that is there."""
    maps = {}
    for name in names:
        try:
            encoder = load_encoder(name)
        except UserError as error:
            print(f"no row for {name}: {error}", flush=True)
            continue
        maps[f"{encoder.name}" if encoder.trained else "untrained encoder"] = embed(task.volume, encoder)
    return maps


def sources(maps: dict[str, FeatureMap]) -> list[Source]:
    """Encoder tokens alone, HU alone at the same token pitch and per voxel, and both joined."""
    some = next(iter(maps.values()))
    bare = replace(some, tokens=some.tokens[..., :0], valid=np.ones_like(some.valid))
    best = next(iter(maps))
    return [
        *(Source(name, features, None) for name, features in maps.items()),
        Source("HU per token", bare, "token"),
        Source("HU per voxel, multi-scale", bare, "voxel"),
        Source(f"{best} + HU per token", maps[best], "token"),
        Source(f"{best} + HU per voxel", maps[best], "voxel"),
    ]


def labelled(task: Task, features: FeatureMap, amount: int | str, seed: int) -> list:
    """Pairs to fit on: strokes, or the full masks of the train blocks."""
    train, _ = blocks(task.truth.geometry)
    if amount == "full":
        return [(features, crop(task.truth, span)) for span in train]
    return [(features, strokes(task.truth, train, int(amount), seed))]


def test_dice(task: Task, found: np.ndarray) -> dict:
    """Dice on the test slices, of the classes that both they and the train slices hold."""
    train, test = blocks(task.truth.geometry)
    taught = set().union(*(np.unique(task.truth.labels[span]).tolist() for span in train))
    asked = taught & set(np.unique(task.truth.labels[test]).tolist()) - {0}
    shown = np.where(found == BACKGROUND, 0, found) * test[:, None, None]
    truth = LabelMap(task.truth.labels * test[:, None, None], task.truth.geometry, names=task.truth.names)
    return dice_report(LabelMap(shown, task.truth.geometry), truth, tuple(sorted(asked)))


def timed(work: Callable):
    """(result, seconds)."""
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


@dataclass
class Result:
    """One cell: Dice and seconds of one source, head and amount of labels."""

    mean: float
    guided: float
    classes: dict[str, float]
    seconds: tuple[float, float, float]
    labels: np.ndarray


def measure(task: Task, source: Source, head: str, amount: int | str, seed: int) -> Result:
    """Fits, predicts one slice and the whole scan, and scores the test slices."""
    pairs = labelled(task, source.features, amount, seed)
    if head == "forest":
        probe, fit_seconds = timed(lambda: Forest.fit(pairs, source.hu_features, seed))
    else:
        probe, fit_seconds = timed(lambda: LinearProbe.fit(pairs, head=head, hu_features=source.hu_features, seed=seed))
    middle = task.volume.geometry.shape[0] // 2
    region = (slice(middle, middle + 1), slice(None), slice(None))
    _, slice_seconds = timed(lambda: probe.predict(source.features, task.volume, region=region))
    found, whole_seconds = timed(lambda: probe.predict(source.features, task.volume))
    report = test_dice(task, found.labels)
    guided = float("nan")
    if head != "forest":
        guided = test_dice(task, probe.predict(source.features, task.volume, guided=True).labels)["mean_dice"]
    per_class = {row["name"]: row["dice"] for row in report["classes"].values()}
    return Result(report["mean_dice"], guided, per_class, (fit_seconds, slice_seconds, whole_seconds), found.labels)


def quality(task: Task, encoders: list[str], seeds: int) -> tuple[list[str], dict]:
    """Tables of mean Dice, Dice a class and seconds for every source, head and amount of labels."""
    results: dict[tuple, list[Result]] = {}
    rows = sources(encoder_maps(task, encoders))
    for source in rows:
        for head in HEADS:
            for amount in LABELS:
                runs = [measure(task, source, head, amount, seed) for seed in range(1 if amount == "full" else seeds)]
                results[source.name, head, amount] = runs
            means = [np.mean([r.mean for r in results[source.name, head, amount]]) for amount in LABELS]
            print(f"{task.name}: {source.name}, {head}: " + " ".join(f"{m:.3f}" for m in means), flush=True)
    return [_means(results, seeds), _classes(results), _seconds(results)], results


def _means(results: dict, seeds: int) -> str:
    table = []
    for name, head in dict.fromkeys(key[:2] for key in results):
        cells = []
        for amount in LABELS:
            runs = results[name, head, amount]
            plain, guided = (np.mean([getattr(r, part) for r in runs]) for part in ("mean", "guided"))
            cells.append(f"{plain:.3f}" if np.isnan(guided) else f"{plain:.3f} / {guided:.3f}")
        table.append([name, head, *cells])
    header = ["features", "head", "1 stroke a class", "3 strokes", "10 strokes", "full masks"]
    return (
        f"Mean Dice over classes, trilinear / with the guided filter; strokes: mean of {seeds} drawing(s).\n\n"
        + markdown_table(header, table)
    )


def _classes(results: dict) -> str:
    names = list(dict.fromkeys(key[0] for key in results))
    head = "logistic"
    organs = list(results[names[0], head, "full"][0].classes)
    table = [[organ, *(f"{results[n, head, 'full'][0].classes[organ]:.3f}" for n in names)] for organ in organs]
    return f"Dice a class, full masks, {head} head, trilinear.\n\n" + markdown_table(["class", *names], table)


def _seconds(results: dict) -> str:
    table = []
    for name, head in dict.fromkeys(key[:2] for key in results):
        for amount in (3, "full"):
            parts = [f"{np.median([r.seconds[i] for r in results[name, head, amount]]):.2f}" for i in range(3)]
            table.append([name, head, amount, *parts])
    return "Seconds (shared machine: only for comparing rows).\n\n" + markdown_table(
        ["features", "head", "strokes", "fit", "one slice", "whole scan"], table
    )


def whole_list(data: Path, encoders: list[str]) -> str:
    """All labels of the test patient, full masks, closed form."""
    task = abdomen(data, merged=False)
    table = []
    for source in sources(encoder_maps(task, encoders)):
        result = measure(task, source, "ridge", "full", 0)
        found = [dice for dice in result.classes.values() if dice is not None]
        table.append([source.name, len(found), f"{result.mean:.3f}", f"{result.guided:.3f}"])
    header = ["features", "classes tested", "mean Dice", "guided"]
    return "All 61 labels unmerged, full masks, ridge head.\n\n" + markdown_table(header, table)


def picture(task: Task, results: dict, path: Path) -> None:
    """A test slice: truth, and what each source made of 3 strokes and of full masks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _, test = blocks(task.truth.geometry)
    truth = task.truth.labels
    z = int(max(np.flatnonzero(test), key=lambda z: (len(np.unique(truth[z])), (truth[z] > 0).sum())))
    names = list(dict.fromkeys(key[0] for key in results))
    figure = Figure(figsize=(2.4 * (len(names) + 1), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(names) + 1)
    for row, amount in zip(axes, (3, "full"), strict=True):
        shown = [("truth" if amount == 3 else "CT", task.truth.labels)]
        shown += [(name, results[name, "logistic", amount][0].labels) for name in names]
        for axis, (title, labels) in zip(row, shown, strict=True):
            axis.imshow(np.clip(task.volume.hu[z], -160, 240), cmap="gray")
            plane = np.where(labels[z] == BACKGROUND, 0, labels[z])
            if title != "CT":
                overlay = np.ma.masked_equal(plane, 0)
                axis.imshow(overlay, cmap="tab20", vmin=0, vmax=20, alpha=0.6, interpolation="none")
            taught = "" if title in ("CT", "truth") else "\n3 strokes" if amount == 3 else "\nfull masks"
            axis.set_title(title + taught, fontsize=7)
            axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


RULE = (
    "The rule: along z, in periods of 84 mm, 36 mm are to learn from, 12 mm are a gap, 24 mm are tested, 12 mm are a "
    "gap again (more than one token of 10 mm). Strokes are drawn by a program in the train slices: 25 mm long, 4 mm "
    "wide, inside the class, deep and near the border in turn, background too. One patient, so neighbouring slices of "
    "the same anatomy: this measures how features carry labels along a scan, not to other patients. The labels are "
    "TotalSegmentator's output, not an expert's; what is in none of the merged organs is background."
)


def main() -> None:
    """Runs what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    for name in ("dev", "speed", "phase"):
        mode.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--encoders", nargs="+", default=["tap-ct-xs-3d", "untrained-xs-3d"], metavar="NAME|DIR")
    parser.add_argument("--seeds", type=int, default=2, help="drawings of strokes to average over (default 2)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    args = parser.parse_args()
    if args.speed:
        from benchmarks.probe_speed import run
    elif args.phase:
        from benchmarks.probe_phase import run
    else:
        run = run_dev if args.dev else run_test
    run(args, data_dir())


def run_dev(args: argparse.Namespace, data: Path) -> None:
    """Every dev task; printed only."""
    for task in (limb(data, 24), limb(data, 25), chest_lesion(data), lung_thirds(data)):
        parts, _ = quality(task, args.encoders, args.seeds)
        print("\n\n".join(parts))


def run_test(args: argparse.Namespace, data: Path) -> None:
    """The test patient, once for the page."""
    task = abdomen(data)
    parts, results = quality(task, args.encoders, args.seeds)
    picture(task, results, args.out / "probe.png")
    shown = "![a test slice](probe.png)\n\nLogistic head, trilinear."
    parts = [RULE, parts[0], shown, *parts[1:], whole_list(data, args.encoders)]
    write_page(args.out / "probe.md", "Segmentation by probes on frozen features", "python -m benchmarks.probe", parts)


if __name__ == "__main__":
    main()
