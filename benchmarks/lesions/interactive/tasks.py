"""What is segmented: organs, thin structures and lesions of dev and test patients, each cut out of its scan."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapct_core.io import load_ct, load_labels
from tapct_core.volume import CTVolume, LabelMap

MARGIN_MM = 40.0
DRAWN = Path(__file__).resolve().parents[2] / "quality" / "encoder_quality" / "drawn"


@dataclass(frozen=True)
class Task:
    """One scan and what is to be segmented in it: ``truth`` on the grid of ``volume``, which is cut out of ``whole``.

    ``kind``: "organ" (over 50 ml), "thin" or "lesion".
    """

    name: str
    kind: str
    whole: CTVolume
    volume: CTVolume
    truth: LabelMap


@dataclass(frozen=True)
class Recipe:
    """Where a task comes from: the scan, the labels, and the names and values in them."""

    name: str
    kind: str
    scan: str
    labels: str
    values: tuple[tuple[str, ...], ...] = ()
    """Names of each class's labels; none: all that is labelled is one class."""


ABDOMEN = ("ct/ts_example_abdpelvis_ct.nii.gz", "ct/ts_example_abdpelvis_seg.nii.gz")
LUNG1 = ("ct/pyradiomics_lung1_ct.nii.gz", "ct/pyradiomics_lung1_seg.nii.gz")
LUNG2 = ("ct/pyradiomics_lung2_ct.nii.gz", "ct/pyradiomics_lung2_seg.nii.gz")
DRAWN_ABDOMEN = ("ct/crlm_ct_1006_ct.nii.gz", "drawn/crlm_ct_1006_organs.nii.gz")
DRAWN_CHEST = ("ct/pyradiomics_lung2_ct.nii.gz", "drawn/pyradiomics_lung2_organs.nii.gz")
DRAWN_NAMES = ("liver", "spleen", "kidneys", "bowel", "bone", "muscle", "lung", "heart", "great vessels")

SPLITS = {
    "dev": [
        Recipe("spleen, dev", "organ", *DRAWN_ABDOMEN, (("spleen",),)),
        Recipe("kidneys as one, dev", "organ", *DRAWN_ABDOMEN, (("kidneys",),)),
        Recipe("liver, spleen, kidneys, dev", "organ", *DRAWN_ABDOMEN, (("liver",), ("spleen",), ("kidneys",))),
        Recipe("lungs and heart, dev", "organ", *DRAWN_CHEST, (("lung",), ("heart",))),
        Recipe("lung lesion 2", "lesion", *LUNG2),
        *(
            Recipe(f"sarcoma {n}", "lesion", f"ct_limbs/sts_{n}_ct.nii.gz", f"ct_limbs/sts_{n}_tumour.nii.gz")
            for n in ("024", "025")
        ),
    ],
    "test": [
        Recipe("spleen", "organ", *ABDOMEN, (("spleen",),)),
        Recipe(
            "five organs",
            "organ",
            *ABDOMEN,
            (("spleen",), ("kidney_right",), ("kidney_left",), ("liver",), ("stomach",)),
        ),
        Recipe("spinal cord", "thin", *ABDOMEN, (("spinal_cord",),)),
        Recipe("aorta, vena cava", "thin", *ABDOMEN, (("aorta",), ("inferior_vena_cava",))),
        *(
            Recipe(f"sarcoma {n}", "lesion", f"ct_limbs/sts_{n}_ct.nii.gz", f"ct_limbs/sts_{n}_tumour.nii.gz")
            for n in ("026", "028")
        ),
    ],
    "train": [Recipe("lung lesion 1", "lesion", *LUNG1)],
}


def load_task(data: Path, recipe: Recipe) -> Task:
    """The task of a recipe, its classes numbered from 1."""
    whole = load_ct(data / recipe.scan)
    path = DRAWN / recipe.labels.removeprefix("drawn/") if recipe.labels.startswith("drawn/") else data / recipe.labels
    labels = load_labels(path).labels
    truth = np.zeros(labels.shape, np.uint8)
    for value, names in enumerate(recipe.values, start=1):
        truth[np.isin(labels, [v for v, name in _names(data, recipe).items() if name in names])] = value
    if not recipe.values:
        truth[labels > 0] = 1
    names = {value: names[0] for value, names in enumerate(recipe.values, start=1)} or {1: recipe.name}
    filled = np.argwhere(truth)
    margin = np.ceil(MARGIN_MM / np.array(whole.geometry.spacing_mm))
    low = np.maximum(filled.min(axis=0) - margin, 0).astype(int)
    high = np.minimum(filled.max(axis=0) + 1 + margin, truth.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    geometry = whole.geometry.cropped(tuple(low.tolist()), tuple((high - low).tolist()))
    cut = LabelMap(np.ascontiguousarray(truth[box]), geometry, names=names)
    return Task(recipe.name, recipe.kind, whole, CTVolume(np.ascontiguousarray(whole.hu[box]), geometry), cut)


def _names(data: Path, recipe: Recipe) -> dict[int, str]:
    if recipe.labels.startswith("drawn/"):
        return dict(enumerate(DRAWN_NAMES, start=1))
    with open(data / "ct" / "ts_label_names.csv", newline="") as file:
        return {int(row["label"]): row["name"] for row in csv.DictReader(file)}
