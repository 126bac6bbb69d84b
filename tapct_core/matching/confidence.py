"""How sure a match is, in two probabilities: that the place is right, and that the lesion is still there.

A similarity is no confidence (DeepLesion tracking: the score of a published tracker does not separate its hits
from its misses), and a way back that ends at the click cannot see that a lesion has vanished. So the signs of
a good place and of a persisting lesion are weighed by two logistic regressions, fitted on synthetic follow-ups
whose truth is known (benchmarks/calibrate_matching.py) and kept in calibration.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .correlation import Image, correlate

PLACE_SIGNS = (
    "similarity", "ncc", "cycle_mm", "votes_cycle_mm", "votes_spread_mm", "margin", "leads", "off_prior_mm",
    "prior_spread_mm", "inside_mm", "agreement",
)  # fmt: skip
PRESENCE_SIGNS = (
    "core_ncc",
    "ncc",
    "contrast",
    "contrast_kept",
    "contrast_known",
    "core_change",
    "core_excess",
    "similarity",
)
BANDS = ((0.9, "high"), (0.6, "moderate"), (0.0, "low"))
"""Lowest probability of each band."""
ABSENT_BELOW = 0.7
"""Probability of presence below which a lesion is reported as not found: about 4 % of those present are."""

_SHELLS_MM = np.arange(0.0, 22.0, 1.0)
_FILE = Path(__file__).parents[1] / "weights" / "matching_calibration.json"


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on standardised signs; a sign that is missing counts as its mean."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def __call__(self, signs: dict[str, float]) -> float:
        """Probability, 0 to 1."""
        values = (transformed(signs, self.names) - self.mean) / self.scale
        total = float(np.nan_to_num(values) @ np.array(self.weights)) + self.intercept
        return float(1 / (1 + np.exp(-np.clip(total, -30, 30))))


@dataclass(frozen=True)
class Calibration:
    """The two regressions for one choice of evidence."""

    place: Logistic
    presence: Logistic


def transformed(signs: dict[str, float], names: tuple[str, ...]) -> np.ndarray:
    """Signs as the regressions read them: distances as logarithms, all bounded; NaN where missing."""
    out = []
    for name in names:
        value = float(signs.get(name, np.nan))
        if name == "inside_mm":
            value = np.clip(value, -10, 10)
        elif name.endswith("_mm"):
            value = np.log1p(np.clip(value, 0, 60))
        elif name == "margin":
            value = np.clip(value, -1.5, 1.5)
        out.append(value)
    return np.array(out)


@cache
def load_calibration(evidence: str) -> Calibration | None:
    """The calibration for "hu" or "tokens+hu"; None if the package holds none."""
    if not _FILE.is_file():
        return None
    table = json.loads(_FILE.read_text(encoding="utf-8")).get(evidence)
    if table is None:
        return None
    return Calibration(*(_logistic(table[part]) for part in ("place", "presence")))


def _logistic(table: dict) -> Logistic:
    parts = {key: tuple(table[key]) for key in ("names", "mean", "scale", "weights")}
    return Logistic(**parts, intercept=float(table["intercept"]))


def band(confidence: float, presence: float, in_view: bool) -> str:
    """In words: "out of view", "not found", "high", "moderate" or "low"."""
    if not in_view:
        return "out of view"
    if presence < ABSENT_BELOW:
        return "not found"
    return next(name for lowest, name in BANDS if confidence >= lowest)


def presence_signs(
    image_a: Image, image_b: Image, point: np.ndarray, place: np.ndarray, linear: np.ndarray
) -> dict[str, float]:
    """What tells a persisting lesion from a healed place, in levels of the contrast curve.

    ``contrast`` is how much the core stands out from its surroundings in a, at the size where it does most,
    ``contrast_kept`` the share of it that b shows at that size or a smaller one, ``contrast_known`` the same
    where the contrast in a is enough to tell, ``core_change`` the change of the core's level, ``core_excess`` the
    change of the core beyond its surroundings' in units of how much those vary, ``core_ncc`` the correlation of
    the inner 14 mm.
    """
    shells = _SHELLS_MM[:, None, None] * _directions()
    sampled_a = image_a.patches(point[None], shells.reshape(1, -1, 3)).view(len(_SHELLS_MM), -1).numpy()
    sampled_b = image_b.patches(place[None], (shells @ linear.T).reshape(1, -1, 3)).view(len(_SHELLS_MM), -1).numpy()
    first, second = sampled_a.mean(axis=1), sampled_b.mean(axis=1)
    change = sampled_b - sampled_a
    around = change[16:].reshape(-1)  # beyond 16 mm, where a lesion seldom reaches
    contrasts = {size: _contrast(first, size) for size in (4, 6, 8, 11, 14)}
    size = max(contrasts, key=lambda s: abs(contrasts[s]))
    contrast = contrasts[size]
    sign = 1.0 if contrast >= 0 else -1.0
    kept = max(sign * _contrast(second, s) for s in (3, 4, 6, 8, 11, 14) if s <= size) / max(abs(contrast), 0.02)
    kept = float(np.clip(kept, -0.5, 1.5))
    core = correlate(image_a, image_b, point[None], place[None], linear[None], 2.0, 14.0, 4.0)
    return {
        "contrast": abs(contrast),
        "contrast_kept": kept,
        "contrast_known": (kept - 0.5) * min(1.0, abs(contrast) / 0.3),
        "core_change": abs(float(first[:4].mean() - second[:4].mean())),
        "core_excess": float(np.log1p(abs(change[:4].mean() - np.median(around)) / (np.abs(around).mean() + 0.05))),
        "core_ncc": float(core.max()),
    }


def _contrast(profile: np.ndarray, radius: int) -> float:
    """Level inside 0.7 radius less the level of the shell beyond 1.2 radius."""
    inner, outer = max(1, round(0.7 * radius)), round(1.2 * radius)
    volume = (_SHELLS_MM[: inner + 1] + 0.3) ** 2
    return float(np.average(profile[: inner + 1], weights=volume) - profile[outer + 1 : outer + 5].mean())


@cache
def _directions(count: int = 48) -> np.ndarray:
    """Evenly spread unit vectors (count, 3), a Fibonacci sphere."""
    i = np.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
