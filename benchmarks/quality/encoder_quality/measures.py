"""The figures of one row of the encoder table: points found, sides told apart, organs told apart, effective rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from tapct_core.body import body_mask
from tapct_core.features import FeatureMap
from tapct_core.io import load_ct
from tapct_core.matching import match_points
from tapct_core.samples import load_sample, load_sample_points
from tapct_core.synthetic import HARD, STANDARD, make_follow_up
from tapct_core.volume import CTVolume

from .organs import probe_scores
from .rows import Embed

TOKENS_ALONE = ("tokens", "trilinear", "subtoken")
PATIENTS = {
    "dev": ("ct/crlm_ct_1006_ct.nii.gz", "ct/pyradiomics_lung2_ct.nii.gz"),
    "test": ("ct/ts_example_abdpelvis_ct.nii.gz", "ct/plastimatch_t0_ct.nii.gz"),
}


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
