"""The frozen-feature evaluation end to end on real CTs: an encoder, its untrained twin and Hounsfield units alone.

    python -m benchmarks.evaluation --data ../shared/data --work WORK                  the packaged encoder
    python -m benchmarks.evaluation --data ../shared/data --work WORK --encoder DIR    another; --page elsewhere

Two data sets are written into WORK in the layout of a folder and run through `python -m training.evaluate
segmentation` and `report`, cross-validated by patient, from the train and dev patients alone:

- limbs: 14 sarcomas of thigh, hip and knee; the tumour is an expert's contour, bone, fat and muscle are tissues by HU;
- trunk: 7 chests and abdomens; lung, bone, fat and soft tissue by HU.

Tissues by HU are what HU alone should be best at: they say whether an encoder keeps what the image shows. The tumour is
the class that takes more. WORK keeps features and results, so that the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from benchmarks.probe.tasks import limb
from scipy import ndimage

from benchmarks.common import machine_line
from tapct_core.body import body_mask
from tapct_core.io import load_ct, save_labels
from tapct_core.volume import CTVolume, LabelMap
from training.evaluate.__main__ import main as evaluate

PAGE = Path("docs/results/evaluation.md")
LIMBS = (1, 2, 3, 6, 8, 10, 12, 14, 15, 18, 19, 23, 24, 25)
TRUNKS = (
    "cip_chest_64", "crlm_ct_1004", "crlm_ct_1006", "lidc_0314", "pyradiomics_lung1", "pyradiomics_lung2",
    "ts_aorta_cta",
)  # fmt: skip
LIMB_CLASSES = {1: "bone", 2: "fat", 3: "muscle", 4: "tumour"}
TRUNK_CLASSES = {1: "bone", 2: "fat", 3: "soft tissue", 4: "lung"}
RULES_OF_HU = ((1, 250, 4000), (2, -150, -30), (3, 0, 200))
FOLDS, STEPS = 5, 600
CAUTION = (
    "Small sets of openly licensed CTs, cropped and resampled; all but the limb tumours are tissues defined by HU, not "
    "organs drawn by anybody. The encoder was pretrained, without labels, on some of these scans (the train patients), "
    "so this says what the features hold, not how they carry over to another hospital."
)


def main(argv: list[str] | None = None) -> int:
    """Makes the data sets, runs the evaluation and writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="data sets, features and results")
    parser.add_argument("--encoder", default="tap-ct-xs-3d", metavar="NAME|DIR")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE.md")
    parser.add_argument("--only", choices=("limbs", "trunk"), help="one data set of the two")
    args = parser.parse_args(argv)
    names = [args.only] if args.only else ["limbs", "trunk"]
    for name in names:
        root = args.work / "data" / name
        if not (root / "cases.csv").is_file():
            write_dataset(root, limbs(args.data) if name == "limbs" else trunks(args.data))
        words = ["--root", root, "--out", args.work / name, "--features", args.work / "features", "--device", "cpu"]
        words += ["--encoder", args.encoder, f"untrained:{args.encoder}", "none", "--folds", FOLDS, "--steps", STEPS]
        code = evaluate(["segmentation", "--dataset", "folder", *map(str, words)])
        if code:
            return code
    code = evaluate(["report", *(str(args.work / name) for name in names), "--out", str(args.work / "page")])
    if code == 0:
        publish(args.work / "page", args.page)
    return code


def limbs(data: Path) -> Iterator[tuple[str, Path, LabelMap]]:
    """(case, CT, labels) of the limb sarcomas, train and dev patients."""
    for number in LIMBS:
        task = limb(data, number)
        labels = LabelMap(task.truth.labels, task.volume.geometry, task.volume.source, LIMB_CLASSES)
        yield f"sts_{number:03d}", data / "ct_limbs" / f"sts_{number:03d}_ct.nii.gz", labels


def trunks(data: Path) -> Iterator[tuple[str, Path, LabelMap]]:
    """(case, CT, labels) of chests and abdomens, train and dev patients."""
    for name in TRUNKS:
        path = data / "ct" / f"{name}_ct.nii.gz"
        volume = load_ct(path)
        yield name, path, LabelMap(tissues(volume), volume.geometry, volume.source, TRUNK_CLASSES)


def tissues(volume: CTVolume) -> np.ndarray:
    """Bone, fat and soft tissue by HU in the body, and lung: large air spaces inside it. (z, y, x) uint8."""
    body = body_mask(volume.hu, volume.geometry.spacing_mm)
    sigma = [1.0 / s for s in volume.geometry.spacing_mm]
    smooth = ndimage.gaussian_filter(volume.hu.astype(np.float32), sigma)
    labels = np.zeros(volume.hu.shape, np.uint8)
    for value, low, high in RULES_OF_HU:
        labels[(smooth >= low) & (smooth < high) & body] = value
    inside = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    pieces, _ = ndimage.label((smooth < -500) & inside)
    sizes = np.bincount(pieces.reshape(-1)) * np.prod(volume.geometry.spacing_mm) / 1000
    large = sizes > 100  # ml: lungs, not the gas of a bowel
    large[0] = False
    labels[large[pieces]] = 4
    return labels


def write_dataset(root: Path, cases: Iterator[tuple[str, Path, LabelMap]]) -> None:
    """A folder data set: label maps, classes.csv, and cases.csv last, which says that the rest is whole."""
    rows = []
    for name, ct, labels in cases:
        save_labels(labels, root / "labels" / f"{name}.nii.gz")
        rows.append([name, ct.absolute(), f"labels/{name}.nii.gz", name])
        classes = labels.names
    _write_csv(root / "classes.csv", ["value", "name"], list(classes.items()))
    _write_csv(root / "cases.csv", ["case", "ct", "labels", "patient"], rows)


def publish(page: Path, target: Path) -> None:
    """The report's Markdown and its pictures beside it, under a head that says how it was made."""
    text = (page / "report.md").read_text(encoding="utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    for picture in sorted((page / "pictures").glob("*.png")):
        name = f"{target.stem}_{picture.name.replace('-', '_')}"
        text = text.replace(f"pictures/{picture.name}", name)
        (target.parent / name).write_bytes(picture.read_bytes())
    title, rest = text.split("\n\n", 1)
    head = f"Written by `python -m benchmarks.evaluation` on {machine_line()}."
    target.write_text("\n\n".join([title, head, CAUTION, rest]), encoding="utf-8")


def _write_csv(path: Path, header: list[str], rows: list) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    sys.exit(main())
