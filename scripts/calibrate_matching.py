"""Fits the two probabilities of tapct_core/matching/confidence.py on synthetic follow-ups of training and dev patients.

    python scripts/calibrate_matching.py --data ../shared/data --encoder none

Cases that go wrong must be among those learned from: besides STANDARD and HARD follow-ups there are extreme
ones, another breath with the field of view cut through a lung, lesions that have left the field of view, random
places without a lesion, and another patient's scan.
Every patient's figures come from regressions that have not seen that patient. Writes the calibration into the
package and the reliability curves to docs/results/matching_confidence_ENCODER.md and .png. With ``--rows FILE``
what was measured is kept pair by pair, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import markdown_table, read_rows, write_page  # noqa: E402
from tapct_core import load_ct, load_encoder  # noqa: E402
from tapct_core.atomic import atomic_path  # noqa: E402
from tapct_core.embedding import embed  # noqa: E402
from tapct_core.matching import confidence, match_points, prepare_pair  # noqa: E402
from tapct_core.matching.prior import body_points  # noqa: E402
from tapct_core.synthetic import HARD, STANDARD, make_follow_up  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PATIENTS = (
    "ct/crlm_ct_1004", "ct/crlm_ct_1006", "ct/lidc_0314", "ct/ts_aorta_cta", "ct/cip_chest_64", "ct/pyradiomics_lung1",
    "ct/pyradiomics_lung2", "ct_limbs/sts_003", "ct_limbs/sts_024",
)  # fmt: skip
EXTREME = replace(HARD, deformation_mm=(25.0, 30.0), noise_hu=(60.0, 90.0), keep_z=(0.4, 0.6))
BREATHING = replace(
    STANDARD, rotation_deg=1.0, shift_mm=2.0, deformation_mm=(12.0, 20.0), keep_z=(0.9, 1.0), keep_x=(0.45, 0.7)
)
"""Another breath on the same table, the field of view cut through the body, as where a scan was planned on one lung."""
SPECS = {"STANDARD": STANDARD, "HARD": HARD, "EXTREME": EXTREME, "BREATHING": BREATHING}
RIGHT_MM = 10.0
FALSE_CALLS = 0.045
"""Share of the lesions that are there which may be called not found; of patients left out it is a little more."""


class Kind(NamedTuple):
    """How one of the two probabilities is fitted: its signs, whether with their products, and scikit-learn's C."""

    signs: tuple[str, ...]
    products: bool
    strength: float


PLACE = Kind(confidence.PLACE_SIGNS, products=False, strength=1.0)
PRESENCE = Kind(confidence.PRESENCE_SIGNS, products=True, strength=0.3)
"""With products, and shrunk: a faded core means little where a lesion hardly stood out. Chosen by patients left out."""


def main() -> None:
    """Measures what is missing of the pairs and fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", default="none")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--lesions", type=int, default=20, help="lesions a pair")
    parser.add_argument(
        "--rows", type=Path, help="JSON lines, one a pair of scans: read if there, added to if not whole"
    )
    args = parser.parse_args()
    encoder = None if args.encoder == "none" else load_encoder(args.encoder)
    known = read_rows(args.rows)
    rows: list[dict] = []
    for pair, make in pairs(args.data, encoder, range(args.first_seed, args.first_seed + args.seeds), args.lesions):
        if pair not in known:
            known[pair] = make()
            if args.rows:
                with open(args.rows, "a", encoding="utf-8") as file:
                    file.write(json.dumps({"pair": pair, "rows": known[pair]}) + "\n")
        rows += known[pair]
        print(pair, len(rows), flush=True)
    fit(rows, encoder)


def pairs(data: Path, encoder, seeds: range, lesions: int) -> Iterator[tuple[str, Callable[[], list[dict]]]]:
    """Every pair of scans by name, and what gives its rows; the scan of the patient before is one of them."""
    before: str | None = None
    for name in PATIENTS:
        for kind, spec in SPECS.items():
            for seed in seeds:
                yield f"{name} {kind} {seed}", partial(_follow_up_rows, data, encoder, name, kind, spec, seed, lesions)
        if before:  # the scan of another patient: nothing there is right
            yield f"{name} other patient", partial(_stranger_rows, data, encoder, name, before, seeds[0], lesions)
        before = name


def _follow_up_rows(data, encoder, name: str, kind: str, spec, seed: int, lesions: int) -> list[dict]:
    pair = make_follow_up(load_ct(data / f"{name}_ct.nii.gz"), spec, seed, lesions)
    before, after = embed(pair.baseline, encoder), embed(pair.follow_up, encoder)
    shown = [lesion for lesion in pair.lesions if lesion.baseline_radius_mm]
    anywhere = body_points(prepare_pair(before, after).a, 10, np.random.default_rng(seed))
    points = np.concatenate([np.array([lesion.baseline_lps_mm for lesion in shown]), anywhere])
    fates = [lesion.fate for lesion in shown] + [""] * len(anywhere)
    return _rows(before, after, points, pair.motion.to_follow_up(points), fates, name, kind)


def _stranger_rows(data, encoder, name: str, other: str, seed: int, lesions: int) -> list[dict]:
    own = make_follow_up(load_ct(data / f"{name}_ct.nii.gz"), STANDARD, seed, lesions)
    scan = load_ct(data / f"{other}_ct.nii.gz")
    before, after = embed(own.baseline, encoder), embed(scan, encoder)
    points = np.array([lesion.baseline_lps_mm for lesion in own.lesions if lesion.baseline_radius_mm])
    nowhere = np.full((len(points), 3), np.inf)
    return _rows(before, after, points, nowhere, [""] * len(points), name, "other patient")


def _rows(before, after, points, truth, fates, name, kind) -> list[dict]:
    inside = after.hu_geometry.contains(np.nan_to_num(truth, posinf=1e6))
    rows = []
    for found, place, fate, seen in zip(match_points(before, after, points), truth, fates, inside, strict=True):
        for match, signs in zip(found.matches, found.signs, strict=True):
            error = float(np.linalg.norm(np.array(match.point_lps_mm) - place))
            rows.append(
                {"patient": name, "kind": kind, "fate": fate, "seen": bool(seen), "in_view": found.in_view,
                 "rank": match.rank, "right": bool(error <= RIGHT_MM and seen), "signs": signs}
            )  # fmt: skip
    return rows


def fit(rows: list[dict], encoder) -> None:
    """Regressions on all patients into the package; figures from those that left the patient out."""
    evidence, label = ("hu", "HU alone") if encoder is None else (encoder.weights_hash, f"{encoder.name} and HU")
    place = rows
    found = [r for r in rows if r["rank"] == 1 and r["right"]]
    # Places without a lesion are learned from as well: nothing has gone from there, and people click on them, too.
    presence, plain = [r for r in found if r["fate"]], [r for r in found if not r["fate"]]
    tables = {
        "place": _regression(place, PLACE, [r["right"] for r in place]),
        "presence": _regression(found, PRESENCE, [_is_there(r) for r in found]),
    }
    first = [r for r in place if r["rank"] == 1]
    held_place = _held_out(place, first, PLACE, lambda r: r["right"])
    held_presence = _held_out(found, presence, PRESENCE, _is_there)
    held_plain = _held_out(found, plain, PRESENCE, _is_there)
    right = np.array([r["right"] for r in first])
    there = np.array([_is_there(r) for r in presence])
    lesions = [r for r in first if r["fate"]]
    gone = np.array([not r["seen"] for r in lesions])
    said = np.array([not r["in_view"] for r in lesions])
    tables["label"], tables["absent_below"] = label, round(_absent_below(held_presence, there), 4)
    _keep(evidence, tables)
    patients, elsewhere = (np.array([r["patient"] for r in some]) for some in (presence, plain))
    called, startled = np.zeros(len(presence), dtype=bool), np.zeros(len(plain), dtype=bool)
    for patient in set(patients):
        own = patients == patient
        limit = _absent_below(held_presence[~own], there[~own])
        called[own] = held_presence[own] < limit
        startled[elsewhere == patient] = held_plain[elsewhere == patient] < limit
    table = [
        ["place right within 10 mm", len(first), float(right.mean()), *_figures(right, held_place)],
        ["lesion still present", len(presence), float(there.mean()), *_figures(there, held_presence)],
    ]
    calls = [
        ["vanished lesions called not found", int((~there).sum()), float(called[~there].mean())],
        ["present lesions called not found (false)", int(there.sum()), float(called[there].mean())],
        ["places without a lesion called not found (false)", len(plain), float(startled.mean())],
        ["lesions out of view called so", int(gone.sum()), float(said[gone].mean())],
        ["lesions in view called out of view (false)", int((~gone).sum()), float(said[~gone].mean())],
    ]
    calls.append(
        ["vanished or out of view, called either", int((~there).sum() + gone.sum()),
         float((called[~there].sum() + said[gone].sum()) / max(1, (~there).sum() + gone.sum()))]
    )  # fmt: skip
    pictures = ROOT / "docs" / "results"
    pictures.mkdir(parents=True, exist_ok=True)
    page = pictures / f"matching_confidence_{'hu' if encoder is None else encoder.name}.md"
    _curves(page.with_suffix(".png"), (right, held_place), (there, held_presence))
    write_page(
        page,
        f"Confidence of matching ({label}), each patient held out in turn",
        f"python scripts/calibrate_matching.py --data DATA --encoder {'none' if encoder is None else encoder.name}",
        [
            markdown_table(["probability", "cases", "share true", "AUC", "calibration error", "Brier"], table),
            markdown_table(["call", "cases", "share"], calls),
            f"![reliability curves]({page.with_suffix('.png').name})",
            "Synthetic follow-ups of training and dev patients only. The other patient's scan counts as a wrong place.",
        ],
    )
    print(table, calls, sep="\n")


def _keep(evidence: str, tables: dict) -> None:
    """Writes one choice of evidence into the package's calibration, beside the others."""
    path = confidence._FILE
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(json.dumps(known | {evidence: tables}, indent=1) + "\n", encoding="utf-8")


def _is_there(row: dict) -> bool:
    return row["fate"] != "vanished"


def _absent_below(probability: np.ndarray, there: np.ndarray) -> float:
    """The probability of presence under which FALSE_CALLS of the lesions that are there fall."""
    return float(np.quantile(probability[there], FALSE_CALLS))


def _matrix(rows: list[dict], names: tuple[str, ...]) -> np.ndarray:
    return np.array([confidence.transformed(r["signs"], names) for r in rows])


def _regression(rows: list[dict], kind: Kind, labels: list[bool]) -> dict:
    values = _matrix(rows, kind.signs)
    mean = np.nan_to_num(np.nanmean(values, axis=0))
    scale = np.maximum(np.nan_to_num(np.nanstd(values, axis=0), nan=1.0), 1e-3)
    columns = signs = np.nan_to_num((values - mean) / scale)
    if kind.products:
        columns = np.concatenate([signs, confidence.products_of(signs)], axis=1)
    middle, spread = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-3)
    model = LogisticRegression(C=kind.strength, max_iter=5000).fit((columns - middle) / spread, labels)
    weights = model.coef_[0] / spread  # of the columns as they are: what their own standard took goes into the constant
    table = {
        "names": kind.signs,
        "mean": _rounded(mean),
        "scale": _rounded(scale),
        "weights": _rounded(weights[: len(kind.signs)]),
        "intercept": round(float(model.intercept_[0] - weights @ middle), 6),
    }
    return table | ({"products": _rounded(weights[len(kind.signs) :])} if kind.products else {})


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 6) for v in values]


def _held_out(learn: list[dict], judge: list[dict], kind: Kind, label) -> np.ndarray:
    """Probability for each case of ``judge`` from the other patients' cases of ``learn``."""
    out = np.empty(len(judge))
    for patient in sorted({r["patient"] for r in judge}):
        others = [r for r in learn if r["patient"] != patient]
        model = confidence._logistic(_regression(others, kind, [label(r) for r in others]))
        for i, row in enumerate(judge):
            if row["patient"] == patient:
                out[i] = model(row["signs"])
    return out


def _figures(truth: np.ndarray, probability: np.ndarray) -> tuple[float, float, float]:
    """AUC, expected calibration error over ten bins of equal counts, Brier score."""
    order = np.argsort(probability)
    gaps = [
        len(part) * abs(truth[part].mean() - probability[part].mean())
        for part in np.array_split(order, 10)
        if len(part)
    ]
    auc = float(roc_auc_score(truth, probability)) if 0 < truth.mean() < 1 else float("nan")
    return auc, float(sum(gaps) / len(truth)), float(((truth - probability) ** 2).mean())


def _curves(path: Path, *pairs: tuple[np.ndarray, np.ndarray]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    for axes, (truth, probability), title in zip(
        figure.subplots(1, 2), pairs, ("place right within 10 mm", "lesion still present"), strict=True
    ):
        parts = [part for part in np.array_split(np.argsort(probability), 10) if len(part)]
        axes.plot([0, 1], [0, 1], color="0.8")
        axes.plot([probability[p].mean() for p in parts], [truth[p].mean() for p in parts], "o-")
        axes.set(xlabel="probability said", ylabel="share true", title=title, xlim=(0, 1), ylim=(0, 1))
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=120)


if __name__ == "__main__":
    main()
