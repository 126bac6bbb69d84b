"""What a run has done, on one page:

    python -m training.monitor RUN
    python -m training.monitor RUN --scan CT.nii.gz --to page.png

Writes RUN/monitor.png: losses, health against its limits, schedules, online scores, speed, and, with
``--scan`` (or an online case of the run), a slice of the scan beside the first three principal components
of the newest checkpoint's tokens: what the encoder tells apart, seen.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch

from tapct_core.atomic import atomic_path
from tapct_core.embedding import embed
from tapct_core.encoders import Encoder
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.terminal import print_any_name

from .export import load_backbone, pick_step
from .run.checkpoint import list_checkpoints
from .run.config import Config
from .run.log import read_log
from .run.run_folder import read_run

_HEALTH = ("teacher_entropy", "prototype_entropy", "prototype_use", "effective_rank", "nearest_distance")
_SCHEDULES = ("lr", "weight_decay", "momentum", "teacher_temperature")
_SPEED = ("crops_per_s", "gflops_per_s", "step_s", "data_wait", "eta_s", "gradient_norm")


def column(records: list[dict], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a name, where it was written and finite."""
    pairs = [(record["step"], record[name]) for record in records if isinstance(record.get(name), int | float)]
    return [step for step, _ in pairs], [value for _, value in pairs]


def loss_names(records: list[dict]) -> list[str]:
    """What the training records hold besides health, schedules and speed: the losses."""
    known = {"kind", "step", "time", *_HEALTH, *_SCHEDULES, *_SPEED}
    return sorted({name for record in records for name in record} - known)


def components(features: FeatureMap) -> np.ndarray:
    """The tokens' first three principal components scaled to 0..1, (Z, Y, X, 3); black where nothing was embedded."""
    tokens = features.tokens[features.valid].astype(np.float32)
    picture = np.zeros((*features.valid.shape, 3), dtype=np.float32)
    if len(tokens) < 4:
        return picture
    centred = tokens - tokens.mean(axis=0)
    _, _, axes = np.linalg.svd(centred[:: max(1, len(centred) // 4000)], full_matrices=False)
    scores = centred @ axes[:3].T
    low, high = np.percentile(scores, (2, 98), axis=0)
    picture[features.valid] = ((scores - low) / np.maximum(high - low, 1e-6)).clip(0, 1)
    return picture


def draw(run: Path, config: Config, features: FeatureMap | None, path: Path) -> None:
    """The page as PNG. Raises UserError where the run has no log yet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_log(run, "train") if (run / "log.jsonl").is_file() else []
    if not records:
        raise UserError(f"{run} has no log of training yet; wait for its first run.log_every steps")
    figure = Figure(figsize=(16, 11), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{run.name}: step {records[-1]['step']:,} of {config.schedule.steps:,}")
    panels = figure.subplots(3, 4).flat
    uniform = math.log(config.heads.prototypes)

    _lines(next(panels), records, loss_names(records), "losses", level=(uniform, f"ln {config.heads.prototypes}"))
    _lines(
        next(panels),
        records,
        ["teacher_entropy", "prototype_entropy"],
        "entropy (nats)",
        level=(uniform, "uniform"),
        floor=True,
    )
    _lines(next(panels), records, ["effective_rank"], "effective rank of CLS tokens", floor=True)
    _lines(next(panels), records, ["prototype_use", "nearest_distance"], "prototype use, nearest distance", floor=True)
    for name in _SCHEDULES:
        _lines(next(panels), records, [name], name.replace("_", " "))
    online = read_log(run, "online")
    axes = next(panels)
    _lines(axes, online, ["knn", "linear"], "online scores (balanced accuracy)", floor=True)
    if online and online[-1].get("classes"):
        axes.axhline(1 / online[-1]["classes"], color="0.6", linestyle=":", label="guessing")
        axes.legend(frameon=False, fontsize=8)
    _lines(next(panels), records, ["crops_per_s", "gflops_per_s"], "speed", floor=True)
    _scan(next(panels), next(panels), features)
    alarms = read_log(run, "alarm")
    if alarms:
        figure.supxlabel(
            f"{len(alarms)} alarms; the last, at step {alarms[-1]['step']:,}: {alarms[-1]['words']}",
            color="#aa2222",
            wrap=True,
        )
    with atomic_path(path) as part:
        figure.savefig(part, dpi=90)


def _lines(
    axes, records: list[dict], names: list[str], title: str, level: tuple[float, str] | None = None, floor: bool = False
) -> None:
    for name in names:
        steps, values = column(records, name)
        if steps:
            axes.plot(steps, values, label=name, linewidth=1, marker="." if len(steps) < 30 else None)
    if level is not None:
        axes.axhline(level[0], color="0.6", linestyle=":", label=level[1])
    axes.margins(y=0.08)
    if floor:
        axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.text(0.5, 0.5, "none yet", ha="center", transform=axes.transAxes, color="0.6")


def _scan(left, right, features: FeatureMap | None) -> None:
    left.axis("off")
    right.axis("off")
    if features is None:
        left.text(0, 1, "no scan was given (--scan CT)", va="top", color="0.6")
        return
    z, y, x = features.hu_geometry.spacing_mm
    slice_ = features.hu.shape[0] // 2
    left.imshow(features.hu[slice_], cmap="gray", vmin=-200, vmax=300, aspect=y / x)
    left.set_title("the scan", fontsize=10)
    place = features.geometry.to_index(features.hu_geometry.to_world(np.array([slice_, 0, 0])))
    token = int(np.clip(np.rint(place[0]), 0, features.geometry.shape[0] - 1))
    _, y, x = features.geometry.spacing_mm
    right.imshow(components(features)[token], aspect=y / x, interpolation="nearest")
    right.set_title("its tokens: three principal components", fontsize=10)


def embed_scan(run: Path, config: Config, scan: Path, step: int) -> FeatureMap:
    """The scan's tokens by the teacher of a step, on the road that ``tapct embed`` takes."""
    from tapct_core.io import load_ct

    vit = load_backbone(run, config, step)
    encoder = Encoder(run.name, vit, config.input_spec(), "", "", str(run), True, torch.device("cpu"))
    return embed(load_ct(scan), encoder)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    print_any_name()
    parser = argparse.ArgumentParser(prog="python -m training.monitor", description="One picture page of a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run.dir of a pretraining")
    parser.add_argument(
        "--scan", type=Path, metavar="CT", help="a scan to show tokens of (default: the run's first online case)"
    )
    parser.add_argument("--to", type=Path, metavar="PNG", help="where the page goes (default RUN/monitor.png)")
    args = parser.parse_args(argv)
    to = args.to or args.run / "monitor.png"
    try:
        config = read_run(args.run)
        scan = args.scan or next((Path(case.ct) for case in config.online.cases), None)
        features = None
        if scan is not None and (args.scan or list_checkpoints(args.run / "checkpoints")):
            features = embed_scan(args.run, config, scan, pick_step(args.run, None))
        draw(args.run, config, features, to)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
