"""The paper's read-out: it learns what is linear, is the same twice, and trains on what the prediction says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.probe import dice_report
from tapct_core.probe.channels import statistics
from tapct_core.probe.conv import _scores
from tapct_core.probe.conv_blocks import UNKNOWN, class_index, draw_blocks
from tapct_core.volume import LabelMap
from training.evaluate.heads.linear_conv import fit_linear_conv

CLASSES, NAMES = (0, 3, 7), {3: "ball", 7: "slab"}


def scan(
    seed: int, noise: float = 0.1, holes: bool = False, shape: tuple[int, int, int] = (16, 48, 48)
) -> tuple[FeatureMap, LabelMap]:
    """Tokens of 6 channels that know the classes of their place, turned by a fixed rotation, and the labels.

    Labels lie on a grid of ``shape``, four times as fine as the tokens' in plane and twice in depth.
    """
    rng = np.random.default_rng(seed)
    fine = Geometry.from_spacing(shape, (2.0, 1.0, 1.0), (5.0, -3.0, 20.0))
    coarse = fine.pooled((2, 4, 4))
    zyx = np.moveaxis(np.indices(fine.shape), 0, -1)
    labels = np.zeros(fine.shape, np.uint8)
    labels[:, rng.integers(2, 8) :, shape[2] - 12 :] = 7
    centre = np.array([8, 22, 16]) + rng.integers(-4, 5, 3)
    labels[np.linalg.norm((zyx - centre) * (2, 1, 1), axis=-1) < 11] = 3
    shares = np.stack([labels == value for value in CLASSES], axis=-1).astype(float)
    tokens = shares.reshape(*_pairs(coarse.shape), 3).mean(axis=(1, 3, 5))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    tokens = np.concatenate([tokens, np.zeros_like(tokens)], axis=-1) @ rotation
    tokens = tokens + noise * rng.normal(size=tokens.shape)
    valid = np.ones(coarse.shape, bool)
    valid[:, :2] = not holes
    features = FeatureMap(
        tokens.astype(np.float16), valid, coarse, np.zeros(fine.shape, np.int16), fine, np.zeros((0, 6), np.float16)
    )
    return features, LabelMap(labels, fine)


def _pairs(tokens: tuple[int, int, int]) -> tuple[int, ...]:
    """The fine grid's shape with each axis parted into tokens and what lies within one."""
    return tuple(n for pair in zip(tokens, (2, 4, 4), strict=True) for n in pair)


def test_it_learns_what_tokens_know():
    probe, curve = fit_linear_conv([scan(n) for n in range(4)], 4, CLASSES, NAMES, steps=300)
    features, truth = scan(9)
    found = dice_report(probe.predict(features, like=truth), truth)
    assert min(row["dice"] for row in found["classes"].values()) > 0.85
    assert curve[0][1] > 2 * curve[-1][1] and curve[-1][0] == 300
    assert probe.classes == CLASSES and probe.names == NAMES and probe.weights.shape == (6, 3)


def test_tokens_that_know_nothing_teach_nothing():
    shuffled = []
    for n in range(3):
        features, labels = scan(n)
        order = np.random.default_rng(n).permutation(8 * 12 * 12)
        mixed = features.tokens.reshape(-1, 6)[order].reshape(features.tokens.shape)
        shuffled.append((replace(features, tokens=mixed), labels))
    probe, _ = fit_linear_conv(shuffled[:2], 2, CLASSES, NAMES, steps=150)
    features, truth = shuffled[2]
    assert dice_report(probe.predict(features, like=truth), truth)["mean_dice"] < 0.45


def test_the_same_seed_gives_the_same_head_and_another_another():
    scans = [scan(n) for n in range(2)]
    heads = [fit_linear_conv(scans, 2, CLASSES, NAMES, steps=20, seed=seed)[0] for seed in (0, 0, 1)]
    assert np.array_equal(heads[0].weights, heads[1].weights)
    assert not np.array_equal(heads[0].weights, heads[2].weights)


def test_the_loss_sees_the_scores_that_the_prediction_ranks():
    """A scan of a block's size is one block, so training's winners must be the prediction, voxel by voxel."""
    features, labels = scan(1, shape=(12, 40, 40))
    probe, _ = fit_linear_conv([(features, labels)], 1, CLASSES, NAMES, steps=30)
    (block,) = draw_blocks(
        features, labels, class_index(labels, CLASSES), statistics(features, None), None, 1, np.random.default_rng(3)
    )
    scores = _scores(block, torch.tensor(probe.weights), torch.tensor(probe.constants), "cpu").numpy()
    winners = np.array(CLASSES)[scores.argmax(axis=0)]
    assert np.array_equal(np.array(CLASSES)[block.truth], labels.labels)
    assert np.mean(winners == probe.predict(features, like=labels).labels) > 0.999  # tokens are float16 in a block


def test_voxels_beside_air_do_not_teach():
    features, labels = scan(2, holes=True)
    blocks = draw_blocks(
        features, labels, class_index(labels, CLASSES), statistics(features, None), None, 40, np.random.default_rng(0)
    )
    assert blocks and any((block.truth == UNKNOWN).any() for block in blocks)
    known = [block.truth[block.truth != UNKNOWN] for block in blocks]
    assert all(len(part) and set(np.unique(part)) <= {0, 1, 2} for part in known)


def test_small_classes_are_met_as_often_as_large_ones():
    features, labels = scan(3)
    index = class_index(labels, CLASSES)
    assert (index == 0).sum() > 2 * (index == 1).sum()
    blocks = draw_blocks(features, labels, index, statistics(features, None), None, 60, np.random.default_rng(0))
    assert np.mean([(block.truth == 1).any() for block in blocks[::2]]) > 0.4


def test_nothing_but_background_is_refused():
    features, labels = scan(0)
    empty = LabelMap(np.zeros_like(labels.labels), labels.geometry)
    with pytest.raises(UserError, match="fewer than two classes"):
        fit_linear_conv([(features, empty)], 1, CLASSES, NAMES, steps=5)
