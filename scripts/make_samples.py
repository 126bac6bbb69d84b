"""Make the packaged samples from the original volumes, byte for byte the same on every run.

    python scripts/make_samples.py path/to/data    # the folder that holds ct/ and licences/

What is changed, and nothing else: both breathing phases are cut to one box round the body (voxel
values and world coordinates stay); the reference points get names and the column order that
``tapct match --points`` reads. The CT of abdomen and pelvis is repacked as it is.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np

OUT = Path(__file__).resolve().parents[1] / "tapct_core" / "sample_data"
BODY_BOX = (slice(0, 250), slice(30, 174), slice(0, 128))
"""Voxels (x, y, z) kept of the breathing pair: the body and at least 8 mm round it; the rest is air and couch."""
LUNG_BELOW_HU = -400


def main() -> None:
    """Writes the packaged samples anew from the folder of CTs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds ct/ and licences/")
    data = parser.parse_args().data
    OUT.mkdir(parents=True, exist_ok=True)
    for phase in ("t0", "t5"):
        original = nibabel.load(data / "ct" / f"plastimatch_{phase}_ct.nii.gz")
        image = original.slicer[BODY_BOX]
        # Slicing resets the header's codes: both forms again say what they said.
        image.set_qform(image.affine, int(original.header["qform_code"]))
        image.set_sform(image.affine, int(original.header["sform_code"]))
        save(image, OUT / f"breathing_{phase}_ct.nii.gz")
    save_points(data / "ct" / "plastimatch_points_lps_mm.csv", OUT / "breathing_points_lps_mm.csv")
    for part, name in (("ct", "ct"), ("seg", "labels")):
        save(nibabel.load(data / "ct" / f"ts_example_abdpelvis_{part}.nii.gz"), OUT / f"abdomen_pelvis_{name}.nii.gz")
    shutil.copyfile(data / "ct" / "ts_label_names.csv", OUT / "abdomen_pelvis_names.csv")
    for licence in ("plastimatch_bsd-3", "totalsegmentator_apache-2.0"):
        shutil.copyfile(data / "licences" / f"{licence}.txt", OUT / f"LICENSE.{licence.split('_')[0]}.txt")
    for path in OUT.iterdir():
        path.chmod(0o644)


def save(image: nibabel.Nifti1Image, path: Path) -> None:
    """Write .nii.gz with no time stamp or file name in the gzip header, so that equal input gives equal bytes."""
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as packed:
        packed.write(image.to_bytes())


def save_points(source: Path, target: Path) -> None:
    """Columns name, x, y, z (LPS mm in t0) and x_t5, y_t5, z_t5 (the same point in t5)."""
    baseline = nibabel.load(OUT / "breathing_t0_ct.nii.gz")
    hu, to_voxel = np.asanyarray(baseline.dataobj), np.linalg.inv(baseline.affine)
    seen = {"lung": 0, "tissue": 0}
    with open(source, newline="") as rows, open(target, "w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["name", "x", "y", "z", "x_t5", "y_t5", "z_t5"])
        for row in csv.DictReader(rows):
            x, y, z = (float(row[c]) for c in ("x0", "y0", "z0"))
            i, j, k = np.rint(to_voxel[:3, :3] @ (-x, -y, z) + to_voxel[:3, 3]).astype(int)  # the file is RAS
            kind = "lung" if hu[i, j, k] < LUNG_BELOW_HU else "tissue"
            seen[kind] += 1
            table.writerow([f"{kind}_{seen[kind]:03d}", *(row[c] for c in ("x0", "y0", "z0", "x1", "y1", "z1"))])


if __name__ == "__main__":
    main()
