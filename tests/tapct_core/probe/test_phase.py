"""Copies in other contrast phases, and probes adapted to a scan without labels."""

from __future__ import annotations

import numpy as np

from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe
from tapct_core.probe.phase import phase_copies, shifted_phase
from tapct_core.volume import CTVolume, LabelMap
from tests.tapct_core.probe.noise import TOKENS, VOXELS


def organs() -> tuple[CTVolume, LabelMap]:
    hu = np.full(VOXELS.shape, 50, np.int16)
    hu[:, :5] = -1024
    hu[:, 35:] = 600
    labels = np.zeros(VOXELS.shape, np.uint8)
    labels[4:12, 10:30, 10:30], labels[:, 35:] = 1, 2
    return CTVolume(hu, VOXELS), LabelMap(labels, VOXELS)


def test_phase_copies_change_soft_labels_and_leave_air_and_bone():
    volume, labels = organs()
    copies = phase_copies(volume, labels, 3, seed=4)
    inner = (slice(6, 10), slice(14, 26), slice(14, 26))
    levels = [float(c.hu[inner].mean()) for c in copies]
    assert max(levels) - min(levels) > 10 and all(10 < v < 200 for v in levels)
    assert all((c.hu[:, :3] == -1024).all() for c in copies)
    assert all(abs(float(c.hu[:, 37:].mean()) - 600) < 65 for c in copies)
    again = phase_copies(volume, labels, 3, seed=4)
    assert all(np.array_equal(a.hu, b.hu) for a, b in zip(copies, again, strict=True))
    assert not np.array_equal(copies[0].hu, phase_copies(volume, labels, 1, seed=5)[0].hu)


def test_a_shifted_phase_adds_what_was_asked_for():
    volume, labels = organs()
    shifted = shifted_phase(volume, labels, {1: 80.0})
    difference = shifted.hu.astype(int) - volume.hu
    assert (difference[6:10, 14:26, 14:26] == 80).all() and (difference[0] == 0).all()
    coarse = LabelMap(labels.labels[::2, ::2, ::2], VOXELS.pooled((2, 2, 2)))
    assert (shifted_phase(volume, coarse, {1: 80.0}).hu[7:9, 14:26, 14:26] == 130).all()


def test_adapting_moves_the_frequencies_towards_the_scans_own(features):
    """A class that the scan hardly has is given less weight, and nothing else of the probe changes."""
    tokens = np.random.default_rng(0).normal(size=(*TOKENS.shape, 2)).astype(np.float16)
    tokens[..., 0] += 1.5  # mostly class 1's side
    target = FeatureMap(tokens, np.ones(TOKENS.shape, bool), TOKENS, features.hu, VOXELS, np.zeros((0, 2), np.float16))
    tokens = tokens.copy()
    tokens[::2, ..., 0] -= 3
    source = FeatureMap(tokens, target.valid, TOKENS, features.hu, VOXELS, target.cls)
    truth = np.ones(VOXELS.shape, np.uint8)
    truth[(np.arange(16) // 2) % 2 == 0] = 2
    probe = LinearProbe.fit([(source, LabelMap(truth, VOXELS))], standardise="fit")
    adapted = probe.adapted(target)
    gain = adapted.constants - probe.constants
    assert gain[0] > gain[1] and np.array_equal(adapted.weights, probe.weights)
    assert (adapted.predict(target, VOXELS).labels == 1).mean() > (probe.predict(target, VOXELS).labels == 1).mean()
