"""LiTS17 as it is distributed: volume-N.nii and segmentation-N.nii, in one folder or in its "Training Batch" folders.

131 CTs with labels (1 liver, 2 tumour); the challenge's test labels are not public and it names no split, so a seeded
one is made. Scans of its test set, test-volume-N.nii, are passed over. In some cases the segmentation's header holds
an identity matrix (LITS_053 in github.com/MIC-DKFZ/nnUNet, issue 2751): its voxels are the scan's, so the scan's header
is taken. In cases 28 to 47, the 3D-IRCADb ones, the scan's own header may hold one as well: then its spacing of 1 mm
is false, which nothing here can know.
"""

from __future__ import annotations

import re
from pathlib import Path

from tapct_core.errors import UserError

from .cases import Case, Dataset

CLASSES = {1: "liver", 2: "tumour"}
NOTE = (
    "LiTS17 (Bilic et al. 2023, Medical Image Analysis 84:102680): its labelled training scans, the challenge's labels."
)
_VOLUME = re.compile(r"^volume-(\d+)\.nii(\.gz)?$")


def read(root: Path) -> Dataset:
    """All labelled scans, by number. Raises UserError where there are none, or one number twice."""
    if not root.is_dir():
        raise UserError(f"{root} is no folder; give the one in which LiTS17 was unpacked")
    found = sorted(
        (int(match.group(1)), path)
        for path in root.rglob("volume-*")
        if (match := _VOLUME.match(path.name)) is not None
    )
    if not found:
        raise UserError(f"{root} holds no volume-N.nii; give the folder in which LiTS17's training batches lie")
    labels = {path.name: path for path in root.rglob("segmentation-*")}
    cases = []
    for number, volume in found:
        names = [f"segmentation-{number}{suffix}" for suffix in (".nii", ".nii.gz")]
        beside = next((labels[name] for name in names if name in labels), volume.with_name(names[0]))
        cases.append(Case(f"lits-{number}", volume, beside, scan_header=True))
    return Dataset("LiTS17", tuple(cases), CLASSES, note=NOTE)
