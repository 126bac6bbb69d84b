"""A probe fitted on one dev patient, applied to another whose contrast phase was changed.

Classes: bone, fat, muscle by HU (defined before the change) and the expert's tumour contour, of limb patients 24 and
25; both directions. The change adds HU to muscle and tumour of the scan that is segmented.

    python -m benchmarks.probe --phase
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.common import markdown_table, write_page
from benchmarks.probe_tasks import Task, limb
from tapct_core.embedding import embed
from tapct_core.encoders import Encoder, load_encoder
from tapct_core.errors import UserError
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.probe.phase import phase_copies, shifted_phase

PHASES = {"as it is": {}, "muscle +40, tumour +80": {3: 40, 4: 80}, "muscle +80, tumour +80": {3: 80, 4: 80}}
COPIES = 4
WAYS = (
    ("one phase, statistics of the fit", 0, "fit", False),
    ("one phase, statistics of each scan", 0, "scan", False),
    ("one phase, each scan, frequencies adapted", 0, "scan", True),
    (f"{COPIES} phase copies, statistics of the fit", COPIES, "fit", False),
    (f"{COPIES} phase copies, statistics of each scan", COPIES, "scan", False),
    (f"{COPIES} phase copies, each scan, frequencies adapted", COPIES, "scan", True),
)


def run(args: argparse.Namespace, data: Path) -> None:
    """Measures and writes docs/results/probe_phase.md."""
    parts = [__doc__.split("\n\n")[1].replace("\n", " ") + " Mean Dice of the four classes / of muscle and tumour."]
    tasks = [limb(data, 24), limb(data, 25)]
    for name in args.encoders:
        try:
            encoder = load_encoder(name)
        except UserError as error:
            print(f"no table for {name}: {error}")
            continue
        parts.append(table(encoder, tasks))
        print(parts[-1], flush=True)
    page = args.out / "probe_phase.md"
    write_page(page, "Probes in another contrast phase", "python -m benchmarks.probe --phase", parts)


def table(encoder: Encoder, tasks: list[Task]) -> str:
    """Rows: ways of fitting, with and without HU columns; columns: phases."""
    fitted, shifted = {}, {}
    for task in tasks:
        scans = [task.volume, *phase_copies(task.volume, task.truth, COPIES)]
        fitted[task.name] = [(embed(scan, encoder), task.truth) for scan in scans]
        for phase, change in PHASES.items():
            shifted[task.name, phase] = embed(shifted_phase(task.volume, task.truth, change), encoder)
    rows = []
    for hu in (None, "token"):
        for name, copies, standardise, adapt in WAYS:
            found = {phase: [] for phase in PHASES}
            for source, target in (tasks, tasks[::-1]):
                probe = LinearProbe.fit(fitted[source.name][: 1 + copies], "logistic", hu, standardise, "background")
                for phase in PHASES:
                    features = shifted[target.name, phase]
                    used = probe.adapted(features) if adapt else probe
                    report = dice_report(used.predict(features, target.volume), target.truth)
                    soft = np.mean([report["classes"][value]["dice"] for value in (3, 4)])
                    found[phase].append((report["mean_dice"], soft))
            cells = [" / ".join(f"{v:.3f}" for v in np.mean(found[phase], axis=0)) for phase in PHASES]
            rows.append(["tokens" if hu is None else "tokens + HU per token", name, *cells])
    title = f"Encoder {encoder.name}{'' if encoder.trained else ' (random weights)'}, logistic head, full masks.\n\n"
    return title + markdown_table(["columns", "fitted on", *PHASES], rows)
