"""What an encoder's features are worth, beside rivals that a fair reader would ask for.

    python -m benchmarks.encoder_quality --encoder tap-ct-xs-3d                 the table, on test patients
    python -m benchmarks.encoder_quality --split dev --encoder RUN_DIR --json   for choosing recipes

Rows: the encoder, its untrained twin, 20 multi-scale HU statistics at the same pitch, those lifted to the
encoder's width by random ReLU features (equal capacity, nothing learnt), and the mean HU of the 5 x 5 x 5 tokens
round each token (context, nothing learnt). "With surroundings": a token joined to its neighbours at their places, as
matching does it, for the encoder and for the rival of equal capacity; points only.

Columns: points found by tokens alone, the whole volume searched, without prior and without HU, on synthetic
follow-ups (HARD leads) and on the breathing pair; a scan matched with itself, mirrored and turned; a linear
probe's Dice on the organs of one abdomen (alternating 40 mm slabs, 10 mm label gap, both folds) beside what
true token fractions would reach; the effective rank of the tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import markdown_table, write_page
from tapct_core.encoders import Encoder, load_encoder, untrained_twin

from .measures import measure
from .rows import Embed, context_row, encoder_row, statistics_row, surrounded_row

POINTS = ("hard", "standard", "breathing")
PARTS = (*POINTS, "robust", "probe")


@dataclass(frozen=True)
class Row:
    """A line of the table: whose features, and which of PARTS are measured of them."""

    features: Embed
    parts: tuple[str, ...] = PARTS


def rows_of(encoders: Sequence[Encoder], overlap: float, rivals: bool) -> dict[str, Row]:
    """The table's lines by name; rivals are those of the first encoder."""
    rows = {e.name: Row(encoder_row(e, overlap)) for e in encoders}
    if rivals:
        first = encoders[0]
        rows |= {
            "untrained twin": Row(encoder_row(untrained_twin(first), overlap)),
            "20 HU statistics": Row(statistics_row(first, None)),
            "HU statistics, lifted": Row(statistics_row(first, first.embed_dim)),
            "5 x 5 x 5 token means": Row(context_row(first)),
        }
        for name in (first.name, "HU statistics, lifted"):
            rows[f"{name}, with surroundings"] = Row(surrounded_row(rows[name].features), POINTS)
    return rows


def main() -> None:
    """Measures every row and prints the table or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", default=["tap-ct-xs-3d"], help="names or folders; a row each")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TAPCT_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--points", type=int, default=100, help="points a follow-up")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rivals", action="store_true", help="the untrained twin and HU statistics too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    args = parser.parse_args()
    rows = rows_of([load_encoder(name) for name in args.encoder], args.overlap, args.rivals)
    results = {}
    for name, row in rows.items():
        parts = [part for part in row.parts if part in args.parts]
        results[name] = measure(row.features, args.data, args.split, args.seeds, args.points, parts)
        print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(results))
    else:
        print(table(results))
    if args.out:
        command = f"python -m benchmarks.encoder_quality --split {args.split} --encoder {' '.join(args.encoder)}"
        command += " --rivals" if args.rivals else ""
        write_page(args.out, "Encoder quality", command, [table(results), LEGEND])


LEGEND = (
    "Points: median error in mm, and shares within 5 and 10 mm, by tokens alone, the whole volume searched, no prior, "
    "no HU; with surroundings: each token joined to its neighbours at their places, as matching does it. Probe: mean "
    "Dice of organ groups, whose labels are TotalSegmentator's output (test) or drawn for this benchmark (dev), not an "
    "expert's; oracle: what true shares of each token would reach. The breathing pair is one patient in two phases, "
    "not a follow-up in time."
)


def table(results: dict[str, dict]) -> str:
    """The results as one Markdown table; what was not measured of a row is a dash."""
    header = ["features"]
    rows: list[list[object]] = [[name] for name in results]
    first = next(iter(results.values()))

    def column(title: str, cell: Callable[[dict], object]) -> None:
        header.append(title)
        for row, result in zip(rows, results.values(), strict=True):
            try:
                row.append(cell(result))
            except KeyError:
                row.append("–")

    for part in POINTS:
        if part in first:
            column(f"{part}: median mm, ≤ 5, ≤ 10 mm", lambda result, part=part: _found(result[part]))
    for part in ("robust", "probe"):
        for key in first.get(part, {}):
            column(key.replace("_", " "), lambda result, part=part, key=key: float(result[part][key]))
    column("rank", lambda result: float(result["rank"]))
    return markdown_table(header, rows)


def _found(part: dict[str, float]) -> str:
    return f"{part['median']:.1f}, {part['le5']:.0%}, {part['le10']:.0%}"


if __name__ == "__main__":
    main()
