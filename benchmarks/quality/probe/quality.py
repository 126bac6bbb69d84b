"""Dice of probes and rivals on one labelled scan: every feature set, head and amount of labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.probe.forest import Forest
from benchmarks.probe.tasks import BACKGROUND, Task, blocks, crop, strokes

from benchmarks.common import markdown_table
from tapct_core.embedding import embed
from tapct_core.encoders import UNTRAINED, load_encoder, untrained_twin
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.volume import LabelMap

LABELS = (1, 3, 10, "full")
HEADS = ("ridge", "logistic", "conv", "forest")


@dataclass(frozen=True)
class Source:
    """A row of features: a map, and which HU columns stand beside its tokens."""

    name: str
    features: FeatureMap
    hu_features: str | None

    def can(self, head: str, amount: int | str) -> bool:
        """The convolution sees one grid, the tokens', and learns from full masks only."""
        return head != "conv" or (amount == "full" and self.hu_features != "voxel")


def encoder_maps(task: Task, names: Sequence[str]) -> dict[str, FeatureMap]:
    """Features of the task's scan by each encoder that is there, and by the first one's untrained twin."""
    maps, first = {}, None
    for name in names:
        try:
            encoder = load_encoder(name)
        except UserError as error:
            print(f"no row for {name}: {error}", flush=True)
            continue
        first = first or encoder
        maps[encoder.name if encoder.trained else "untrained encoder"] = embed(task.volume, encoder)
    if first is None:
        first = load_encoder(UNTRAINED)
    if "untrained encoder" not in maps:
        maps["untrained encoder"] = embed(task.volume, untrained_twin(first) if first.trained else first)
    return maps


def sources(maps: dict[str, FeatureMap]) -> list[Source]:
    """Encoder tokens alone, HU alone at the same token pitch and per voxel, and both joined."""
    best, some = next(iter(maps.items()))
    bare = replace(some, tokens=some.tokens[..., :0], valid=np.ones_like(some.valid))
    return [
        *(Source(name, features, None) for name, features in maps.items()),
        Source("HU per token", bare, "token"),
        Source("HU per voxel, multi-scale", bare, "voxel"),
        Source(f"{best} + HU per token", some, "token"),
        Source(f"{best} + HU per voxel", some, "voxel"),
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
    taught, held = (set().union(*(np.unique(task.truth.labels[s]).tolist() for s in spans)) for spans in (train, test))
    asked = taught & held - {0}
    shown, truth = np.zeros_like(task.truth.labels), np.zeros_like(task.truth.labels)
    for span in test:
        truth[span] = task.truth.labels[span]
        shown[span] = np.where(found[span] == BACKGROUND, 0, found[span])
    geometry, names = task.truth.geometry, task.truth.names
    return dice_report(LabelMap(shown, geometry), LabelMap(truth, geometry, names=names), tuple(sorted(asked)))


@dataclass
class Result:
    """One cell: Dice and seconds of one source, head and amount of labels; labels of the test slices."""

    mean: float
    guided: float
    classes: dict[str, float]
    seconds: tuple[float, float, float]
    labels: np.ndarray
    guided_labels: np.ndarray | None


def timed(work: Callable) -> tuple:
    """(result, seconds)."""
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


def measure(task: Task, source: Source, head: str, amount: int | str, seed: int) -> Result:
    """Fits, predicts one slice and the test slices, and scores these.

    The seconds are of the fit, of one slice, and of the whole scan as the test slices tell.
    """
    pairs = labelled(task, source.features, amount, seed)
    options = {"hu_features": source.hu_features, "seed": seed}
    if head == "forest":
        probe, fit_seconds = timed(lambda: Forest.fit(pairs, **options))
    else:
        zero = "background" if amount == "full" else "unlabelled"
        probe, fit_seconds = timed(lambda: LinearProbe.fit(pairs, head=head, zero=zero, **options))
    _, test = blocks(task.truth.geometry)
    middle = test[len(test) // 2].start

    def predict(spans: Sequence[slice], **more) -> np.ndarray:
        out = np.zeros(task.truth.labels.shape, np.uint8)
        for span in spans:
            region = (span, slice(None), slice(None))
            out[span] = probe.predict(source.features, task.volume, region=region, **more).labels
        return out

    _, slice_seconds = timed(lambda: predict([slice(middle, middle + 1)]))
    found, test_seconds = timed(lambda: predict(test))
    whole_seconds = test_seconds * len(found) / sum(span.stop - span.start for span in test)
    report = test_dice(task, found)
    with_edges = None if head == "forest" else predict(test, guided=True)
    guided = float("nan") if with_edges is None else test_dice(task, with_edges)["mean_dice"]
    per_class = {row["name"]: row["dice"] for row in report["classes"].values()}
    seconds = (fit_seconds, slice_seconds, whole_seconds)
    return Result(report["mean_dice"], guided, per_class, seconds, found, with_edges)


Results = dict[tuple[str, str, int | str], list[Result]]


def quality(task: Task, encoders: Sequence[str], seeds: int) -> Results:
    """Every source, head and amount of labels; ``seeds`` drawings of strokes each, one of them for the slow forest."""
    results: Results = {}
    for source in sources(encoder_maps(task, encoders)):
        for head in HEADS:
            for amount in [amount for amount in LABELS if source.can(head, amount)]:
                drawings = 1 if amount == "full" or head == "forest" else seeds
                runs = [measure(task, source, head, amount, seed) for seed in range(drawings)]
                results[source.name, head, amount] = runs
                print(f"{task.name}: {source.name}, {head}, {amount}: {cell(runs)}", flush=True)
    return results


def whole_list(task: Task, encoders: Sequence[str]) -> str:
    """A task of very many classes: full masks, closed form."""
    table = []
    for source in sources(encoder_maps(task, encoders)):
        result = measure(task, source, "ridge", "full", 0)
        found = [dice for dice in result.classes.values() if dice is not None]
        table.append([source.name, len(found), f"{result.mean:.3f}", f"{result.guided:.3f}"])
    header = ["features", "classes tested", "mean Dice", "guided"]
    return "All 61 labels unmerged, full masks, ridge head.\n\n" + markdown_table(header, table)


def cell(runs: list[Result] | None) -> str:
    """Mean Dice, plain / guided; a dash where there is none."""
    if not runs:
        return "-"
    plain, guided = (float(np.mean([getattr(r, part) for r in runs])) for part in ("mean", "guided"))
    return f"{plain:.3f}" if np.isnan(guided) else f"{plain:.3f} / {guided:.3f}"
