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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.common import markdown_table, write_page
from benchmarks.probe_tasks import abdomen
from tapct_core.body import body_mask
from tapct_core.embedding import embed
from tapct_core.encoders import Encoder, load_encoder, untrained_twin
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.matching import match_points
from tapct_core.matching.similarity import make_keys, search_grid, surroundings
from tapct_core.probe import LinearProbe, dice_report
from tapct_core.samples import load_sample, load_sample_points
from tapct_core.synthetic import HARD, STANDARD, make_follow_up
from tapct_core.volume import CTVolume, LabelMap

TOKENS_ALONE = ("tokens", "trilinear", "subtoken")
PATIENTS = {
    "dev": ("ct/crlm_ct_1006_ct.nii.gz", "ct/pyradiomics_lung2_ct.nii.gz"),
    "test": ("ct/ts_example_abdpelvis_ct.nii.gz", "ct/plastimatch_t0_ct.nii.gz"),
}
SLAB_MM, GAP_MM = 40.0, 10.0
ORGANS = {
    "liver": ("liver",), "spleen": ("spleen",), "kidneys": ("kidneys",), "bowel": ("stomach", "bowel"),
    "bone": ("spine", "pelvis and femurs", "ribs"), "muscle": ("muscles",), "lung": ("lungs",), "bladder": ("bladder",),
}  # fmt: skip
"""The eight classes of the table, by the main organs of benchmarks/probe_tasks.py."""

POINTS = ("hard", "standard", "breathing")
SURROUNDED = ", with surroundings"

Embed = Callable[[CTVolume], FeatureMap]


def encoder_row(encoder: Encoder, overlap: float) -> Embed:
    """Features of a scan by the encoder."""
    return lambda volume: embed(volume, encoder, overlap=overlap)


def statistics_row(encoder: Encoder, width: int | None) -> Embed:
    """HU statistics on the encoder's token grid; ``width``: lifted to that many random ReLU features."""

    def features(volume: CTVolume) -> FeatureMap:
        empty = embed(volume, None, spacing_mm=encoder.spec.spacing_mm)
        geometry = token_geometry(empty.hu_geometry, encoder)
        tokens = hu_statistics(empty.hu, empty.hu_geometry, geometry)
        if width:
            rng = np.random.default_rng(0)
            weights = rng.normal(size=(tokens.shape[-1], width)) / np.sqrt(tokens.shape[-1])
            tokens = np.maximum(0.0, tokens @ weights + rng.normal(size=width) * 0.5)
        return _without_windows(empty, tokens, geometry)

    return features


def context_row(encoder: Encoder) -> Embed:
    """The mean HU of 5 x 5 x 5 tokens round each token, less their mean: 125 numbers on the encoder's token grid."""

    def features(volume: CTVolume) -> FeatureMap:
        empty = embed(volume, None, spacing_mm=encoder.spec.spacing_mm)
        geometry = token_geometry(empty.hu_geometry, encoder)
        patch = encoder.spec.patch_size
        padded = [(0, n * p - size) for n, p, size in zip(geometry.shape, patch, empty.hu.shape, strict=True)]
        hu = np.pad(np.clip(empty.hu, -1000, 700).astype(np.float32), padded, mode="edge")
        blocks = hu.reshape([part for n, p in zip(geometry.shape, patch, strict=True) for part in (n, p)])
        means = np.pad(blocks.mean(axis=(1, 3, 5)), 2, mode="edge") / 500
        tokens = np.lib.stride_tricks.sliding_window_view(means, (5, 5, 5)).reshape(*geometry.shape, 125)
        return _without_windows(empty, tokens - tokens.mean(axis=-1, keepdims=True), geometry)

    return features


def surrounded_row(row: Embed) -> Embed:
    """The tokens of another row, each with its neighbours at their places (``matching.similarity.surroundings``)."""

    def features(volume: CTVolume) -> FeatureMap:
        found = row(volume)
        tokens = found.tokens.astype(np.float32) - found.window_position_mean[found.window_places]
        grid = search_grid(found.geometry)
        keys = make_keys("tokens", torch.from_numpy(tokens), found.valid, found.geometry, grid)
        joined = _without_windows(found, surroundings(keys, "surroundings").vectors.numpy(), found.geometry)
        return replace(joined, valid=found.valid)

    return features


def _without_windows(empty: FeatureMap, tokens: np.ndarray, geometry: Geometry) -> FeatureMap:
    """A scan's FeatureMap with tokens that no window was needed for."""
    return replace(
        empty, tokens=tokens.astype(np.float16), valid=np.ones(geometry.shape, bool), geometry=geometry,
        windows=np.zeros((0, 3), np.int32), window_tokens=(0, 0, 0),
    )  # fmt: skip


def token_geometry(grid: Geometry, encoder: Encoder) -> Geometry:
    """The encoder's token grid over ``grid``, padded to whole patches at the far end."""
    patch = encoder.spec.patch_size
    padded = tuple(-(-n // p) * p for n, p in zip(grid.shape, patch, strict=True))
    return grid.cropped((0, 0, 0), padded).pooled(patch)


def hu_statistics(hu: np.ndarray, grid: Geometry, tokens: Geometry) -> np.ndarray:
    """20 numbers a token, standardised: mean, deviation, gradient (3) at Gaussian scales of 4, 8, 16 and 32 mm."""
    image = np.clip(hu, -1000, 1000).astype(np.float32) / 500
    where = np.moveaxis(grid.to_index(tokens.to_world(np.moveaxis(np.indices(tokens.shape), 0, -1))), -1, 0)
    numbers = []
    for scale in (4.0, 8.0, 16.0, 32.0):
        sigma = [scale / s for s in grid.spacing_mm]
        mean = ndimage.gaussian_filter(image, sigma, truncate=2.5)
        square = ndimage.gaussian_filter(image**2, sigma, truncate=2.5)
        maps = [
            mean,
            np.sqrt(np.maximum(square - mean**2, 0)),
            *np.gradient(mean, *(s / scale for s in grid.spacing_mm)),
        ]
        numbers += [ndimage.map_coordinates(m, where, order=1, mode="nearest") for m in maps]
    stack = np.stack(numbers, axis=-1)
    return (stack - stack.mean(axis=(0, 1, 2))) / (stack.std(axis=(0, 1, 2)) + 1e-6)


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


def organs(data: Path) -> tuple[CTVolume, LabelMap]:
    """The abdomen with its labels merged to the table's eight classes."""
    task = abdomen(data)
    by_name = {name: value for value, name in task.truth.names.items()}
    table = np.zeros(max(by_name.values()) + 1, np.uint8)
    for value, parts in enumerate(ORGANS.values(), start=1):
        table[[by_name[part] for part in parts]] = value
    return task.volume, LabelMap(table[task.truth.labels], task.truth.geometry, names=dict(enumerate(ORGANS, start=1)))


def probe_dice(features: FeatureMap, volume: CTVolume, truth: LabelMap, head: str, hu: bool) -> float:
    """Mean Dice over the classes, both folds: fitted on every second slab, tested on the others less the gap."""
    position = np.arange(truth.geometry.shape[0]) * truth.geometry.spacing_mm[0]
    slab, depth = (position // SLAB_MM).astype(int), position % SLAB_MM
    kept = (depth >= GAP_MM / 2) & (depth < SLAB_MM - GAP_MM / 2)
    scores = []
    for fold in (0, 1):
        learn = np.zeros_like(truth.labels)
        for value in np.unique(slab[(slab % 2 == fold) & kept]):
            rows = (slab == value) & kept
            learn[rows] = np.where(truth.labels[rows] == 0, 255, truth.labels[rows])
        labels = LabelMap(learn, truth.geometry, names={**truth.names, 255: "background"})
        probe = LinearProbe.fit([(features, labels)], head=head, hu_features="voxel" if hu else None, zero="unlabelled")
        predicted = probe.predict(features, like=volume).labels.copy()
        predicted[predicted == 255] = 0
        test = (slab % 2 != fold) & kept
        report = dice_report(_rows(predicted, truth, test), _rows(truth.labels, truth, test), tuple(truth.names))
        scores.append(report["mean_dice"])
    return float(np.mean(scores))


def oracle_dice(tokens: Geometry, truth: LabelMap) -> float:
    """Mean Dice of true class fractions per token, upsampled trilinearly: what this pitch allows."""
    where = np.moveaxis(
        tokens.to_index(truth.geometry.to_world(np.moveaxis(np.indices(truth.labels.shape), 0, -1))), -1, 0
    )
    nearest = np.rint(where).astype(int)
    for axis, size in enumerate(tokens.shape):
        nearest[axis] = nearest[axis].clip(0, size - 1)
    flat = np.ravel_multi_index(tuple(nearest), tokens.shape)
    counts = np.bincount(flat.ravel(), minlength=int(np.prod(tokens.shape)))
    best, winner = np.full(truth.labels.shape, -1.0, np.float32), np.zeros(truth.labels.shape, np.uint8)
    for value in (0, *truth.names):
        share = np.bincount(flat.ravel(), (truth.labels == value).ravel(), minlength=len(counts)) / np.maximum(
            counts, 1
        )
        map_ = ndimage.map_coordinates(share.reshape(tokens.shape).astype(np.float32), where, order=1, mode="nearest")
        winner[map_ > best] = value
        best = np.maximum(best, map_)
    return float(dice_report(replace(truth, labels=winner), truth, tuple(truth.names))["mean_dice"])


def _rows(labels: np.ndarray, like: LabelMap, rows: np.ndarray) -> LabelMap:
    part = np.ascontiguousarray(labels[rows])
    return LabelMap(part, like.geometry.cropped((0, 0, 0), part.shape), names=like.names)


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
    if "probe" in parts and split == "test":
        volume, truth = organs(data)
        found = features(volume)
        row["probe"] = {
            f"{head}{' + HU' if hu else ''}": probe_dice(found, volume, truth, head, hu)
            for head in ("ridge", "logistic") for hu in (False, True)
        }  # fmt: skip
        row["oracle"] = oracle_dice(found.geometry, truth)
    return row


def main() -> None:
    """Measures every row and prints the table or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", default=["tap-ct-xs-3d"], help="names or folders; a row each")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TAPCT_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--points", type=int, default=100, help="points a follow-up")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--parts", nargs="+", default=["hard", "standard", "breathing", "robust", "probe"])
    parser.add_argument("--rivals", action="store_true", help="the untrained twin and HU statistics too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    args = parser.parse_args()
    encoders = [load_encoder(name) for name in args.encoder]
    rows: dict[str, Embed] = {e.name: encoder_row(e, args.overlap) for e in encoders}
    if args.rivals:
        first = encoders[0]
        rows["untrained twin"] = encoder_row(untrained_twin(first), args.overlap)
        rows["20 HU statistics"] = statistics_row(first, None)
        rows["HU statistics, lifted"] = statistics_row(first, first.embed_dim)
        rows["5 x 5 x 5 token means"] = context_row(first)
        for name in (encoders[0].name, "HU statistics, lifted"):
            rows[name + SURROUNDED] = surrounded_row(rows[name])
    results = {
        name: measure(row, args.data, args.split, args.seeds, args.points, parts_of(name, args.parts))
        for name, row in rows.items()
    }
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
    "Dice of eight organ groups whose labels are TotalSegmentator's output, not an expert's. The breathing pair is one "
    "patient in two phases, not a follow-up in time."
)


def parts_of(name: str, parts: Sequence[str]) -> list[str]:
    """What is measured of a row."""
    return [part for part in parts if part in POINTS or not name.endswith(SURROUNDED)]


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
    for key in ("oracle", "rank"):
        if key in first:
            column(key, lambda result, key=key: float(result[key]))
    return markdown_table(header, rows)


def _found(part: dict[str, float]) -> str:
    return f"{part['median']:.1f}, {part['le5']:.0%}, {part['le10']:.0%}"


if __name__ == "__main__":
    main()
