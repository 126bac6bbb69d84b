"""A click in the follow-up widget: from the marked lesion to its candidates and the heat map, ready to be drawn.

    python -m benchmarks.follow_up_click --out docs/results/follow_up_click.md

Two phases of one chest with tokens of the size of TAP-CT-S at its own patch (75 x 64 x 64 of 384), made of smoothed HU
and noise: their number is what a click's time depends on. The pair is prepared once; then every click goes the widget's
own way (`napari_tapct.follow_up.proposals.finder.look_for`). Drawing on the screen is not in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.common import machine_line, markdown_table, write_page
from napari_tapct.follow_up.proposals.finder import Evidence, look_for
from napari_tapct.layers import ct_image
from napari_tapct.scan import Scan
from tapct_core.embedding import embed
from tapct_core.features import FeatureMap
from tapct_core.lesions import Study, Timepoint
from tapct_core.samples import load_sample, load_sample_points
from tapct_core.volume import CTVolume

GRID, DIM, CLICKS = (75, 64, 64), 384, 12
SMOOTH = (0, 0.5, 1, 1.5, 2, 3, 5, 8)
"""Gaussian deviations, in every second voxel, of the HU that the tokens mix."""


def with_tokens(volume: CTVolume, seed: int) -> FeatureMap:
    """HU of ``volume`` with GRID tokens of DIM numbers over its whole field of view."""
    hu = volume.hu[::2, ::2, ::2].astype(np.float32)
    factors = np.array(GRID) / np.array(hu.shape)
    fields = np.stack([ndimage.zoom(ndimage.gaussian_filter(hu, s), factors, order=1) for s in SMOOTH], axis=-1)
    fields = (fields - fields.mean((0, 1, 2))) / fields.std((0, 1, 2))
    mixed = fields @ np.random.default_rng(0).normal(size=(len(SMOOTH), DIM)).astype(np.float32)
    mixed += 0.3 * np.random.default_rng(seed).normal(size=mixed.shape).astype(np.float32)
    empty = embed(volume, None)
    return replace(
        empty, tokens=mixed.astype(np.float16), valid=np.ones(GRID, bool), geometry=volume.geometry.resized(GRID),
        provenance=empty.provenance | {"weights": "made up", "encoder": "made up"},
    )  # fmt: skip


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Times clicks in the widget and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pair = load_sample("breathing_pair")
    scans = {}
    for seed, (key, name) in enumerate((("baseline", "before"), ("followup", "after"))):
        scans[name] = Scan(ct_image(pair[key], name), pair[key], with_tokens(pair[key], seed))
    study = Study("made up", [Timepoint(name, name) for name in scans])
    for number, point in enumerate(load_sample_points()[1][:CLICKS]):
        study.add_lesion(f"L{number}", "before", tuple(point), "benchmark")
    evidence = Evidence()
    rows = [["preparing the pair, once", "-", *timed(lambda: evidence.pair(scans["before"], scans["after"]))]]
    times = [
        timed(lambda uid=lesion.uid: look_for(evidence, study, uid, "after", scans.get, False))
        for lesion in study.lesions
    ]
    rows.append([f"a click, median of {CLICKS}", "0.3", *np.median(times, axis=0).tolist()])
    rows.append([f"a click, slowest of {CLICKS}", "-", *np.max(times, axis=0).tolist()])
    table = markdown_table(["waiting for", "to reach, s", "s by the clock", "s of the processor"], rows)
    print(machine_line(), table, sep="\n\n")
    if args.out:
        notes = __doc__.split("\n\n", 2)[2].strip()
        write_page(args.out, "A click in the follow-up", "python -m benchmarks.follow_up_click", [notes, table])


if __name__ == "__main__":
    main()
