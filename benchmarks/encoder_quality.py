"""What an encoder's features are worth, beside rivals that a fair reader would ask for.

    python -m benchmarks.encoder_quality --encoder tap-ct-xs-3d                 the table, on test patients
    python -m benchmarks.encoder_quality --split dev --encoder RUN_DIR --json   for choosing recipes

Rows: the encoder, its untrained twin, 20 multi-scale HU statistics at the same pitch, those lifted to the
encoder's width by random ReLU features (equal capacity, nothing learnt), and the mean HU of the 5 x 5 x 5 tokens
round each token (context, nothing learnt). "With surroundings": a token joined to its neighbours at their places, as
matching does it, for the encoder and for the rival of equal capacity; points only.

Columns: points found by tokens alone, the whole volume searched, without prior and without HU, on synthetic
follow-ups (HARD leads) and on the breathing pair; a scan matched with itself, mirrored and turned; a linear
probe's Dice on the organs of one abdomen (alternating 40 mm slabs, 10 mm label gap, both folds) beside what
true token fractions would reach; the effective rank of the tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.common import markdown_table, write_page
from tapct_core.body import body_mask
from tapct_core.encoders import Encoder, load_encoder, untrained_twin
from tapct_core.features import FeatureMap
from tapct_core.io import load_ct
from tapct_core.matching import match_points
from tapct_core.samples import load_sample, load_sample_points
from tapct_core.synthetic import HARD, STANDARD, make_follow_up
from tapct_core.volume import CTVolume

from .quality_organs import probe_scores
from .quality_rows import Embed, context_row, encoder_row, statistics_row, surrounded_row

TOKENS_ALONE = ("tokens", "trilinear", "subtoken")
PATIENTS = {
    "dev": ("ct/crlm_ct_1006_ct.nii.gz", "ct/pyradiomics_lung2_ct.nii.gz"),
    "test": ("ct/ts_example_abdpelvis_ct.nii.gz", "ct/plastimatch_t0_ct.nii.gz"),
}
POINTS = ("hard", "standard", "breathing")
PARTS = (*POINTS, "robust", "probe")


@dataclass(frozen=True)
class Row:
    """A line of the table: whose features, and which of PARTS are measured of them."""

    features: Embed
    parts: tuple[str, ...] = PARTS


def errors(features: Embed, before: CTVolume, after: CTVolume, points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance in mm of the best place for each point, tokens alone, the whole volume searched."""
    found = match_points(features(before), features(after), points, top_k=1, steps=TOKENS_ALONE)
    return np.linalg.norm(np.array([one.best.point_lps_mm for one in found]) - truth, axis=1)


def body_points(volume: CTVolume, count: int, seed: int) -> np.ndarray:
    """LPS points (count, 3) inside the body, at least 15 mm from its rim."""
    mask = body_mask(volume.hu, volume.geometry.spacing_mm)
    deep = ndimage.distance_transform_edt(mask, sampling=volume.geometry.spacing_mm) > 15
    inside = np.argwhere(deep if deep.any() else mask)
    return volume.geometry.to_world(inside[np.random.default_rng(seed).choice(len(inside), count)])


def synthetic_errors(features: Embed, volume: CTVolume, spec, seeds: Sequence[int], count: int) -> np.ndarray:
    """Errors in mm over follow-ups of one patient, ``count`` points each, those in both fields of view."""
    out = []
    for seed in seeds:
        pair = make_follow_up(volume, spec, seed=seed)
        points = body_points(pair.baseline, count, seed)
        truth = pair.motion.to_follow_up(points)
        seen = pair.follow_up.geometry.contains(truth)
        out.append(errors(features, pair.baseline, pair.follow_up, points[seen], truth[seen]))
    return np.concatenate(out)


def mirrored(volume: CTVolume) -> CTVolume:
    """The patient with left and right exchanged, on the same grid."""
    return CTVolume(np.ascontiguousarray(volume.hu[:, :, ::-1]), volume.geometry)


def turned(volume: CTVolume, degrees: float) -> CTVolume:
    """The patient turned in plane about the scan's middle, on the same grid."""
    _, y, x = volume.geometry.spacing_mm
    if abs(y - x) > 1e-3:
        raise ValueError("turning in plane needs square pixels")
    hu = ndimage.rotate(volume.hu.astype(np.float32), degrees, axes=(1, 2), reshape=False, order=1, cval=-1024)
    return CTVolume(hu.astype(np.int16), volume.geometry)


def robustness(features: Embed, volume: CTVolume, count: int) -> dict[str, float]:
    """Median error in mm on the scan itself and turned by 10 degrees; share of points that jump sides when mirrored."""
    points = body_points(volume, count, 7)
    geometry = volume.geometry
    index = geometry.to_index(points)
    centre = (np.array(geometry.shape[1:]) - 1) / 2
    angle = np.radians(10.0)
    y, x = (index[:, 1:] - centre).T
    there = index.copy()
    there[:, 1] = centre[0] + np.cos(angle) * y - np.sin(angle) * x
    there[:, 2] = centre[1] + np.sin(angle) * y + np.cos(angle) * x
    swapped = index.copy()
    swapped[:, 2] = geometry.shape[2] - 1 - swapped[:, 2]
    twin = geometry.to_world(swapped)
    before = features(volume)
    found = match_points(before, features(mirrored(volume)), points, top_k=1, steps=TOKENS_ALONE)
    place = np.array([one.best.point_lps_mm for one in found])
    # In the mirrored scan the same tissue lies on the other side, but the patient's left stays at the left:
    # features that know sides stay near the point's own place, blind ones go to its mirror image.
    off_middle = np.linalg.norm(twin - points, axis=1) > 60
    jumped = np.linalg.norm(place - twin, axis=1) < np.linalg.norm(place - points, axis=1)
    itself = match_points(before, before, points, top_k=1, steps=TOKENS_ALONE)
    return {
        "self": float(np.median(np.linalg.norm(np.array([m.best.point_lps_mm for m in itself]) - points, axis=1))),
        "turned": float(np.median(errors(features, volume, turned(volume, 10.0), points, geometry.to_world(there)))),
        "goes_to_mirror_image": float(jumped[off_middle].mean()) if off_middle.any() else float("nan"),
    }


def effective_rank(features: FeatureMap) -> float:
    """exp of the entropy of the token covariance's eigenvalues (Roy and Vetterli 2007)."""
    tokens = features.tokens[features.valid].astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(tokens.T)).clip(0)
    share = values / values.sum()
    return float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))


def summary(distance: np.ndarray) -> dict[str, float]:
    """Median mm, share within 5 and 10 mm."""
    return {
        "median": float(np.median(distance)),
        "le5": float((distance <= 5).mean()),
        "le10": float((distance <= 10).mean()),
    }


def measure(features: Embed, data: Path, split: str, seeds: Sequence[int], count: int, parts: Sequence[str]) -> dict:
    """All numbers of one row."""
    row: dict = {}
    volumes = [load_ct(data / name) for name in PATIENTS[split]]
    for name, spec in (("hard", HARD), ("standard", STANDARD)):
        if name in parts:
            row[name] = summary(np.concatenate([synthetic_errors(features, v, spec, seeds, count) for v in volumes]))
    if "breathing" in parts and split == "test":
        pair = load_sample("breathing_pair")
        _, before, after = load_sample_points()
        row["breathing"] = summary(errors(features, pair["baseline"], pair["followup"], before, after))
    if "robust" in parts:
        row["robust"] = robustness(features, volumes[0], count)
    row["rank"] = effective_rank(features(volumes[0]))
    if "probe" in parts:
        row["probe"] = probe_scores(features, data, split)
    return row


def rows_of(encoders: Sequence[Encoder], overlap: float, rivals: bool) -> dict[str, Row]:
    """The table's lines by name; rivals are those of the first encoder."""
    rows = {e.name: Row(encoder_row(e, overlap)) for e in encoders}
    if rivals:
        first = encoders[0]
        rows |= {
            "untrained twin": Row(encoder_row(untrained_twin(first), overlap)),
            "20 HU statistics": Row(statistics_row(first, None)),
            "HU statistics, lifted": Row(statistics_row(first, first.embed_dim)),
            "5 x 5 x 5 token means": Row(context_row(first)),
        }
        for name in (first.name, "HU statistics, lifted"):
            rows[f"{name}, with surroundings"] = Row(surrounded_row(rows[name].features), POINTS)
    return rows


def main() -> None:
    """Measures every row and prints the table or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", default=["tap-ct-xs-3d"], help="names or folders; a row each")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TAPCT_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--points", type=int, default=100, help="points a follow-up")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rivals", action="store_true", help="the untrained twin and HU statistics too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    args = parser.parse_args()
    rows = rows_of([load_encoder(name) for name in args.encoder], args.overlap, args.rivals)
    results = {}
    for name, row in rows.items():
        parts = [part for part in row.parts if part in args.parts]
        results[name] = measure(row.features, args.data, args.split, args.seeds, args.points, parts)
        print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(results))
    else:
        print(table(results))
    if args.out:
        command = f"python -m benchmarks.encoder_quality --split {args.split} --encoder {' '.join(args.encoder)}"
        command += " --rivals" if args.rivals else ""
        write_page(args.out, "Encoder quality", command, [table(results), LEGEND])


LEGEND = (
    "Points: median error in mm, and shares within 5 and 10 mm, by tokens alone, the whole volume searched, no prior, "
    "no HU; with surroundings: each token joined to its neighbours at their places, as matching does it. Probe: mean "
    "Dice of organ groups, whose labels are TotalSegmentator's output (test) or drawn for this benchmark (dev), not an "
    "expert's; oracle: what true shares of each token would reach. The breathing pair is one patient in two phases, "
    "not a follow-up in time."
)


def table(results: dict[str, dict]) -> str:
    """The results as one Markdown table; what was not measured of a row is a dash."""
    header = ["features"]
    rows: list[list[object]] = [[name] for name in results]
    first = next(iter(results.values()))

    def column(title: str, cell: Callable[[dict], object]) -> None:
        header.append(title)
        for row, result in zip(rows, results.values(), strict=True):
            try:
                row.append(cell(result))
            except KeyError:
                row.append("–")

    for part in POINTS:
        if part in first:
            column(f"{part}: median mm, ≤ 5, ≤ 10 mm", lambda result, part=part: _found(result[part]))
    for part in ("robust", "probe"):
        for key in first.get(part, {}):
            column(key.replace("_", " "), lambda result, part=part, key=key: float(result[part][key]))
    column("rank", lambda result: float(result["rank"]))
    return markdown_table(header, rows)


def _found(part: dict[str, float]) -> str:
    return f"{part['median']:.1f}, {part['le5']:.0%}, {part['le10']:.0%}"


if __name__ == "__main__":
    main()
