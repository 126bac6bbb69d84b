"""``python -m training.evaluate report``: one page for finished runs, as HTML and as Markdown.

    PAGE/index.html   one file, pictures inside, no script
    PAGE/report.md    the same in Markdown, beside pictures/

Measured tables come from the runs' table.json alone. Published figures follow in a table of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tapct_core.cli.options import count
from tapct_core.errors import UserError
from tapct_core.io import load_ct, load_labels

from ..datasets.cases import Case
from ..embeddings.embed_cases import read_labels
from ..report.page import Picture, Section, write_page
from ..report.pictures import SlicePicture, curves_picture, slices_page
from ..report.published import published_table
from ..report.tables import Results, Table, cell, read_tables
from ..runs.run_folder import RunFolder, read_json, say
from .segmentation_run import segmentation_file

EPILOG = """example:
  python -m training.evaluate report runs/amos22 runs/lits17 --out page
  python -m training.evaluate report runs/amos22 --out page --cases amos_0286"""

MOST_ROWS = 8
"""Rows beside each other in the picture; an ablation has many more."""


def add_parser(tasks) -> None:
    """Adds the task."""
    parser = tasks.add_parser(
        "report",
        help="one HTML and Markdown page of finished runs",
        description="Tables, curves and pictures of one or more runs, with published figures in a table of their own.",
        epilog=EPILOG,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="OUT", help="--out folders of finished runs")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the page's folder")
    parser.add_argument("--cases", nargs="+", metavar="ID", help="cases to show (default: worst, middle and best)")
    parser.add_argument("--most", type=count, default=3, metavar="N", help="cases to show by default (default 3)")
    parser.set_defaults(run=run)


def run(args) -> int:
    """The task; writes the page."""
    folders = [RunFolder(path) for path in args.runs]
    results = [read_tables(folder) for folder in folders]
    unknown = set(args.cases or ()) - {id for folder in folders for id in _cases(folder)}
    if unknown:
        raise UserError(f"no run has a case {', '.join(sorted(unknown))}; leave --cases out or check the name")
    sections = [_overview(results)] if sum(r.task == "segmentation" for r in results) > 1 else []
    for folder, found in zip(folders, results, strict=True):
        sections.append(_section(folder, found, args.cases, args.most))
    published = published_table({r.task for r in results}, {r.dataset for r in results})
    if published is not None:
        sections.append(Section(published.title, tables=[published]))
    write_page(args.out, "Frozen features, evaluated", sections)
    say(f"{args.out / 'index.html'}")
    return 0


def _section(folder: RunFolder, results: Results, cases: Sequence[str] | None, most: int) -> Section:
    name = f"{results.task.capitalize()}: {results.dataset}"
    stem = f"{folder.path.resolve().name}-"
    pictures = []
    if results.task in ("segmentation", "ablation"):
        shown = _slices(folder, results, cases, most)
        if shown is not None:
            pictures.append(Picture(f"{stem}slices.png", *shown))
    for number, curves in enumerate(results.curves):
        if curves.lines:
            pictures.append(Picture(f"{stem}curves-{number}.png", curves_picture(curves), curves.title))
    return Section(name, results.words, results.tables, pictures, results.left_out, results.notes)


def _overview(results: Sequence[Results]) -> Section:
    """The paper's headline: mean Dice of each row on each data set, and its mean over those that every row has."""
    runs = [r for r in results if r.task == "segmentation"]
    by_run = []
    for one in runs:
        place = list(one.tables[0].columns).index("mean Dice")
        by_run.append({row[0]: row[place] for row in one.tables[0].rows})
    names = list(dict.fromkeys(name for found in by_run for name in found))
    rows = []
    for name in names:
        values = [found[name]["value"] if name in found else None for found in by_run]
        mean = cell(float(np.mean(values))) if None not in values else None
        rows.append([name, *(found.get(name) for found in by_run), mean])
    caption = "Mean Dice by data set; the last column is the mean over data sets, where a row has all of them."
    table = Table("Mean Dice over data sets", ["row", *(r.dataset for r in runs), "mean"], rows, caption)
    return Section("Overview", tables=[table])


def _cases(folder: RunFolder) -> dict[str, dict[str, str]]:
    """cases.json of a run: where its files lie; empty where the task has none."""
    file = folder.path / "cases.json"
    return read_json(file) if file.is_file() else {}


def _slices(folder: RunFolder, results: Results, cases: Sequence[str] | None, most: int) -> tuple[bytes, str] | None:
    """Figure 4's picture and its caption, or None where the scans are not there any more."""
    files = _cases(folder)
    names = [row[0] for row in results.tables[0].rows]  # what the table shows, not a row that was broken off
    scores = {name: folder.outcome(folder.part(name, "scores")).results for name in names}
    means = {name: {id: _mean_dice(r) for id, r in found.items()} for name, found in scores.items()}
    common = [id for id in files if all(id in found for found in scores.values())]
    first = next(iter(means.values()), {})
    ranked = sorted((id for id in common if np.isfinite(first[id])), key=lambda id: first[id])
    chosen = [id for id in cases if id in common] if cases else _spread(ranked, most)
    pictures = []
    for id in chosen:
        try:
            case = Case(id, **{**files[id], "ct": Path(files[id]["ct"]), "labels": Path(files[id]["labels"])})
            volume = load_ct(case.ct)
            truth = read_labels(case, volume)
            found = {name: load_labels(segmentation_file(folder, name, id)) for name in list(scores)[:MOST_ROWS]}
        except UserError as error:
            say(f"{id} is not shown: {error}")
            continue
        under = {name: f"mean Dice {means[name][id]:.3f}" for name in scores if np.isfinite(means[name][id])}
        pictures.append(SlicePicture(id, volume, truth, found, under))
    if not pictures:
        return None
    classes = {int(value): name for value, name in folder.settings()["settings"]["classes"].items()}
    classes = classes or {value: name for p in pictures for value, name in p.truth.names.items()}
    for value in {int(v) for p in pictures for v in np.unique(p.truth.labels)} - {0, *classes}:
        classes[value] = f"label {value}"
    how = "chosen by name" if cases else f"worst to best by the mean Dice of {next(iter(scores))}"
    shown = "every row" if len(scores) <= MOST_ROWS else f"the first {MOST_ROWS} of {len(scores)} rows"
    caption = f"Cases {how}; of each the slice that shows most classes: the scan, the truth, then {shown}."
    return slices_page(pictures, classes), caption


def _mean_dice(result: dict) -> float:
    found = [c["dice"] for c in result["classes"].values() if c["dice"] is not None]
    return float(np.mean(found)) if found else float("nan")


def _spread(ranked: Sequence[str], most: int) -> list[str]:
    """``most`` of them, evenly from the first to the last."""
    places = np.unique(np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int)) if ranked else []
    return [ranked[place] for place in places]
