"""Probes on another contrast phase than the one they were fitted on: which recipe holds, and so is the default.

    python -m benchmarks.probe --phase

Stand-in labels, since organ labels exist for the test patient only: bone, fat and muscle or soft tissue by HU (defined
before any change), lung, and the contours of tumours and lesions; and the lung thirds of one coarse chest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.probe.tasks import Task, blocks, chest_lesion, crop, limb, lung_thirds, soft_tissue

from benchmarks.common import markdown_table, write_page
from tapct_core.embedding import embed
from tapct_core.encoders import UNTRAINED, Encoder, load_encoder
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe, Recipe, dice_report
from tapct_core.probe.phase import phase_copies, shifted_phase
from tapct_core.volume import LabelMap

PHASES = {"as it is": (0, 0), "soft +40, lesion +80": (40, 80), "soft +80, lesion +80": (80, 80)}
COPIES = 3
COLUMNS = {None: "tokens", "token": "tokens + HU per token", "voxel": "tokens + HU per voxel"}
PRIORS = (0.0, 0.25, 0.5, 1.0)
ADAPTED = "adapted"
CAP = 800
EVERY = 4
"""Every fourth slice is scored: neighbours say the same."""


@dataclass(frozen=True)
class Trial:
    """Fit on ``source`` (its train blocks, if it is the target too), segment ``target`` with ``soft`` enhanced.

    ``soft`` is a mask of what takes up contrast, ``lesion`` the value of the lesion in the target's truth, 0 for none.
    """

    name: str
    source: Task
    target: Task
    soft: np.ndarray
    lesion: int
    asked: tuple[int, ...]

    @property
    def same(self) -> bool:
        """Whether fitted and segmented slices are of one scan."""
        return self.source is self.target


@dataclass(frozen=True)
class Way:
    """How a probe is fitted and used."""

    columns: str | None
    copies: int
    standardise: str
    prior: float | str


def trials(data: Path) -> list[Trial]:
    """Both limbs on each other, one chest on another, and the lung thirds on test slices of their own scan."""
    first, second, chest, thirds = limb(data, 24), limb(data, 25), chest_lesion(data), lung_thirds(data)
    made = [
        Trial(f"{source.name} to {target.name}", source, target, target.truth.labels == 3, 4, (3, 4))
        for source, target in ((first, second), (second, first), (chest_lesion(data, 1), chest))
    ]
    return [*made, Trial("lung thirds", thirds, thirds, soft_tissue(thirds.volume), 0, tuple(range(1, 7)))]


def run(args: argparse.Namespace, data: Path) -> None:
    """Measures and writes docs/results/probe_phase.md."""
    tried = trials(data)
    parts = [RULE]
    names = [*args.encoders, UNTRAINED] if UNTRAINED not in args.encoders else args.encoders
    for name in names:
        try:
            encoder = load_encoder(name)
        except UserError as error:
            print(f"no table for {name}: {error}", flush=True)
            continue
        found: dict[tuple[Way, str, str], tuple[float, float]] = {}
        for trial in tried:
            found |= {(way, trial.name, phase): dice for way, phase, dice in measure(trial, encoder)}
            print(f"{encoder.name}: {trial.name} done", flush=True)
        parts += [f"## {encoder.name}{'' if encoder.trained else ' (random weights)'}", *tables(found)]
        print("\n\n".join(parts[-4:]), flush=True)
        if encoder.trained:
            break  # the untrained one only stands in for a missing one: what decides are an encoder's own features
    page = args.out / "probe_phase.md"
    write_page(page, "Probes in another contrast phase", "python -m benchmarks.probe --phase", parts)


def measure(trial: Trial, encoder: Encoder) -> Iterator[tuple[Way, str, tuple[float, float]]]:
    """(way, phase, (mean Dice, mean Dice of the classes that change)) for every way of fitting."""
    scans = [trial.source.volume, *phase_copies(trial.source.volume, trial.source.truth, COPIES)]
    parts = [trial.source.truth]
    if trial.same:
        parts = [crop(trial.source.truth, span) for span in blocks(trial.source.truth.geometry)[0]]
    pairs = [[(features, part) for part in parts] for features in (embed(scan, encoder) for scan in scans)]
    targets = {phase: embed(_changed(trial, *change), encoder) for phase, change in PHASES.items()}
    for columns in COLUMNS:
        for copies in (0, COPIES):
            fitted_on = [pair for scan in pairs[: 1 + copies] for pair in scan]
            for standardise in ("fit", "scan"):
                probe = LinearProbe.fit(fitted_on, "logistic", columns, standardise, "background", prior=1.0, cap=CAP)
                for phase, features in targets.items():
                    for prior in (*PRIORS, ADAPTED):
                        used = with_prior(probe, 0.25 if prior == ADAPTED else prior)
                        used = used.adapted(features) if prior == ADAPTED else used
                        yield Way(columns, copies, standardise, prior), phase, scored(trial, used, features)


def with_prior(probe: LinearProbe, prior: float) -> LinearProbe:
    """``probe``, fitted with prior 1, as another prior would have made it: only the constants differ."""
    return replace(probe, constants=(probe.constants - (1 - prior) * probe.memory.shift).astype(np.float32))


def scored(trial: Trial, probe: LinearProbe, features: FeatureMap) -> tuple[float, float]:
    """Mean Dice of all classes, and of those that the change is about, over every EVERY-th slice."""
    truth = trial.target.truth
    spans = blocks(truth.geometry)[1] if trial.same else [slice(0, len(truth.labels))]
    slices = [z for span in spans for z in range(span.start, span.stop)][EVERY // 2 :: EVERY]
    found = [
        probe.predict(features, truth, region=(slice(z, z + 1), slice(None), slice(None))).labels[0] for z in slices
    ]
    geometry = truth.geometry.cropped((0, 0, 0), (len(slices), *truth.labels.shape[1:]))
    report = dice_report(LabelMap(np.stack(found), geometry), LabelMap(truth.labels[slices], geometry))
    dice = {value: row["dice"] for value, row in report["classes"].items()}
    return report["mean_dice"], float(np.mean([dice[value] for value in trial.asked if value in dice]))


def _changed(trial: Trial, soft: float, lesion: float):
    mask = np.where(trial.soft, 1, 0).astype(np.uint8)
    if trial.lesion:
        mask[trial.target.truth.labels == trial.lesion] = 2
    return shifted_phase(trial.target.volume, LabelMap(mask, trial.target.truth.geometry), {1: soft, 2: lesion})


def tables(found: dict) -> list[str]:
    """Ways of fitting by phase; priors by columns; trials; and which way is best."""
    ways = list(dict.fromkeys(key[0] for key in found))
    names = list(dict.fromkeys(key[1] for key in found))

    def mean(choose, trials: Sequence[str] = names, phases: Sequence[str] = tuple(PHASES)) -> np.ndarray:
        keys = [key for key in found if choose(key[0]) and key[1] in trials and key[2] in phases]
        return np.mean([found[key] for key in keys], axis=0)

    default = Recipe()
    usual = [way for way in ways if way.prior == default.prior]
    rows = [
        [COLUMNS[w.columns], _fitted(w), *(_pair(mean(lambda x, w=w: x == w, phases=[p])) for p in PHASES)]
        for w in usual
    ]
    by_phase = (
        f"Prior {default.prior}; mean of the trials: mean Dice / of the classes that change.\n\n"
        + markdown_table(["columns", "fitted on", *PHASES], rows)
    )
    rows = [
        [
            str(prior),
            _fitted(w),
            *(_pair(mean(lambda x, k=(c, w.copies, w.standardise, prior): _key(x) == k)) for c in COLUMNS),
        ]
        for prior in (*PRIORS, ADAPTED)
        for w in usual
        if w.columns is None
    ]
    by_prior = "Priors; mean of trials and phases.\n\n" + markdown_table(
        ["prior", "fitted on", *COLUMNS.values()], rows
    )
    rows = []
    for name in names:
        for columns in COLUMNS:
            plain = Way(columns, 0, default.standardise, default.prior)
            copied = replace(plain, copies=COPIES)
            cells = [_pair(mean(lambda x, w=w: x == w, [name], [p])) for w in (plain, copied) for p in PHASES]
            rows.append([name, COLUMNS[columns], *cells])
    header = ["trial", "columns", *PHASES, *(f"{COPIES} copies: {phase}" for phase in PHASES)]
    by_trial = "Each trial with the default recipe, without and with phase copies.\n\n" + markdown_table(header, rows)
    return [by_phase, by_prior, by_trial, _verdict(mean, default)]


def _verdict(mean, default: Recipe) -> str:
    """By the classes that change phase, which is what the default has to bear, and by all classes."""
    lines = []
    for copies in (0, COPIES):
        means = {
            (s, p): mean(lambda x, k=(copies, s, p): (x.copies, x.standardise, x.prior) == k)
            for s in ("fit", "scan")
            for p in (*PRIORS, ADAPTED)
        }
        own = means[default.standardise, default.prior]
        what = "One phase" if copies == 0 else f"{COPIES} phase copies"
        for place, whose in ((1, "the classes that change"), (0, "all classes")):
            best = max(means, key=lambda key, place=place: means[key][place])
            lines.append(
                f"- {what}, mean Dice of {whose}: best is {_words(*best)}, {means[best][place]:.3f}; the default, "
                f"{_words(default.standardise, default.prior)}, has {own[place]:.3f}."
            )
    return "The pick, over columns, trials and phases:\n\n" + "\n".join(lines)


def _words(standardise: str, prior: float | str) -> str:
    whose = "each scan" if standardise == "scan" else "the fit"
    return f"statistics of {whose} with {'frequencies adapted' if prior == ADAPTED else f'prior {prior}'}"


def _fitted(way: Way) -> str:
    whose = "each scan" if way.standardise == "scan" else "the fit"
    return f"{f'{way.copies} phase copies' if way.copies else 'one phase'}, statistics of {whose}"


def _key(way: Way) -> tuple:
    return way.columns, way.copies, way.standardise, way.prior


def _pair(values: np.ndarray) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


RULE = (
    "Dev patients; labels are stand-ins. Trials: a probe fitted on the full masks of limb patient 24 segments limb "
    "patient 25 and the reverse (bone, fat, muscle by HU, the expert's tumour); fitted on the chest pyradiomics lung1 "
    "(a patient that the encoder was trained on, without labels) it segments lung2 (bone, fat, soft tissue, lung by "
    "HU, the lesion); fitted on blocks of slices of cip_chest_64 it finds the lung thirds in others. Phase changes "
    "are synthetic: HU are added to muscle or soft tissue, and to the lesion, of the scan that is segmented, after "
    "the labels were defined. Phase copies redraw the HU of the scan fitted on, see `tapct probe fit "
    "--phase-copies`. Logistic head; 'adapted' estimates the classes' frequencies from the scan itself."
)
