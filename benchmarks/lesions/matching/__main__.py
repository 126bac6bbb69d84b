"""Accuracy of matching against what a user has already, on follow-ups whose truth is known.

    python -m benchmarks.matching --data DATA --split test --encoder tap-ct-xs-3d --out docs/results/matching.md

Synthetic STANDARD and HARD follow-ups of the split's patients and, for the test split, the breathing pair with
its given points. Every row of one table is measured in the same run on the same points. Intervals: 95 %,
bootstrap over pairs of scans, patients first. With ``--rows FILE`` what was measured is kept pair by pair, so that
a run that was stopped goes on where it was. The page's errors, point by point, are left in ``rows/`` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from benchmarks.matching import rivals
from sklearn.metrics import roc_auc_score

from benchmarks.common import markdown_table, read_rows, write_page
from tapct_core import load_ct, load_encoder
from tapct_core.embedding import embed
from tapct_core.matching import STEPS, match_points, prepare_pair
from tapct_core.synthetic import HARD, STANDARD, make_follow_up
from tapct_core.volume import CTVolume

ROWS = Path(__file__).parent / "rows"
SPLITS = {
    "dev": ("ct/crlm_ct_1006", "ct/pyradiomics_lung2", "ct_limbs/sts_024", "ct_limbs/sts_025"),
    "test": ("ct/plastimatch_t0", "ct/ts_example_abdpelvis", "ct_limbs/sts_026", "ct_limbs/sts_028"),
}
SPECS = {"STANDARD": STANDARD, "HARD": HARD}
FINE = ("trilinear", "subtoken")
OURS: dict[str, tuple[str, ...]] = {
    "nearest token": ("tokens",),
    "+ between tokens": ("tokens", *FINE),
    "+ surroundings": ("tokens", "surroundings", *FINE),
    "+ coarse motion": ("tokens", "surroundings", *FINE, "prior"),
    "+ votes": ("tokens", "surroundings", *FINE, "prior", "votes"),
    "+ way back (all, without HU)": ("tokens", "surroundings", *FINE, "prior", "votes", "way_back"),
    "+ HU descriptor": ("tokens", "surroundings", "hu", *FINE, "prior", "votes", "way_back"),
    "+ block matching": tuple(step for step in STEPS if step != "ncc"),
    "all": STEPS,
    "all but block matching": tuple(step for step in STEPS if step != "blocks"),
    "all but votes": tuple(step for step in STEPS if step not in ("votes", "way_back")),
    "all but features": tuple(step for step in STEPS if step not in ("tokens", "surroundings")),
}


@dataclass
class Case:
    """One pair of scans with points whose places are known."""

    patient: str
    kind: str
    before: CTVolume
    after: CTVolume
    points: np.ndarray
    truth: np.ndarray
    radius_mm: np.ndarray


@dataclass
class Tally:
    """What a row collects: per point errors and more; per pair seconds."""

    errors: list[np.ndarray] = field(default_factory=list)
    radii: list[np.ndarray] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    top3: list[np.ndarray] = field(default_factory=list)
    confidence: list[np.ndarray] = field(default_factory=list)
    prepare_s: list[float] = field(default_factory=list)
    click_s: list[float] = field(default_factory=list)


def main() -> None:
    """Measures every row on every pair of the split and prints the tables or writes their page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    parser.add_argument("--encoder", default="none", help="name or folder; none: HU alone")
    parser.add_argument("--seeds", type=int, default=4, help="follow-ups a patient and kind")
    parser.add_argument("--lesions", type=int, default=16)
    parser.add_argument("--only", nargs="*", help="rows to measure, by name; default all")
    parser.add_argument("--skip", nargs="*", default=[], help="rows to leave out, by name")
    parser.add_argument(
        "--rows", type=Path, help="JSON lines, one a pair of scans: read if there, added to if not whole"
    )
    parser.add_argument("--out", type=Path, help="Markdown page to write; a JSON of the errors goes beside it")
    args = parser.parse_args()
    encoder = None if args.encoder == "none" else load_encoder(args.encoder)
    known = read_rows(args.rows)
    kept: dict[tuple[str, str], Tally] = {}
    for case in cases(args.data, args.split, args.seeds, args.lesions):
        name = f"{args.encoder}: {case.patient} {case.kind}"
        if name not in known:
            wanted = lambda row: (not args.only or row in args.only) and row not in args.skip  # noqa: E731
            known[name] = measure(case, encoder, wanted)
            if args.rows:
                with open(args.rows, "a", encoding="utf-8") as file:
                    file.write(json.dumps({"pair": name, "rows": known[name]}) + "\n")
        for row in known[name]:
            _tally(kept, case, row)
        means = {row["row"]: round(float(np.mean(row["errors"])), 2) for row in known[name]}
        print(name, means, flush=True)
    parts = []
    for kind in dict.fromkeys(kind for kind, _ in kept):
        rows = {name: tally for (k, name), tally in kept.items() if k == kind}
        count = sum(len(errors) for errors in next(iter(rows.values())).errors)
        parts += [f"## {kind} ({count} points)", table(rows)]
    print("\n\n".join(parts))
    if args.out:
        title = f"Matching, {args.split} patients, encoder {args.encoder}"
        command = f"python -m benchmarks.matching --split {args.split} --encoder {args.encoder} --seeds {args.seeds}"
        if args.only:
            command += " --only " + " ".join(f'"{row}"' for row in args.only)
        write_page(args.out, title, command, [__doc__.split("\n\n", 2)[2].strip(), *parts])
        raw = {f"{kind} | {row}": [list(map(float, e)) for e in tally.errors] for (kind, row), tally in kept.items()}
        ROWS.mkdir(exist_ok=True)
        (ROWS / f"{args.out.stem}.json").write_text(json.dumps(raw) + "\n", encoding="utf-8")


def cases(data: Path, split: str, seeds: int, lesions: int) -> Iterator[Case]:
    """Synthetic follow-ups of every patient of a split; the breathing pair if it belongs to it."""
    for name in SPLITS[split]:
        volume = load_ct(data / f"{name}_ct.nii.gz")
        for kind, spec in SPECS.items():
            for seed in range(seeds):
                pair = make_follow_up(volume, spec, 500 + seed, lesions)
                seen = [
                    one for one in pair.lesions if one.in_view and one.baseline_radius_mm and one.follow_up_radius_mm
                ]
                if seen:
                    points = np.array([one.baseline_lps_mm for one in seen])
                    truth = np.array([one.follow_up_lps_mm for one in seen])
                    radius = np.array([one.follow_up_radius_mm for one in seen])
                    yield Case(f"{name} {seed}", kind, pair.baseline, pair.follow_up, points, truth, radius)
    if split == "test":
        before, after = (load_ct(data / "ct" / f"plastimatch_{phase}_ct.nii.gz") for phase in ("t0", "t5"))
        with open(data / "ct" / "plastimatch_points_lps_mm.csv", encoding="utf-8") as file:
            rows = [[float(row[key]) for key in ("x0", "y0", "z0", "x1", "y1", "z1")] for row in csv.DictReader(file)]
        points, truth = np.array(rows)[:, :3], np.array(rows)[:, 3:]
        moving = np.linalg.norm(points - truth, axis=1) > 5
        for kind, chosen in (("breathing pair", moving | True), ("breathing pair, moving over 5 mm", moving)):
            yield Case("plastimatch", kind, before, after, points[chosen], truth[chosen], np.full(chosen.sum(), 10.0))


def measure(case: Case, encoder, wanted: Callable[[str], bool]) -> list[dict]:
    """All rows on one case, as they are kept."""
    found_rows: list[dict] = []
    registrations: dict[bool, rivals.Locate] = {}

    def registered(spline: bool) -> rivals.Locate:
        if spline not in registrations:
            registrations[spline] = rivals.register(case.before, case.after, spline)
        return registrations[spline]

    volumes = case.before, case.after
    others: dict[str, Callable[[], rivals.Locate]] = {
        "identity": lambda: rivals.identity(*volumes),
        "affine registration": lambda: registered(False),
        "affine + B-spline registration": lambda: registered(True),
        "ConvexAdam on affine": lambda: rivals.convex_adam(*volumes, registered(False)),
        "correlation 25 mm, ±50 mm": lambda: rivals.correlation(*volumes, rivals.identity(*volumes), 25.0, 50.0),
        "correlation 25 mm on affine, ±20 mm": lambda: rivals.correlation(*volumes, registered(False), 25.0, 20.0),
        "multi-scale HU descriptor": lambda: rivals.descriptor(*volumes),
    }
    for name, build in others.items():
        if wanted(name):
            begin = time.process_time()
            locate = build()
            ready = time.process_time()
            found = locate(case.points)
            click = (time.process_time() - ready) / len(found)
            errors = np.linalg.norm(found - case.truth, axis=1)
            unsure = np.full(len(errors), np.nan)
            found_rows.append(_row(name, errors, errors <= 10, unsure, ready - begin, click))
    before, after = embed(case.before, encoder), embed(case.after, encoder)
    for name, steps in OURS.items():
        steps = tuple(step for step in steps if encoder is not None or step not in ("tokens", "surroundings"))
        if not wanted(name) or (encoder is None and name != "all" and "hu" not in steps):
            continue
        if encoder is None and name == "all but features":
            continue
        # "All but features" is what matching does without an encoder, so it is measured on such maps.
        scans = (embed(case.before, None), embed(case.after, None)) if name == "all but features" else (before, after)
        steps = STEPS if name == "all but features" else OURS[name]
        begin = time.process_time()
        prepare_pair(*scans, steps)
        ready = time.process_time()
        found = match_points(*scans, case.points, steps=steps)
        click = (time.process_time() - ready) / len(found)
        off = [
            np.array([np.linalg.norm(np.array(m.point_lps_mm) - t) for m in one.matches])
            for one, t in zip(found, case.truth, strict=True)
        ]
        sure = np.array([np.nan if one.best.confidence is None else one.best.confidence for one in found])
        errors = np.array([o[0] for o in off])
        top3 = np.array([o.min() <= 10 for o in off])
        found_rows.append(_row(name, errors, top3, sure, ready - begin, click))
    return found_rows


def _row(name: str, errors, top3, confidence, prepare_s: float, click_s: float) -> dict:
    parts = {"errors": errors, "top3": top3, "confidence": confidence}
    values = {key: [float(v) for v in part] for key, part in parts.items()}
    return {"row": name, **values, "prepare_s": prepare_s, "click_s": click_s}


def _tally(kept: dict[tuple[str, str], Tally], case: Case, row: dict) -> None:
    tally = kept.setdefault((case.kind, row["row"]), Tally())
    tally.errors.append(np.array(row["errors"]))
    tally.radii.append(case.radius_mm)
    tally.pairs.append(case.patient)
    tally.top3.append(np.array(row["top3"], dtype=bool))
    tally.confidence.append(np.array(row["confidence"]))
    tally.prepare_s.append(row["prepare_s"])
    tally.click_s.append(row["click_s"])


def table(rows: dict[str, Tally]) -> str:
    """One table; a preparation that an earlier row already did is not repeated, so only first uses count."""
    header = [
        "method", "mean mm", "median", "p90", "≤ 5 mm %", "≤ 10 mm %", "≤ min(r,10) %", "top 3 ≤ 10 mm %",
        "confidence AUC", "> 10 mm at > 90 %", "CPU s a click", "CPU s to prepare",
    ]  # fmt: skip
    lines = []
    for name, tally in rows.items():
        errors, radii = np.concatenate(tally.errors), np.concatenate(tally.radii)
        sure, right = np.concatenate(tally.confidence), errors <= 10
        auc = roc_auc_score(right, sure) if np.isfinite(sure).all() and 0 < right.mean() < 1 else None
        low, high = bootstrap(tally, lambda e: float(e.mean()))
        low5, high5 = bootstrap(tally, lambda e: 100 * float((e <= 5).mean()))
        lines.append(
            [name,
             f"{errors.mean():.2f} ({low:.2f}–{high:.2f})",
             f"{np.median(errors):.2f}",
             f"{np.quantile(errors, 0.9):.1f}",
             f"{100 * (errors <= 5).mean():.0f} ({low5:.0f}–{high5:.0f})",
             f"{100 * right.mean():.0f}",
             f"{100 * (errors <= np.minimum(radii, 10)).mean():.0f}", f"{100 * np.concatenate(tally.top3).mean():.0f}",
             "–" if auc is None else f"{auc:.2f}",
             int(((sure > 0.9) & ~right).sum()) if np.isfinite(sure).all() else "–",
             f"{np.median(tally.click_s):.3f}", f"{np.max(tally.prepare_s):.1f}"]
        )  # fmt: skip
    return markdown_table(header, lines)


def bootstrap(tally: Tally, figure: Callable[[np.ndarray], float], draws: int = 500) -> tuple[float, float]:
    """95 % interval of a figure, drawing patients, then their pairs of scans, with replacement."""
    rng = np.random.default_rng(0)
    groups: dict[str, list[np.ndarray]] = {}
    for pair, errors in zip(tally.pairs, tally.errors, strict=True):
        groups.setdefault(pair.split(" ")[0], []).append(errors)
    patients = list(groups.values())
    values = []
    for _ in range(draws):
        drawn = [patients[i] for i in rng.integers(len(patients), size=len(patients))]
        values.append(figure(np.concatenate([p[i] for p in drawn for i in rng.integers(len(p), size=len(p))])))
    return tuple(float(v) for v in np.quantile(values, (0.025, 0.975)))


if __name__ == "__main__":
    main()
