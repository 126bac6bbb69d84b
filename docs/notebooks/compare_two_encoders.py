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
# # Compare two encoders on your own scans
#
# Two questions of each: how well do its tokens alone find a place again, and how well does a linear probe segment
# from them? Here on the packaged samples; put your scans in their place. Runs offline. For research only.

# %%
import numpy as np
import torch
from torch import nn

import tapct_core as tc
from tapct_core.samples import load_sample, load_sample_points

# %% [markdown]
# ## Two encoders
# The packaged one, and an untrained network of your own behind the same `Encoder`. A name of the hub or a folder
# would do.

# %%
packaged = tc.load_encoder(device="cpu")


class Small(nn.Module):
    """One strided convolution, (B, 1, D, H, W) to (B, C, D / 4, H / 4, W / 4)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(1, 64, kernel_size=4, stride=4)

    def forward(self, voxels):
        return torch.relu(self.stem(voxels))


torch.manual_seed(0)
untrained = tc.Encoder.from_module(Small(), packaged.spec, name="untrained", trained=False, device="cpu")
encoders = {"packaged": packaged, "untrained": untrained}

# %% [markdown]
# ## Finding places again
# Tokens alone, the most similar token of the whole follow-up: harder than `tc.match_points`, which also uses HU and
# motion, and so a question of the encoder. The points are those of the breathing pair.

# %%
pair = load_sample("breathing_pair")
_, before, after = load_sample_points()
before, after = before[::3], after[::3]


def places(features):
    grid = np.argwhere(features.valid)
    tokens = features.tokens[features.valid].astype(np.float32)
    return features.geometry.to_world(grid), tokens / (np.linalg.norm(tokens, axis=1, keepdims=True) + 1e-6)


errors = {}
for name, encoder in encoders.items():
    a, b = tc.embed(pair["baseline"], encoder), tc.embed(pair["followup"], encoder)
    world, tokens = places(b)
    query = a.sample(before)
    query /= np.linalg.norm(query, axis=1, keepdims=True) + 1e-6
    found = world[(query @ tokens.T).argmax(axis=1)]
    errors[name] = np.linalg.norm(found - after, axis=1)
    print(f"{name:10} median {np.median(errors[name]):6.1f} mm, within 10 mm {np.mean(errors[name] <= 10):.0%}")

# %% [markdown]
# Are they different, or is it chance? The same points were asked of both, so their differences are drawn again.

# %%
rng = np.random.default_rng(0)
better = (errors["packaged"] <= 10).astype(float) - (errors["untrained"] <= 10)
draws = [rng.choice(better, len(better)).mean() for _ in range(2000)]
low, high = np.percentile(draws, [2.5, 97.5])
print(f"packaged minus untrained, within 10 mm: {better.mean():+.0%} (95 % interval {low:+.0%} to {high:+.0%})")

# %% [markdown]
# ## Segmenting
# A linear probe learns from one half of the scan and is asked for the other. With several patients: learn from some,
# ask for the others, and use [the evaluation](../evaluation.md), which has intervals and keeps patients apart.

# %%
sample = load_sample("abdomen_pelvis")
volume, organs = sample["ct"], sample["labels"]
counts = np.bincount(organs.labels.ravel())
largest = [int(label) for label in np.argsort(counts)[::-1] if label != 0][:4]
truth = np.where(np.isin(organs.labels, largest), organs.labels, 0)
half = np.arange(truth.shape[2]) % 40 < 20  # slabs from right to left, so that each organ is in both halves
few = np.zeros_like(truth)
few[:, :, half] = truth[:, :, half]
names = {label: organs.names[label] for label in largest}

dice = {}
for name, encoder in encoders.items():
    features = tc.embed(volume, encoder)
    probe = tc.LinearProbe.fit([(features, tc.LabelMap(few, organs.geometry, organs.source, names))], zero="unlabelled")
    said = probe.predict(features, like=volume).labels[:, :, ~half]
    asked = truth[:, :, ~half]
    within = asked > 0  # zero was not taught: only where there is one of the organs is it asked which one
    dice[name] = [
        2 * ((said == v) & (asked == v) & within).sum() / max(1, ((said == v) & within).sum() + (asked == v).sum())
        for v in largest
    ]
    of_each = ", ".join(f"{names[v]} {d:.2f}" for v, d in zip(largest, dice[name], strict=True))
    print(f"{name:10} Dice {np.mean(dice[name]):.2f}: {of_each}")

assert np.median(errors["packaged"]) < np.median(errors["untrained"])
