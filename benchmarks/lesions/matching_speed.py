"""What matching costs beyond the embedding: CPU seconds to prepare a pair, and a click.

    python -m benchmarks.matching_speed --data DATA [--before CHECKOUT]

One thread, CPU time, the least of several turns. The pair is a HARD follow-up of a chest on HU alone, then the same
with random tokens in the size of an encoder's map; a click is measured inside the gate and over the whole scan.
``--before`` names another checkout, whose code is measured in the same run, turn by turn, for a ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SCAN = "ct/lidc_0314_ct.nii.gz"
TOKENS, CHANNELS = 300_000, 384


def main() -> None:
    """Times turns, each in its own process, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "matching_speed.md")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(once(args.data)))
        return
    from benchmarks.common import markdown_table, write_page

    homes = {"before": args.before, "now": ROOT} if args.before else {"now": ROOT}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in homes}
    for turn in range(args.turns):
        for name in list(homes)[:: -1 if turn % 2 else 1]:
            taken[name].append(_in_own_process(homes[name], args.data))
            print(turn, name, taken[name][-1], flush=True)
    best = {name: {what: min(one[what] for one in turns) for what in turns[0]} for name, turns in taken.items()}
    rows = []
    for what, now in best["now"].items():
        before = best["before"][what] if args.before else None
        rows.append([what, *([before] if before else []), now, *([f"{before / now:.1f} x"] if before else [])])
    header = ["CPU seconds", *(["before"] if args.before else []), "now", *(["ratio"] if args.before else [])]
    table = markdown_table(header, rows)
    print(table)
    command = "python -m benchmarks.matching_speed --data DATA" + (" --before CHECKOUT" if args.before else "")
    write_page(args.out, "What matching costs", command, [__doc__.split("\n\n", 2)[2].strip(), table])


def _in_own_process(home: Path, data: Path) -> dict[str, float]:
    """One turn with the code of ``home``, on one thread, in a fresh interpreter."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--data", str(data.resolve()), "--once"],
        env={**os.environ, **threads, "PYTHONPATH": str(home)}, cwd=home, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


def once(data: Path) -> dict[str, float]:
    """CPU seconds of each part, by name."""
    import torch

    from tapct_core import load_ct
    from tapct_core.embedding import embed
    from tapct_core.matching import STEPS, match_points, prepare_pair
    from tapct_core.synthetic import HARD, make_follow_up

    torch.set_num_threads(1)
    pair = make_follow_up(load_ct(data / SCAN), HARD, seed=7, lesions=12)
    points = np.array([one.baseline_lps_mm for one in pair.lesions if one.baseline_radius_mm])[:8]
    scans = embed(pair.baseline, None), embed(pair.follow_up, None)
    taken = {"prepare a pair, HU alone": _cpu(lambda: prepare_pair(*scans))}
    taken["a click, HU alone"] = _cpu(lambda: match_points(*scans, points)) / len(points)
    big = tuple(_with_tokens(scan, seed) for seed, scan in enumerate(scans))
    size = f"{TOKENS // 1000}k tokens of {CHANNELS}"
    taken[f"prepare a pair, {size}"] = _cpu(lambda: prepare_pair(*big))
    taken[f"a click inside the gate, {size}"] = _cpu(lambda: match_points(*big, points, steps=STEPS)) / len(points)
    no_gate = STEPS[: STEPS.index("subtoken") + 1]  # all evidence, as the other checkout calls it
    prepare_pair(*big, no_gate)
    whole = _cpu(lambda: match_points(*big, points, steps=no_gate))
    taken[f"a click over the whole scan, {size}"] = whole / len(points)
    return taken


def _with_tokens(features, seed: int):
    """The map with random tokens, about TOKENS in all over the same box."""
    from dataclasses import replace

    box = np.array(features.hu_geometry.shape) * features.hu_geometry.spacing_mm
    shape = tuple(int(n) for n in np.maximum(2, np.rint(box / (box.prod() / TOKENS) ** (1 / 3))))
    rng = np.random.default_rng(seed)
    tokens = rng.standard_normal((*shape, CHANNELS), dtype=np.float32).astype(np.float16)
    grid = features.hu_geometry.resized(shape)
    whole = np.ones(shape, dtype=bool)
    return replace(features, tokens=tokens, valid=whole, geometry=grid, provenance={}, window_tokens=(0, 0, 0))


def _cpu(work) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
