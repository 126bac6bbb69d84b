"""What is said of lesions that are still there and of those that have gone, on patients nothing was learned from.

    python -m benchmarks.calls --data ../shared/data --out docs/results/calls.md

Made-up lesions in synthetic follow-ups of the test patients, matched and judged with the packaged calibration. Only
lesions whose place the follow-up shows are counted: of the others nothing can be said but that they are out of view.
``over 10 mm, sure`` are places that far off whose probability of being right was said to be over 90 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from benchmarks.matching.__main__ import SPECS, SPLITS

from benchmarks.common import markdown_table, write_page
from tapct_core import load_ct, load_encoder
from tapct_core.embedding import embed
from tapct_core.matching import match_points
from tapct_core.synthetic import FollowUp, make_follow_up

FAR_MM, SURE = 10.0, 0.9
HEADER = ["patient", "follow-up", "there", "called not found, false", "gone", "called not found", "over 10 mm, sure"]


def counts(pair: FollowUp, encoder) -> np.ndarray:
    """(there, falsely called, gone, called, far off though sure) of one pair of scans."""
    before, after = embed(pair.baseline, encoder), embed(pair.follow_up, encoder)
    shown = [one for one in pair.lesions if one.baseline_radius_mm and one.in_view]
    points = np.array([one.baseline_lps_mm for one in shown])
    truth = pair.motion.to_follow_up(points)
    out = np.zeros(5, int)
    for one, place, found in zip(shown, truth, match_points(before, after, points), strict=True):
        gone, called = one.fate == "vanished", found.verdict == "not found"
        off = np.linalg.norm(np.array(found.best.point_lps_mm) - place)
        out += [not gone, called and not gone, gone, called and gone, off > FAR_MM and found.best.confidence > SURE]
    return out


def main() -> None:
    """Measures and prints the table or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", default="none", help="name or folder; none: HU alone")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--seeds", type=int, default=4, help="follow-ups a patient and kind")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    args = parser.parse_args()
    encoder = None if args.encoder == "none" else load_encoder(args.encoder)
    rows, total = [], np.zeros(5, int)
    for name in SPLITS[args.split]:
        volume = load_ct(args.data / f"{name}_ct.nii.gz")
        for kind, spec in SPECS.items():
            found = sum(counts(make_follow_up(volume, spec, 700 + seed, 20), encoder) for seed in range(args.seeds))
            rows.append([name, kind, *_cells(found)])
            print(*rows[-1], sep=" | ", flush=True)
            total += found
    rows.append(["all", "", *_cells(total)])
    table = markdown_table(HEADER, rows)
    print(table)
    if args.out:
        command = f"python -m benchmarks.calls --encoder {args.encoder} --split {args.split} --seeds {args.seeds}"
        words = __doc__.split("\n\n", 2)[2].strip()
        write_page(args.out, f"There or gone, {args.split} patients, encoder {args.encoder}", command, [words, table])


def _cells(found: np.ndarray) -> list[object]:
    there, false, gone, called, far = (int(n) for n in found)
    shares = [f"{part} ({part / max(whole, 1):.0%})" for part, whole in ((false, there), (called, gone))]
    return [there, shares[0], gone, shares[1], far]


if __name__ == "__main__":
    main()
