"""Whether a scan looks like those a probe learned from: an abdominal probe finds a liver in a thigh without a blush."""

from __future__ import annotations

import numpy as np

from ..features import FeatureMap
from .channels import statistics
from .model import Probe

MOST_UNLIKE = 0.20
"""Chosen on train and dev patients with the packaged encoder: chests and abdomens of seven patients lie 0.09 to 0.19
from one another, thighs and knees 0.21 to 0.40 from them (``python -m benchmarks.likeness``)."""


def unlikeness(probe: Probe, features: FeatureMap) -> float:
    """How far the mean token of a scan's body lies from that of the scans fitted on, in deviations among their tokens:
    the root mean square over the tokens' numbers. 0 for features without tokens."""
    if not features.dim:
        return 0.0
    own, learned = statistics(features, probe.recipe.hu_features), probe.standard
    away = (own.mean[: features.dim] - learned.mean[: features.dim]) / learned.std[: features.dim]
    return float(np.sqrt(np.mean(np.square(away))))


def warning_if_unlike(probe: Probe, features: FeatureMap) -> str:
    """A sentence for a scan that is unlike those fitted on, "" for one like them."""
    distance = unlikeness(probe, features)
    if distance <= MOST_UNLIKE:
        return ""
    return (
        f"this scan looks unlike those that the probe learned from (distance {distance:.2f}, usual up to "
        f"{MOST_UNLIKE:.2f}): another region of the body, or only a part of it. Look at each mask before you use it"
    )
