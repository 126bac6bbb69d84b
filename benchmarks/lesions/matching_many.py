"""Points a second when thousands are matched in one call, against another checkout, and whether the answers are equal.

    python -m benchmarks.matching_many --data DATA --before CHECKOUT

Places all over the body of a CT (crlm_ct_1006) and a HARD synthetic follow-up, on HU alone and with the packaged
encoder. ``now`` matches all of them in one call; ``before``, whose cost a point does not depend on how many there are,
an even sample. They take turns, each in a process of its own with the threads that torch takes; the best turn counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SCAN = "ct/crlm_ct_1006_ct.nii.gz"


def main() -> None:
    """Takes turns and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True, help="another checkout to compare with")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=500, help="how many of them before matches")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "matching_many.md")
    parser.add_argument("--once", nargs=3, metavar=("ENCODER", "EVERY", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        once(args.data, args.points, args.once[0], int(args.once[1]), Path(args.once[2]))
        return
    from benchmarks.common import markdown_table, write_page

    rows = []
    for encoder, name in (("none", "HU alone"), ("tap-ct-xs-3d", "packaged encoder")):
        every = max(1, args.points // args.sample)
        turns = {"before": [], "now": []}
        for turn in range(args.turns):
            for which in list(turns)[:: -1 if turn % 2 else 1]:
                home, step = (args.before.resolve(), every) if which == "before" else (ROOT, 1)
                turns[which].append(_in_own_process(home, args, encoder, step))
                print(turn, name, which, {k: round(turns[which][-1][k] * 1e3, 2) for k in ("wall", "cpu")}, flush=True)
        wall, cpu = ([min(one[k] for one in turns[w]) for w in turns] for k in ("wall", "cpu"))
        equal = _alike(turns["before"][0]["found"], turns["now"][0]["found"][::every])
        rows.append([name, f"{1 / wall[0]:.1f}", f"{1 / wall[1]:.1f}", f"{wall[0] / wall[1]:.1f} x",
                     f"{cpu[0] / cpu[1]:.1f} x", equal])  # fmt: skip
    header = ["evidence", "points a second before", "now", "ratio", "ratio of CPU time", "same first place, 0.05 mm"]
    table = markdown_table(header, rows)
    print(table)
    command = "python -m benchmarks.matching_many --data DATA --before CHECKOUT"
    command += f" --points {args.points} --sample {args.sample} --turns {args.turns}"
    write_page(args.out, f"{args.points:,} points in one call", command, [__doc__.split("\n\n", 2)[2].strip(), table])


def _alike(before: list, now: list) -> str:
    """How many of the first places are the same."""
    same = sum(a[3] == b[3] and float(np.abs(np.subtract(a[:3], b[:3])).max()) < 0.05 for a, b in
               zip(before, now, strict=True))  # fmt: skip
    return f"{same} of {len(before)}"


def _in_own_process(home: Path, args: argparse.Namespace, encoder: str, every: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--data", str(args.data.resolve()), "--before", ".",
                   "--points", str(args.points), "--once", encoder, str(every), str(out)]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(home)}
        subprocess.run(command, env=environment, cwd=home, check=True, capture_output=True)
        return json.loads(out.read_text(encoding="utf-8"))


def once(data: Path, count: int, name: str, every: int, out: Path) -> None:
    """Seconds a point, and each point's first place with its verdict."""
    import tapct_core as tc
    from tapct_core.matching import match_points, prepare_pair
    from tapct_core.matching.prior import body_points
    from tapct_core.synthetic import HARD, make_follow_up

    scans = make_follow_up(tc.load_ct(data / SCAN), HARD, seed=7, lesions=12)
    encoder = None if name == "none" else tc.load_encoder(name, device="cpu")
    maps = [tc.embed(scan, encoder) for scan in (scans.baseline, scans.follow_up)]
    points = body_points(prepare_pair(*maps).a, count, np.random.default_rng(0))[::every]
    match_points(*maps, points[:8])
    wall, cpu = time.perf_counter(), time.process_time()
    found = match_points(*maps, points)
    taken = {"wall": (time.perf_counter() - wall) / len(points), "cpu": (time.process_time() - cpu) / len(points)}
    best = [[*one.best.point_lps_mm, one.verdict] for one in found]
    out.write_text(json.dumps({**taken, "found": best}), encoding="utf-8")


if __name__ == "__main__":
    main()
