"""Which blocks of an encoder should make up its tokens: chosen on dev patients.

    python -m benchmarks.readout --encoder FOLDER --out docs/results/readout.md

Each row reads the same network elsewhere: one block alone, or several side by side with a factor each
(``tapct_core/encoders/outputs.py``). Columns: a linear probe's Dice on the organs of two dev scans, tokens alone and
with HU, and points of HARD follow-ups found within 10 mm by tokens alone, single and joined to their surroundings.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.encoder_quality.measures import measure
from benchmarks.encoder_quality.organs import probe_scores
from benchmarks.encoder_quality.rows import Embed, encoder_row, surrounded_row

from benchmarks.common import markdown_table, write_page
from tapct_core.encoders import load_encoder
from tapct_core.encoders.outputs import LAST, Outputs

HEADS = ("logistic", "logistic + HU")
OVERLAP = 0.25
"""Of the points: half of encoder_quality's time, and the rows differ no less."""


def choices(depth: int) -> dict[str, Outputs]:
    """Names and outputs of the rows, for a network of ``depth`` blocks."""
    last = depth - 1
    middle = tuple(range(1, last, 2))
    rows = {f"block {block + 1} alone": Outputs((block,), (1.0,)) for block in range(depth - 1)}
    rows[f"block {depth} alone (the last)"] = LAST
    for early in (1.0, 0.5, 0.3):
        blocks = (*middle, last)
        named = ", ".join(str(block + 1) for block in blocks)
        rows[f"{named}; all but the last times {early:g}"] = Outputs(blocks, (*[early] * len(middle), 1.0))
    rows[f"{last - 1}, {depth}; the first times 0.3"] = Outputs((last - 2, last), (0.3, 1.0))
    rows["all blocks; all but the last times 0.3"] = Outputs(tuple(range(depth)), (*[0.3] * last, 1.0))
    return rows


def found(features: Embed, data: Path) -> float:
    """Share of HARD points of dev patients within 10 mm, tokens alone."""
    return measure(features, data, "dev", (1, 2), 100, ("hard",))["hard"]["le10"]


def main() -> None:
    """Measures every row and prints the table or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="tap-ct-xs-3d", help="a name or folder; its own outputs do not count")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TAPCT_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    args = parser.parse_args()
    encoder = load_encoder(args.encoder)
    rows = []
    for name, outputs in choices(encoder.vit.config.depth).items():
        one = replace(encoder, outputs=outputs, weights_hash=f"{encoder.weights_hash} {outputs}")
        scores = probe_scores(encoder_row(one, 0.5), args.data, "dev", HEADS)
        points = encoder_row(one, OVERLAP)
        shares = [f"{found(row, args.data):.0%}" for row in (points, surrounded_row(points))]
        rows.append([name, one.embed_dim, *(float(np.round(scores[head], 3)) for head in HEADS), *shares])
        print(*rows[-1], sep=" | ", flush=True)
    header = ["tokens of", "channels", *(f"Dice, {head}" for head in HEADS), "HARD ≤ 10 mm", "with surroundings"]
    if args.out:
        write_page(
            args.out,
            "Which blocks make up a token",
            "python -m benchmarks.readout",
            [markdown_table(header, rows), LEGEND],
        )


LEGEND = (
    "Dice: mean over the organs of two dev scans (benchmarks/quality/encoder_quality/drawn/README.md), both folds of "
    "alternating 40 mm slabs. "
    "Points: HARD follow-ups of dev patients, the whole volume searched, no prior, no HU. The last block is what the "
    "dense loss shaped and finds places best; blocks before it know better what a place is made of. A probe "
    "standardises each channel, so the factors are for cosines alone. One scan has contrast, one has none; differences "
    "of 0.01 Dice or 3 points are noise."
)


if __name__ == "__main__":
    main()
