"""The packaged samples: real CTs small enough to travel with the wheel, each with its licence beside it."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import UserError
from .io import load_ct, load_labels
from .volume import CTVolume, LabelMap

FOLDER = Path(__file__).parent / "sample_data"


@dataclass(frozen=True)
class Sample:
    """One packaged sample. ``files`` maps a role ("baseline", "labels", "points" ...) to a file of the folder."""

    title: str
    files: dict[str, str]
    licence: str
    """SPDX identifier; the text lies in ``files["licence"]``."""
    citation: str
    caution: str
    """What must not be read into it."""


SAMPLES: dict[str, Sample] = {
    "breathing_pair": Sample(
        title="Chest CT, two phases of breathing",
        files={
            "baseline": "breathing_t0_ct.nii.gz",
            "followup": "breathing_t5_ct.nii.gz",
            "points": "breathing_points_lps_mm.csv",
            "licence": "LICENSE.plastimatch.txt",
        },
        licence="BSD-3-Clause",
        citation="plastimatch test data, Copyright 2011-2018 Gregory C. Sharp",
        caution=(
            "One patient in two phases of breathing, resampled to 2 x 2 x 2.5 mm and cut to the body: a stand-in "
            "for a follow-up, not one in time. The points come from a two-way registration, good to about 1 mm."
        ),
    ),
    "abdomen_pelvis": Sample(
        title="CT of abdomen and pelvis with organ labels",
        files={
            "ct": "abdomen_pelvis_ct.nii.gz",
            "labels": "abdomen_pelvis_labels.nii.gz",
            "names": "abdomen_pelvis_names.csv",
            "licence": "LICENSE.totalsegmentator.txt",
        },
        licence="Apache-2.0",
        citation="Wasserthal et al., Radiology: Artificial Intelligence 2023, doi:10.1148/ryai.230024",
        caution="3 mm voxels. The labels are TotalSegmentator's output, not an expert's.",
    ),
}


def sample_paths(name: str) -> dict[str, Path]:
    """Role -> file of the sample ``name``. Raises UserError for a name that is not in SAMPLES."""
    if name not in SAMPLES:
        raise UserError(f"there is no sample {name!r}; the samples are {', '.join(SAMPLES)}")
    return {role: FOLDER / file for role, file in SAMPLES[name].files.items()}


def load_sample(name: str) -> dict[str, CTVolume | LabelMap]:
    """The volumes of the sample ``name`` by role; a label map comes with its labels' names."""
    paths = sample_paths(name)
    volumes = {role: load_ct(paths[role]) for role in ("baseline", "followup", "ct") if role in paths}
    if "labels" in paths:
        volumes["labels"] = replace(load_labels(paths["labels"]), names=_read_names(paths["names"]))
    return volumes


def load_sample_points() -> tuple[list[str], np.ndarray, np.ndarray]:
    """The breathing pair's reference points: names, and LPS mm (N, 3) in the baseline and in the follow-up."""
    with open(sample_paths("breathing_pair")["points"], newline="") as file:
        rows = list(csv.DictReader(file))
    before = [[float(row[c]) for c in ("x", "y", "z")] for row in rows]
    after = [[float(row[c]) for c in ("x_t5", "y_t5", "z_t5")] for row in rows]
    return [row["name"] for row in rows], np.array(before), np.array(after)


def _read_names(path: Path) -> dict[int, str]:
    with open(path, newline="") as file:
        return {int(row["label"]): row["name"] for row in csv.DictReader(file)}
