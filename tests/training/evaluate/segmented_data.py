"""Miniature segmentation data sets in the layouts in which they are distributed, made from one real chest CT.

Classes are tissues by HU, so that a linear head can learn them: 1 soft tissue, 2 bone.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .labelled_data import chest, variant, write, write_csv

AMOS_ORGANS = (
    "background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver", "stomach", "arota",
    "postcava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder", "prostate/uterus",
)  # fmt: skip
SOFT, BONE = 1, 2


def tissues(hu: np.ndarray) -> np.ndarray:
    """Labels (z, y, x) uint8 of a CT by its HU."""
    return np.where(hu > 180, BONE, np.where(hu > -150, SOFT, 0)).astype(np.uint8)


def case(data_dir: Path, ct: Path, labels: Path | None, number: int) -> np.ndarray:
    """One scan and its label map, by number; returns the labels."""
    hu = variant(chest(data_dir), number)
    write(ct, hu)
    if labels is not None:
        write(labels, tissues(hu))
    return tissues(hu)


def folder(root: Path, data_dir: Path, count: int, split: bool = False) -> Path:
    """cases.csv, classes.csv and ``count`` cases of as many patients; ``split``: every third is to be tested."""
    rows = []
    for number in range(count):
        name = f"c{number}"
        case(data_dir, root / "ct" / f"{name}.nii.gz", root / "labels" / f"{name}.nii.gz", number)
        part = ("test" if number % 3 == 2 else "train") if split else ""
        rows.append([name, f"ct/{name}.nii.gz", f"labels/{name}.nii.gz", part, f"p{number}"])
    write_csv(root / "classes.csv", "value,name", [[SOFT, "soft tissue"], [BONE, "bone"]])
    return write_csv(root / "cases.csv", "case,ct,labels,split,patient", rows)


def amos22(root: Path, data_dir: Path) -> None:
    """AMOS22: 3 CTs to learn from, 2 to be tested, and one of each trouble.

    amos_0004 has no label map, amos_0005 one on another grid, amos_0006 is tested and has empty annotations, amos_0007
    holds a value that no organ has, amos_0507 is an MR (here no image at all: it must not be opened).
    """
    for number in (1, 2, 3):
        _amos(root, data_dir, "Tr", number)
    for number in (8, 13):
        _amos(root, data_dir, "Va", number)
    case(data_dir, root / "imagesTr" / "amos_0004.nii.gz", None, 4)
    labels = case(data_dir, root / "imagesTr" / "amos_0005.nii.gz", None, 5)
    write(root / "labelsTr" / "amos_0005.nii.gz", labels[:, :40])
    labels = case(data_dir, root / "imagesVa" / "amos_0006.nii.gz", None, 6)
    write(root / "labelsVa" / "amos_0006.nii.gz", np.zeros_like(labels))
    labels = case(data_dir, root / "imagesTr" / "amos_0007.nii.gz", None, 7)
    write(root / "labelsTr" / "amos_0007.nii.gz", np.where(labels == BONE, 77, labels).astype(np.uint8))
    (root / "imagesTr" / "amos_0507.nii.gz").write_bytes(b"an MR is not opened")
    listed = {
        "training": [_entry("Tr", n) for n in (1, 2, 3, 4, 5, 7, 507)],
        "validation": [_entry("Va", n) for n in (6, 8, 13)],
        "test": [{"image": "./imagesTs/amos_0009.nii.gz"}],
    }
    labels = {str(value): name for value, name in enumerate(AMOS_ORGANS)}
    (root / "dataset.json").write_text(
        json.dumps({"name": "AMOS", "modality": {"0": "CT"}, "labels": labels, **listed})
    )


def lits17(root: Path, data_dir: Path, count: int = 5) -> None:
    """LiTS17: volume-N.nii and segmentation-N.nii in two batches, and a scan of its test set, which has no labels."""
    for number in range(count):
        batch = root / f"Training Batch {1 + number % 2}"
        case(data_dir, batch / f"volume-{number}.nii", batch / f"segmentation-{number}.nii", number)
    case(data_dir, root / "test" / "test-volume-0.nii", None, 9)


def _amos(root: Path, data_dir: Path, part: str, number: int) -> None:
    name = f"amos_{number:04d}.nii.gz"
    case(data_dir, root / f"images{part}" / name, root / f"labels{part}" / name, number)


def _entry(part: str, number: int) -> dict[str, str]:
    name = f"amos_{number:04d}.nii.gz"
    return {"image": f"./images{part}/{name}", "label": f"./labels{part}/{name}"}
