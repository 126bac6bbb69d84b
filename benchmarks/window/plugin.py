"""The plugin end to end on a CT of 512 x 512 x 300 voxels whose features are cached: what a person waits for.

    python -m benchmarks.plugin                              measures and prints the table (some minutes)
    python -m benchmarks.plugin --out docs/results/plugin.md

Each turn is a process of its own, as napari is when somebody starts it: three widgets are docked, the file is opened by
the Scans widget, its cached features by the Features widget as soon as it marks them, and strokes are painted until
the slice on screen follows. The features are as many as those of TAP-CT-S at its own patch: 75 x 64 x 64 tokens of
384. Without a display it draws on a virtual one. Beside the clock's time stands the processor time of the process, all
threads together: on a busy machine the clock says little.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPE, SPACING, GRID, DIM = (300, 512, 512), (1.0, 0.8, 0.8), (75, 64, 64), 384
SUFFIXES = (".nii", ".nii.gz")
CLASSES = 3
STROKES = 6
TURNS = 3
PATIENCE_S = 600.0
TARGETS_S = {
    "a widget opens": 0.5,
    "file to picture": None,
    "features from the cache": None,
    "both: a cached scan opens": 3.0,
    "a stroke to the visible slice": 0.25,
}


def main() -> None:
    """Prepares a scan with cached features once, measures turns, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn is not None:
        print("RESULT", json.dumps(turn(args.turn)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        scans = [Path(folder) / f"scan{suffix}" for suffix in SUFFIXES]
        results = {scan.name: [measured(scan) for _ in range(args.turns)] for scan in scans}
    report(results, args.out)


def prepare(folder: Path) -> None:
    """A CT made of a real one with noise, an encoder of S's width, and features of that size in a cache of its own."""
    import nibabel
    from benchmarks.store import encoder_of
    from scipy import ndimage

    from tapct_core.embedding import effective_spec
    from tapct_core.encoders import load_encoder, save_encoder
    from tapct_core.features import FeatureMap
    from tapct_core.io import load_ct
    from tapct_core.provenance import provenance
    from tapct_core.samples import load_sample
    from tapct_core.store import FeatureStore

    small = load_sample("abdomen_pelvis")["ct"].hu
    hu = ndimage.zoom(small.astype(np.float32), np.array(SHAPE) / small.shape, order=1, mode="nearest", grid_mode=True)
    rng = np.random.default_rng(0)
    hu = np.clip(hu + rng.normal(0, 12, SHAPE), -1024, 3071).astype(np.int16)
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    for suffix in SUFFIXES:
        nibabel.save(nibabel.Nifti1Image(hu.T, affine), folder / f"scan{suffix}")
    network = encoder_of(DIM, 6)
    save_encoder(folder / "encoder", network.vit, network.spec)
    encoder = load_encoder(folder / "encoder", device="cpu")
    volume = load_ct(folder / "scan.nii")
    tokens = rng.standard_normal((*GRID, DIM), dtype=np.float32)
    coarse = volume.hu[2::4, 4::8, 4::8]
    for channel, middle in enumerate((-900, -80, 50, 300)):  # tissue that strokes can tell apart
        tokens[..., channel] += 4 * np.exp(-(((coarse - middle) / 80.0) ** 2))
    facts = provenance(volume, encoder, effective_spec(encoder, None, None), 0.0)
    features = FeatureMap(
        tokens=tokens.astype(np.float16),
        valid=np.ones(GRID, bool),
        geometry=volume.geometry.pooled((4, 8, 8)),
        hu=volume.hu,
        hu_geometry=volume.geometry,
        cls=np.zeros((0, DIM), np.float16),
        provenance=facts,
    )
    os.environ["TAPCT_CACHE"] = str(folder / "cache")
    FeatureStore().put(facts["key"], features)


def measured(scan: Path) -> dict[str, list[float]]:
    """One turn in a process of its own, on a virtual display where there is no other."""
    from napari_tapct.demo.offscreen import has_display

    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.plugin", "--turn", str(scan)]
    if not has_display():
        if shutil.which("xvfb-run") is None:
            raise SystemExit("there is no display and no xvfb-run; install xvfb")
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", *command]
    state = {"TAPCT_CACHE": str(scan.parent / "cache"), "TAPCT_STATE": str(scan.parent / "state")}
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | state)
    said = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    if not said:
        raise SystemExit(f"a turn did not end:\n{run.stderr[-3000:]}")
    return json.loads(said[0].removeprefix("RESULT"))


def turn(scan: Path) -> dict[str, list[float]]:
    """Seconds by the clock and of the processor for each thing that a person waits for."""
    import napari

    from napari_tapct.session import session_of

    viewer = napari.Viewer()
    viewer.window.resize(1500, 940)
    wait(lambda: viewer.window._qt_window.isVisible())
    widgets, opened = {}, []
    for name in ("Scans", "Features", "Segment"):

        def dock(name=name) -> None:
            widgets[name] = viewer.window.add_plugin_dock_widget("napari-tapct", name)[1]

        opened.append(timed(dock))
    if "torch" in sys.modules:
        raise SystemExit("opening the widgets loaded PyTorch")
    scans, features, segment = widgets.values()
    features.choose_folder(scan.parent / "encoder")
    session = session_of(viewer)
    found: dict[str, list[float]] = {"a widget opens": max(opened)}
    begin = now()
    scans.open_files([scan])
    wait(lambda: session.active is not None)
    viewer.screenshot(canvas_only=True, flash=False)  # it is drawn
    found["file to picture"] = since(begin)
    wait(lambda: features.embed_button.text().startswith("Open cached"))
    begin_features = now()
    features.embed_button.click()
    wait(lambda: session.active.features is not None)
    found["features from the cache"] = since(begin_features)
    found["both: a cached scan opens"] = since(begin)
    found["a stroke to the visible slice"] = strokes(viewer, session, segment)
    viewer.close()
    return found


def strokes(viewer, session, segment) -> list[float]:
    """Median over strokes, each on the slice on screen while nothing of the one before still runs."""
    from napari_tapct.painting import painting_of

    scan = session.active
    layer = painting_of(session).strokes(scan)
    layer.brush_size = 6
    z = SHAPE[0] // 2
    session.look_at(scan, (z, SHAPE[1] // 2, SHAPE[2] // 2))
    hu = scan.volume.hu[z].astype(int)
    tissues = [np.argwhere((hu > low) & (hu < high)) for low, high in ((-140, -60), (20, 120), (200, 1500))]
    rng = np.random.default_rng(1)
    whole, first = [], []
    segment.whole_done.connect(lambda: whole.append(True))
    segment.slice_done.connect(lambda: first.append(True))
    times = []
    for number in range(CLASSES + STROKES):
        tissue = number % CLASSES
        y, x = tissues[tissue][rng.integers(len(tissues[tissue]))]
        runs = len(first)
        begin = now()
        layer.paint((z, int(y), int(x)), tissue + 1)
        if number == 0:
            settle(0.3)  # one class alone: nothing follows
            continue
        wait(lambda runs=runs: len(first) > runs)
        times.append(since(begin))
        done = len(whole)
        wait(lambda done=done: len(whole) > done)
    later = times[CLASSES - 1 :]
    return [statistics.median(clock) for clock in zip(*later, strict=True)]


def now() -> tuple[float, float]:
    """The clock and the processor time of this process."""
    return time.perf_counter(), time.process_time()


def since(begin: tuple[float, float]) -> list[float]:
    """Seconds by the clock and of the processor since ``begin``."""
    return [b - a for a, b in zip(begin, now(), strict=True)]


def timed(work: Callable[[], object]) -> list[float]:
    """:func:`since` of one call."""
    begin = now()
    work()
    return since(begin)


def wait(condition: Callable[[], bool]) -> None:
    """Runs the event loop until ``condition`` holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the plugin did not get there")
        settle(0.005)


def settle(seconds: float) -> None:
    """Handles events, sleeping where there are none, so that this thread takes nothing from the workers."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(max(1, round(1000 * seconds)), loop.quit)
    loop.exec()


def report(results: dict[str, list[dict[str, list[float]]]], out: Path | None) -> None:
    """Prints the table and writes it to ``out``."""
    from benchmarks.common import markdown_table, write_page

    rows = []
    for scan, turns in results.items():
        for name, target in TARGETS_S.items():
            clock, processor = ([one[name][i] for one in turns] for i in (0, 1))
            aim = "-" if target is None else f"{target:g}"
            numbers = [f"{value:.2f}" for value in (statistics.median(clock), min(clock), statistics.median(processor))]
            rows.append([scan.removeprefix("scan"), name, aim, *numbers])
    table = markdown_table(["file", "waiting for", "to reach, s", "median s", "best s", "processor s"], rows)
    words = (
        f"A CT of {' x '.join(map(str, SHAPE[::-1]))} voxels with {' x '.join(map(str, GRID))} cached tokens of {DIM}; "
        f"{len(next(iter(results.values())))} processes a row. A stroke is the median of {STROKES}. The machine is "
        "shared: where processes wait for a core, the clock runs on, and the best turn is nearest to a machine of "
        "one's own."
    )
    print(words, table, sep="\n\n")
    if out is not None:
        write_page(out, "What a person waits for in napari", f"python -m benchmarks.plugin --out {out}", [words, table])


if __name__ == "__main__":
    main()
