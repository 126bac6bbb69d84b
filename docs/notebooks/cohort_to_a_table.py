# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Follow-up of a cohort to one table
#
# One study a patient, tracked without a screen, gathered into a table. The two "patients" are made here from the
# packaged chest CT: lesions with known truth are put into it, and a second scan is made with another breath, contrast
# and noise. Runs offline. For research only.

# %%
import csv
import json
import tempfile
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np

from tapct_core.cli import main as tapct
from tapct_core.samples import load_sample
from tapct_core.synthetic import make_follow_up

folder = Path(tempfile.mkdtemp())
chest = load_sample("breathing_pair")["baseline"]


def save(volume, path):
    """NIfTI wants (x, y, z) and RAS; a CTVolume has (z, y, x) and LPS."""
    turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(volume.hu.transpose(2, 1, 0).astype(np.int16), turned), path)


# %% [markdown]
# ## A study a patient
# Scans in the order of time, and each lesion's place in the first one, in LPS millimetres.

# %%
studies, truth = [], {}
for seed, patient in enumerate(["p01", "p02"]):
    made = make_follow_up(chest, seed=seed, lesions=5)
    save(made.baseline, folder / f"{patient}_a.nii.gz")
    save(made.follow_up, folder / f"{patient}_b.nii.gz")
    marked = [lesion for lesion in made.lesions if lesion.baseline_radius_mm > 0]
    truth[patient] = {lesion.name: lesion for lesion in marked}
    study = {
        "patient_key": patient,
        "timepoints": [
            {"name": "baseline", "path": f"{patient}_a.nii.gz", "date": "2025-01-02"},
            {"name": "week 12", "path": f"{patient}_b.nii.gz", "date": "2025-03-27"},
        ],
        "lesions": [
            {
                "name": lesion.name,
                "role": "target",
                "findings": {"baseline": {"point_lps_mm": [float(c) for c in lesion.baseline_lps_mm]}},
            }
            for lesion in marked
        ],
    }
    studies.append(folder / f"{patient}.json")
    studies[-1].write_text(json.dumps(study))

# %% [markdown]
# ## Track
# On a command line: `tapct track p01.json --out p01.csv`. `--encoder none` uses Hounsfield units alone.

# %%
for path in studies:
    assert tapct(["track", str(path), "--out", str(path.with_suffix(".csv")), "--encoder", "none"]) == 0

# %%
rows = []
for path in studies:
    with open(path.with_suffix(".csv"), newline="", encoding="utf-8-sig") as file:
        rows += [{"patient": path.stem, **row} for row in csv.DictReader(file)]
print(", ".join(rows[0]))
Counter((row["patient"], row["timepoint"], row["match_status"]) for row in rows)

# %% [markdown]
# ## How far from the truth?
# A cohort of your own has none; then proposals are looked at one by one, in napari: `tapct gui p01.json`.

# %%
placed = []
for path in studies:
    for lesion in json.loads(path.read_text())["lesions"]:
        finding, true = lesion["findings"].get("week 12"), truth[path.stem].get(lesion["name"])
        if finding and finding.get("point_lps_mm") and true and true.in_view and true.follow_up_radius_mm > 0:
            error = float(np.linalg.norm(np.array(finding["point_lps_mm"]) - true.follow_up_lps_mm))
            placed.append(error)
            print(f"{path.stem} {lesion['name']:10} {finding['state']:10} {error:5.1f} mm from the truth")
assert placed and np.median(placed) < 10
