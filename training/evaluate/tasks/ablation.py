"""``python -m training.evaluate ablation``: one factor changed at a time, quality beside compute.

For every encoder there is its own line as it comes, and one line for each value of each factor that it allows: blocks
that it has, spacings and sizes other than its own. Comparing 2D, 2.5D and 3D, or S and B, is giving those encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tapct_core.cli.options import count, fraction, positive
from tapct_core.errors import UserError

from ..datasets import READERS, read_dataset
from ..embeddings.embed_cases import announce_needs
from ..embeddings.rows import LoadedRow, Row, load_rows
from ..report.tables import Curves, Table, cell, write_and_print
from ..runs.run_folder import say_broken
from .options import add_run_options, begun
from .segmentation import add_head_options, prepare, task_of
from .segmentation_run import RowScores, evaluate_row, head_bytes
from .segmentation_tables import matrix, mean_over_classes, tabulate

EPILOG = """example:
  python -m training.evaluate ablation --dataset amos22 --root AMOS22 --out runs/ablation \\
      --encoder tap-ct-s-2d tap-ct-s-2-5d tap-ct-s-3d tap-ct-b-3d \\
      --blocks 2 5 8 11 --overlaps 0.5 0.75 --in-plane 112 448 --spacings 2 1.5 1.5

Every encoder gets its own line, and one line a value: factors are not combined. Blocks count from 0, and an encoder
with fewer blocks has fewer lines. Features are kept, so adding a value embeds only what is new."""

AS_IT_COMES = "as it comes"


@dataclass(frozen=True)
class Line:
    """One line of the table: its row, the encoder it belongs to, which factor it changes and to what."""

    row: LoadedRow
    encoder: str
    factor: str
    value: str


def add_parser(tasks) -> None:
    """Adds the task."""
    parser = tasks.add_parser(
        "ablation",
        help="the same table over blocks, overlaps, input sizes and plans, with compute",
        description="Changes one factor at a time and scores linear segmentation, with compute per scan.",
        epilog=EPILOG,
    )
    add_run_options(parser, tuple(READERS))
    add_head_options(parser)
    factors = parser.add_argument_group("factors, each changed by itself")
    factors.add_argument("--blocks", nargs="+", type=int, default=[], metavar="N", help="block of origin, from 0")
    factors.add_argument("--overlaps", nargs="+", type=fraction, default=[], metavar="F", help="share of a window")
    factors.add_argument(
        "--in-plane", nargs="+", type=count, default=[], metavar="N", help="release plan with N x N pixels"
    )
    factors.add_argument(
        "--spacings",
        nargs="+",
        type=positive,
        default=[],
        metavar="MM",
        help="spacing plan, z y x each",
    )
    factors.add_argument(
        "--windows", nargs="+", type=count, default=[], metavar="N", help="sliding window in voxels, z y x each"
    )
    factors.add_argument("--plans", nargs="+", choices=("release", "spacing"), default=[])
    parser.set_defaults(run=run)


def run(args) -> int:
    """The task; writes the run folder and prints its first table."""
    dataset = read_dataset(args.dataset, args.root)
    task = task_of(args, dataset)
    with begun(args) as (folder, store):
        lines = lines_of(args)
        prepare(folder, "ablation", task)
        rows = [line.row for line in lines]
        announce_needs(rows, dataset.by_id(), folder, store, lambda row: head_bytes(row, task))
        scored = []
        for line in lines:
            scored.append(evaluate_row(folder, store, line.row, task))
            say_broken(scored[-1].broken, len(dataset.cases), line.row.name)
        table = quality_and_compute(lines, scored, task.split.tested)
        drawn = curves(lines, scored, task.split.tested)
        write_and_print(folder, tabulate("ablation", task, scored, [table], drawn))
    return 0


def lines_of(args) -> list[Line]:
    """All lines that the encoders allow, each once. Raises UserError where a factor fits no encoder."""
    asked: list[tuple[str, str, dict]] = [("", AS_IT_COMES, {})]
    asked += [("block", str(block), {"block": block}) for block in args.blocks]
    asked += [("overlap", f"{overlap:g}", {"overlap": overlap}) for overlap in args.overlaps]
    asked += [("input size", f"{size} x {size}", {"in_plane": size}) for size in args.in_plane]
    asked += [("spacing", _mm(s), {"spacing_mm": s}) for s in triples(args.spacings, "--spacings")]
    asked += [("window", _size(w), {"window": w}) for w in triples(args.windows, "--windows")]
    asked += [("plan", plan, {"plan": plan}) for plan in args.plans]
    lines: list[Line] = []
    seen: set[tuple] = set()
    refused: dict[tuple[str, str], UserError] = {}
    allowed: set[tuple[str, str]] = set()
    for word in args.encoder:
        plain = Row(word)
        for factor, value, changes in asked:
            try:
                (row,) = load_rows([replace(plain, **changes)], args.device)
            except UserError as error:
                if not factor:
                    raise  # an encoder that cannot be loaded
                refused[factor, value] = error
                continue
            allowed.add((factor, value))
            same = _identity(row)
            if same not in seen:
                seen.add(same)
                lines.append(Line(row, _plain_name(row), factor, value))
    for (factor, value), error in refused.items():
        if (factor, value) not in allowed:
            raise UserError(f"{factor} {value} fits none of the encoders: {error}")
    names = [line.row.name for line in lines]
    if len(set(names)) < len(names):
        raise UserError("two encoders have the same name; give their folders different names")
    return lines


def triples(values: Sequence[float], option: str) -> list[tuple[float, float, float]]:
    """A flat list of numbers as triples (z, y, x). Raises UserError where they do not come out even."""
    if len(values) % 3:
        raise UserError(f"{option} takes three numbers (z y x) a value, and {len(values)} were given")
    return [tuple(values[i : i + 3]) for i in range(0, len(values), 3)]


def quality_and_compute(lines: Sequence[Line], scored: Sequence[RowScores], tested: Sequence[str]) -> Table:
    """Mean Dice of every line beside its input and what a scan costs; all lines over the same cases."""
    rows = []
    for line, one in zip(lines, scored, strict=True):
        results = list(one.embedded.outcome.results.values())
        spec = line.row.spec
        rows.append(
            [
                line.encoder,
                _kind(line.row),
                None if line.row.encoder is None else line.row.encoder.embed_dim,
                line.factor or "–",
                line.value,
                _size(spec.img_size),
                cell(_mean_dice(one, scored, tested)),
                int(np.median([np.prod(result["tokens"]) for result in results])),
                float(np.median([result["gflop"] for result in results])),
                _seconds(results),
            ]
        )
    columns = [
        "encoder", "kind", "width", "changed", "to", "window", "mean Dice", "tokens a scan", "GFLOP a scan",
        "seconds a scan",
    ]  # fmt: skip
    caption = (
        "One factor is changed at a time. Kind: 2D windows are one slice deep, 2.5D one token of several slices, 3D "
        "several tokens. Compute is the median over scans; seconds are those of this machine."
    )
    return Table("Quality beside compute", columns, rows, caption)


def curves(lines: Sequence[Line], scored: Sequence[RowScores], tested: Sequence[str]) -> list[Curves]:
    """Dice against compute for all lines, and against the block of origin where blocks were asked for."""
    by_cost: dict[str, list] = {}
    by_block: dict[str, list] = {}
    for line, one in zip(lines, scored, strict=True):
        dice = _mean_dice(one, scored, tested)
        cost = float(np.median([result["gflop"] for result in one.embedded.outcome.results.values()]))
        if cost > 0:
            by_cost.setdefault(line.encoder, []).append([cost, dice])
        if line.row.encoder is not None and line.factor in ("", "block"):
            by_block.setdefault(line.encoder, []).append([line.row.encoder.vit.config.depth, dice])
    made = [Curves("Mean Dice against compute", "GFLOP a scan", "mean Dice", _ordered(by_cost), log_x=True)]
    if any(len(points) > 1 for points in by_block.values()):
        made.append(Curves("Mean Dice by block of origin", "blocks passed", "mean Dice", _ordered(by_block)))
    return made


def _mean_dice(one: RowScores, scored: Sequence[RowScores], tested: Sequence[str]) -> float:
    common = [id for id in tested if all(id in other.scores.results for other in scored)]
    return mean_over_classes(matrix(one, common, one.classes, "dice")) if common else float("nan")


def _seconds(results: Sequence[dict]) -> float | None:
    seconds = [result["seconds"] for result in results if result["seconds"] is not None]
    return float(np.median(seconds)) if seconds else None


def _identity(row: LoadedRow) -> tuple:
    """Equal for two lines that would embed the same, such as an encoder's last block and the encoder itself."""
    weights = "none" if row.encoder is None else row.encoder.weights_hash
    return (weights, row.spec, row.row.in_plane, row.row.overlap)


def _plain_name(row: LoadedRow) -> str:
    return "none" if row.encoder is None else row.encoder.name


def _kind(row: LoadedRow) -> str:
    if row.encoder is None:
        return "HU"
    depth, patch = row.spec.img_size[0], row.spec.patch_size[0]
    return "2D" if depth == 1 else "2.5D" if depth == patch else "3D"


def _ordered(lines: dict[str, list]) -> dict[str, list]:
    return {name: sorted(points) for name, points in lines.items()}


def _mm(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{s:g}" for s in spacing) + " mm"


def _size(window: tuple[int, int, int]) -> str:
    return " x ".join(map(str, window))
