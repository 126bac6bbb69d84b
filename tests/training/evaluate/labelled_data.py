"""Miniature labelled data sets in the layouts in which they are distributed, made from one real chest CT.

A class shows as a density: dense scans have 600 HU added inside the body, nodules are balls of 4 voxels' radius.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tapct_core import load_ct
from tapct_core.encoders import save_encoder, untrained_encoder
from tapct_core.preprocessing import InputSpec
from tapct_core.vit import ViTConfig
from tapct_core.volume import CTVolume

SPACING_MM = (4.0, 4.0, 4.0)


def tiny_encoder(folder: Path, name: str, seed: int = 0) -> str:
    """A folder of a network small enough to embed a scan in hundredths of a second; random weights of a size that lets
    tokens differ."""
    config = ViTConfig(
        patch_size=(2, 4, 4), img_size=(8, 32, 32), embed_dim=24, depth=2, num_heads=2, layer_scale_init=0.5
    )
    spec = InputSpec(patch_size=(2, 4, 4), img_size=(8, 32, 32), plan="spacing", spacing_mm=SPACING_MM)
    encoder = untrained_encoder(config, spec, seed)
    save_encoder(folder / name, encoder.vit, spec, extra={"name": name, "trained": False})
    return str(folder / name)


def chest(data_dir: Path) -> CTVolume:
    """The coarse chest CT that all miniatures are cut from: 64 x 64 pixels, 79 slices."""
    return load_ct(data_dir / "ct" / "cip_chest_64_ct.nii.gz")


def variant(volume: CTVolume, number: int, reach: int = 100) -> np.ndarray:
    """A crop (24, 48, 48) of the CT, by number: up to ``reach`` voxels from the middle, flipped or not, a little denser
    or not; int16 HU."""
    rng = np.random.default_rng(number)
    room = [(n - size) // 2 for n, size in zip(volume.hu.shape, (24, 48, 48), strict=True)]
    z, y, x = (most + int(rng.integers(-min(most, reach), min(most, reach) + 1)) for most in room)
    hu = volume.hu[z : z + 24, y : y + 48, x : x + 48]
    hu = hu[..., ::-1] if number % 2 else hu
    return (hu + rng.integers(-15, 16)).clip(-1024, 3000).astype(np.int16)


def write(path: Path, hu: np.ndarray, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)) -> sitk.Image:
    """HU (z, y, x) to a file in the format of its name; returns the image, which knows the file's world, LPS mm."""
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin((-90.0, -100.0, 40.0))
    image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return image


def write_volume(path: Path, volume: CTVolume) -> None:
    """A CTVolume with its own geometry."""
    image = sitk.GetImageFromArray(np.array(volume.hu))
    image.SetSpacing(volume.geometry.spacing_mm[::-1])
    image.SetOrigin(volume.geometry.origin_mm)
    image.SetDirection(volume.geometry.direction[:, ::-1].ravel().tolist())
    sitk.WriteImage(image, str(path))


def write_csv(path: Path, columns: str, rows) -> Path:
    """A CSV with the columns of a header line."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([columns.split(","), *rows])
    return path


def labelled_scans(folder: Path, data_dir: Path, labels: list[str], dense: list[bool]) -> Path:
    """scans.csv and a NIfTI each: ``dense`` scans have 600 HU added where there is tissue; two scans a patient."""
    volume = chest(data_dir)
    rows = []
    for number, (label, is_dense) in enumerate(zip(labels, dense, strict=True)):
        hu = variant(volume, number, reach=3)
        hu = np.where((hu > -500) & is_dense, hu + 600, hu).astype(np.int16)
        write(folder / "ct" / f"scan{number:02d}.nii.gz", hu)
        rows.append([f"scan{number:02d}", f"ct/scan{number:02d}.nii.gz", label, f"p{number // 2}"])
    return write_csv(folder / "scans.csv", "case,ct,label,patient", rows)


def luna16(folder: Path, data_dir: Path, subsets: int = 3, each: int = 2) -> dict[str, list[tuple[float, ...]]]:
    """LUNA16's layout: subsets of mhd/raw, annotations.csv and candidates_V2.csv; returns the nodules by series.

    Every second scan has the in-plane axes turned round in its header, as some of LUNA16 have; places are given by
    SimpleITK, which is not what reads them.
    """
    volume = chest(data_dir)
    annotations, candidates, nodules = [], [], {}
    for number in range(subsets * each):
        uid = f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{number:024d}"
        rng = np.random.default_rng(100 + number)
        hu = variant(volume, number).copy()
        centres = [np.array([6 + 12 * i, *rng.integers(8, 40, size=2)]) for i in range(2)]
        zyx = np.stack(np.meshgrid(*map(np.arange, hu.shape), indexing="ij"), axis=-1)
        for centre in centres:
            hu[np.linalg.norm(zyx - centre, axis=-1) <= 4] = 1500
        turned = (-1, 0, 0, 0, -1, 0, 0, 0, 1) if number % 2 else (1, 0, 0, 0, 1, 0, 0, 0, 1)
        image = write(folder / f"subset{number // each}" / f"{uid}.mhd", hu, direction=turned)
        places = [image.TransformContinuousIndexToPhysicalPoint([float(c) for c in centre[::-1]]) for centre in centres]
        nodules[uid] = places
        for place in places:
            annotations.append([uid, *place, 32.0])
            candidates.append([uid, *place, 1])
        for _ in range(12):
            index = rng.integers((2, 2, 2), np.array(hu.shape) - 2)
            if min(np.linalg.norm(index - centre) for centre in centres) > 9:
                point = image.TransformContinuousIndexToPhysicalPoint([float(c) for c in index[::-1]])
                candidates.append([uid, *point, 0])
    write_csv(folder / "annotations.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm", annotations)
    write_csv(folder / "candidates_V2.csv", "seriesuid,coordX,coordY,coordZ,class", candidates)
    return nodules
