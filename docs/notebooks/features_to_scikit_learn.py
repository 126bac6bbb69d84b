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
# # Features to scikit-learn, and back to the CT
#
# A scan becomes a grid of tokens. Any classifier may learn from them, and what it says goes back onto the CT's own
# grid, as a label map that opens in any viewer. Runs offline on the packaged sample. For research only.

# %%
import tempfile
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score

import tapct_core as tc
from tapct_core.samples import load_sample

sample = load_sample("abdomen_pelvis")
volume, organs = sample["ct"], sample["labels"]
features = tc.embed(volume, tc.load_encoder(device="cpu"))
features.tokens.shape, features.pitch_mm  # (Z, Y, X, C); distance of tokens in mm

# %% [markdown]
# ## What lies at each token
# `Geometry` knows where a token is in the patient, and which voxel of the label map that is.

# %%
grid = np.moveaxis(np.indices(features.geometry.shape), 0, -1).reshape(-1, 3)
where = organs.geometry.to_index(features.geometry.to_world(grid)).round().astype(int)
inside = ((where >= 0) & (where < organs.labels.shape)).all(axis=1) & features.valid.ravel()
truth = np.zeros(len(grid), int)
truth[inside] = organs.labels[tuple(where[inside].T)]

# The five organs with most tokens; 0 is everything else.
largest = [label for label in np.argsort(np.bincount(truth))[::-1] if label != 0][:5]
classes = np.where(np.isin(truth, largest), truth, 0)
[organs.names[label] for label in largest]

# %% [markdown]
# ## A classifier of your choice
# It learns from every second slab of 8 slices of tokens and is tested on the others. One scan is no evaluation:
# neighbouring slabs are alike. Hold patients apart, as [evaluation](../evaluation.md) does.

# %%
tokens = features.tokens.reshape(-1, features.dim).astype(np.float32)
learn = inside & (grid[:, 0] // 8 % 2 == 0)
test = inside & ~learn
rng = np.random.default_rng(0)
chosen = rng.choice(np.flatnonzero(learn), min(8_000, learn.sum()), replace=False)
model = HistGradientBoostingClassifier(max_iter=30, class_weight="balanced", random_state=0)
model.fit(tokens[chosen], classes[chosen])
asked = rng.choice(np.flatnonzero(test), min(8_000, test.sum()), replace=False)
score = balanced_accuracy_score(classes[asked], model.predict(tokens[asked]))
print(f"balanced accuracy on the other slabs: {score:.2f}; by chance {1 / (1 + len(largest)):.2f}")
assert score > 0.4

# %% [markdown]
# ## Back to the CT
# Each voxel takes the class of its nearest token. Finer borders: interpolate probabilities instead, or use
# `tc.segment`.

# %%
predicted = np.zeros(len(grid), np.uint8)
predicted[inside] = model.predict(tokens[inside])
predicted = predicted.reshape(features.geometry.shape)
# Both grids have the same axes here, so that one index a slice, row and column is enough.
nearest = []
for axis, count in enumerate(volume.hu.shape):
    voxels = np.arange(count)[:, None] * np.eye(3)[axis]
    at = features.geometry.to_index(volume.geometry.to_world(voxels))[:, axis]
    nearest.append(at.round().astype(int).clip(0, predicted.shape[axis] - 1))
names = {int(label): organs.names[label] for label in largest}
masks = tc.LabelMap(predicted[np.ix_(*nearest)], volume.geometry, volume.source, names)

# %%
with tempfile.TemporaryDirectory() as folder:
    path = tc.save_labels(masks, Path(folder) / "organs.nii.gz", like=volume)
    again = tc.load_labels(path)
assert again.geometry.matches(volume.geometry) and np.array_equal(again.labels, masks.labels)
overlap = np.isin(masks.labels, largest) & (masks.labels == organs.labels)
share = overlap.sum() / np.isin(organs.labels, largest).sum()
print(f"{share:.0%} of the organs' voxels, half of them seen in learning")
