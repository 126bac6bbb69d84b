"""Labelled scans for the probe benchmark, simulated strokes, and the rule that keeps train and test slices apart."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from tapct_core.geometry import Geometry
from tapct_core.io import load_ct, load_labels
from tapct_core.volume import CTVolume, LabelMap

PERIOD_MM, TRAIN_MM, GAP_MM = 84.0, 36.0, 12.0
"""Along z, every 84 mm: 36 mm to learn from, 12 mm gap, 24 mm to be tested on, 12 mm gap. The gap is a little more
than a token of the packaged encoder's plan (10 mm), so no labelled voxel touches a token of a tested one."""
OFFSET_MM = 12.0
"""Where in a period the first slice lies: of all offsets one of the few with every main organ of the test patient, the
bases of the lungs too, in train and test slices. Chosen by the labels alone."""

BACKGROUND = 255
STROKE_MM, BRUSH_MM = 25.0, 4.0

MAIN_ORGANS = {
    "liver": ["liver"],
    "spleen": ["spleen"],
    "kidneys": ["kidney_right", "kidney_left"],
    "stomach": ["stomach"],
    "pancreas": ["pancreas"],
    "bowel": ["small_bowel", "duodenum", "colon"],
    "lungs": ["lung_"],
    "heart": ["heart", "atrial_appendage_left"],
    "aorta": ["aorta"],
    "vena cava": ["inferior_vena_cava"],
    "bladder": ["urinary_bladder"],
    "spine": ["vertebrae_", "sacrum", "spinal_cord"],
    "pelvis and femurs": ["hip_", "femur_"],
    "ribs": ["rib_", "sternum", "costal"],
    "muscles": ["gluteus", "autochthon", "iliopsoas"],
}
"""Main organs by the beginnings of TotalSegmentator's names; what is in none of them is background."""


@dataclass(frozen=True)
class Task:
    """One labelled scan: ``truth`` has classes 1..K with names; 0 is background."""

    name: str
    volume: CTVolume
    truth: LabelMap


def abdomen(data: Path, merged: bool = True) -> Task:
    """The TotalSegmentator example (test patient): organs merged to MAIN_ORGANS, or all 61."""
    labels = load_labels(data / "ct" / "ts_example_abdpelvis_seg.nii.gz")
    with open(data / "ct" / "ts_label_names.csv", newline="") as file:
        names = {int(row["label"]): row["name"] for row in csv.DictReader(file)}
    if merged:
        table = np.zeros(max(names) + 1, np.uint8)
        for value, prefixes in enumerate(MAIN_ORGANS.values(), start=1):
            for label, name in names.items():
                if any(
                    name == p
                    or (p.endswith("_") or p in ("gluteus", "autochthon", "iliopsoas", "costal"))
                    and name.startswith(p)
                    for p in prefixes
                ):
                    table[label] = value
        truth = LabelMap(table[labels.labels], labels.geometry, labels.source, dict(enumerate(MAIN_ORGANS, start=1)))
    else:
        truth = LabelMap(labels.labels, labels.geometry, labels.source, names)
    return Task("abdomen and pelvis", load_ct(data / "ct" / "ts_example_abdpelvis_ct.nii.gz"), truth)


def limb(data: Path, number: int) -> Task:
    """A sarcoma of the limbs (dev): the expert's tumour contour, with bone, fat and muscle by HU."""
    volume = load_ct(data / "ct_limbs" / f"sts_{number:03d}_ct.nii.gz")
    tumour = load_labels(data / "ct_limbs" / f"sts_{number:03d}_tumour.nii.gz").labels > 0
    tissue = _tissues(volume)
    tissue = np.where(tumour, 4, tissue).astype(np.uint8)
    return Task(
        f"limb {number}",
        volume,
        LabelMap(tissue, volume.geometry, names={1: "bone", 2: "fat", 3: "muscle", 4: "tumour"}),
    )


def chest_lesion(data: Path, number: int = 2) -> Task:
    """pyradiomics' lung2 (dev) or lung1 (train): the lesion, with lung, bone, fat and soft tissue by HU."""
    volume = load_ct(data / "ct" / f"pyradiomics_lung{number}_ct.nii.gz")
    lesion = load_labels(data / "ct" / f"pyradiomics_lung{number}_seg.nii.gz").labels > 0
    tissue = _tissues(volume)
    tissue[_inner_air(volume)] = 5
    tissue = np.where(lesion, 4, tissue).astype(np.uint8)
    names = {1: "bone", 2: "fat", 3: "soft tissue", 4: "lesion", 5: "lung"}
    name = "chest lesion" if number == 2 else f"chest {number}"
    return Task(name, volume, LabelMap(tissue, volume.geometry, names=names))


def lung_thirds(data: Path) -> Task:
    """The six lung thirds of cip_chest_64 (a train patient of the encoder, whose labels it never saw)."""
    volume = load_ct(data / "ct" / "cip_chest_64_ct.nii.gz")
    labels = load_labels(data / "ct" / "cip_chest_64_seg.nii.gz").labels
    names = dict(
        enumerate(("right upper", "right middle", "right lower", "left upper", "left middle", "left lower"), 1)
    )
    table = np.zeros(1024, np.uint8)
    table[9:15] = np.arange(1, 7)
    return Task("lung thirds", volume, LabelMap(table[labels], volume.geometry, names=names))


def blocks(geometry: Geometry) -> tuple[list[slice], list[slice]]:
    """Train slices and test slices as blocks: see PERIOD_MM."""
    position = (np.arange(geometry.shape[0]) * geometry.spacing_mm[0] + OFFSET_MM) % PERIOD_MM
    train = position < TRAIN_MM
    test = (position >= TRAIN_MM + GAP_MM) & (position < PERIOD_MM - GAP_MM)
    return tuple([where[0] for where in ndimage.find_objects(*ndimage.label(mask))] for mask in (train, test))


def crop(labels: LabelMap, span: slice) -> LabelMap:
    """The slices of one block, placed where they are."""
    geometry = labels.geometry.cropped((span.start, 0, 0), (span.stop - span.start, *labels.geometry.shape[1:]))
    return LabelMap(labels.labels[span], geometry, names=labels.names)


def strokes(truth: LabelMap, spans: list[slice], count: int, seed: int) -> LabelMap:
    """``count`` strokes a class, as a person paints them: in one axial slice, along the inside, 4 mm wide, 25 mm long.

    Odd strokes begin deep inside the class, even ones near its border; background, value BACKGROUND, gets as many.
    Only in the slices of ``spans``. The same seed gives the same strokes, and more of them keep the first ones.
    """
    painted = np.zeros(truth.labels.shape, np.uint8)
    allowed = np.zeros(truth.labels.shape[0], bool)
    for span in spans:
        allowed[span] = True
    step = np.array(truth.geometry.spacing_mm[1:])
    for value in [int(v) for v in np.unique(truth.labels)]:
        rng = np.random.default_rng([seed, value])
        area = (truth.labels == value).sum(axis=(1, 2)) * allowed
        for number in range(count if area.any() else 0):
            z = int(rng.choice(len(area), p=area / area.sum()))
            line = _stroke(truth.labels[z] == value, step, number % 2 == 0, rng)
            painted[z][line] = value or BACKGROUND
    return LabelMap(painted, truth.geometry, names={**truth.names, BACKGROUND: "background"})


def _stroke(mask: np.ndarray, step: np.ndarray, deep: bool, rng: np.random.Generator) -> np.ndarray:
    """One stroke inside ``mask`` (y, x): a straight line from a chosen place, as far as it stays inside."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=step)[1:-1, 1:-1]
    inside = np.argwhere(mask)
    order = np.argsort(depth[mask], kind="stable")
    share = max(1, len(order) // 4)
    start = inside[order[-share:] if deep else order[: 2 * share]][rng.integers(share)] * step
    best: list = []
    for angle in rng.uniform(0, 2 * np.pi, 6):
        path = start + np.arange(0, STROKE_MM, 0.5)[:, None] * [np.sin(angle), np.cos(angle)]
        index = np.rint(path / step).astype(int)
        good = ((index >= 0) & (index < mask.shape)).all(axis=1)
        good[good] = mask[tuple(index[good].T)]
        length = len(good) if good.all() else int(good.argmin())
        if length > len(best):
            best = index[:length]
    line = np.zeros(mask.shape, bool)
    line[tuple(np.array(best).reshape(-1, 2).T)] = True
    return mask & (ndimage.distance_transform_edt(~line, sampling=step) <= BRUSH_MM / 2)


def soft_tissue(volume: CTVolume) -> np.ndarray:
    """Mask (z, y, x) of soft tissue by HU: what takes up contrast where there are no labels."""
    return _tissues(volume) == 3


def _tissues(volume: CTVolume) -> np.ndarray:
    """Bone 1, fat 2, soft tissue 3 by HU, each opened so that single noisy voxels belong to none."""
    smooth = ndimage.gaussian_filter(volume.hu.astype(np.float32), [0.8 / s for s in volume.geometry.spacing_mm])
    tissue = np.zeros(smooth.shape, np.uint8)
    for value, (low, high) in {2: (-150, -40), 3: (0, 110), 1: (220, 4000)}.items():
        tissue[ndimage.binary_opening((smooth > low) & (smooth < high), np.ones((1, 2, 2)))] = value
    return tissue


def _inner_air(volume: CTVolume) -> np.ndarray:
    """Air that does not touch the scan's sides in its own slice: lung and airways."""
    air = volume.hu < -400
    pieces, _ = ndimage.label(air, [np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))])
    outer = np.unique(np.concatenate([pieces[:, [0, -1]].ravel(), pieces[:, :, [0, -1]].ravel()]))
    return air & ~np.isin(pieces, outer)
