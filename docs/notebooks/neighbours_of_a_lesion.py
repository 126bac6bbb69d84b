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
# # A lesion's neighbours in an archive
#
# Feature maps of several scans lie in one folder; a click in one of them is compared with every token of the others.
# Runs offline on the packaged samples. For research only.

# %%
import tempfile
from pathlib import Path

import numpy as np

import tapct_core as tc
from tapct_core.archive import embed_many
from tapct_core.samples import load_sample_points, sample_paths
from tapct_core.store import load_features

# %% [markdown]
# ## An archive
# The same as `tapct embed A B C --out archive`: run it again, and what is finished is passed over.

# %%
chest, abdomen = sample_paths("breathing_pair"), sample_paths("abdomen_pelvis")
folder = Path(tempfile.mkdtemp()) / "archive"
paths = [chest["baseline"], chest["followup"], abdomen["ct"]]
done = list(embed_many(paths, folder, tc.load_encoder(device="cpu")))
assert all(result.ok for result in done)
archive = {result.store.name: load_features(result.store) for result in done}
{name: features.tokens.shape for name, features in archive.items()}

# %% [markdown]
# ## The query
# A place in the first scan, in LPS mm. A lesion is more than one token: the mean over a ball of its size is asked
# for, and from all vectors the archive's mean is taken, since what all tissue has in common says nothing.

# %%
names, before, after = load_sample_points()
moved = np.linalg.norm(after - before, axis=1)
at = int(np.argsort(moved)[len(moved) // 2])
query_name = done[0].store.name
offsets = np.array([[x, y, z] for x in (-4, 0, 4) for y in (-4, 0, 4) for z in (-4, 0, 4)], float)
common = np.mean([f.tokens[f.valid].astype(np.float32).mean(axis=0) for f in archive.values()], axis=0)


def unit(vectors):
    vectors = vectors - common
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-6)


query = unit(archive[query_name].sample(before[at] + offsets).mean(axis=0))

# %% [markdown]
# ## Neighbours
# The best places of each scan, at least 20 mm apart.

# %%


def neighbours(features, query, count=3, apart_mm=20.0):
    """(similarity, LPS mm) of the best places, best first."""
    world = features.geometry.to_world(np.argwhere(features.valid))
    alike = unit(features.tokens[features.valid].astype(np.float32)) @ query
    found = []
    for i in np.argsort(alike)[::-1]:
        if all(np.linalg.norm(world[i] - place) >= apart_mm for _, place in found):
            found.append((float(alike[i]), world[i]))
        if len(found) == count:
            break
    return found


best = {}
for name, features in archive.items():
    best[name] = neighbours(features, query)
    for similarity, place in best[name]:
        print(f"{name:28} {similarity:.3f} at {np.round(place, 1)}")

# %% [markdown]
# The same place in the other phase of breathing should be among them, and a chest should be more like it than an
# abdomen.

# %%
other = done[1].store.name
nearest = min(np.linalg.norm(place - after[at]) for _, place in best[other])
print(f"nearest of three to the true place in {other}: {nearest:.0f} mm")
assert best[query_name][0][0] > best[done[2].store.name][0][0]
