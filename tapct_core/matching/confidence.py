"""How sure a match is, in two probabilities: that the place is right, and that the lesion is still there.

A similarity is no confidence (DeepLesion tracking: the score of a published tracker does not separate its hits
from its misses), and a way back that ends at the click cannot see that a lesion has vanished. So the signs of
a good place and of a persisting lesion are weighed by two logistic regressions, fitted on synthetic follow-ups
whose truth is known (scripts/calibrate_matching.py) and kept in calibration.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .correlation import Image, correlate
from .limits import BANDS

PLACE_SIGNS = (
    "similarity", "ncc", "cycle_mm", "votes_cycle_mm", "votes_spread_mm", "margin", "leads", "off_prior_mm",
    "prior_spread_mm", "inside_mm", "agreement",
)  # fmt: skip
PRESENCE_SIGNS = (
    "core_ncc", "core_excess", "contrast", "stands_out", "kept", "core_faded", "ncc", "similarity", "cycle_mm",
)  # fmt: skip

_SHELLS_MM = np.arange(0.0, 22.0, 1.0)
_SIZES_MM = (3, 4, 5, 6, 8, 11, 14)
"""Radii at which a lesion is looked for."""
_SHIFTS_MM = 2.0 * np.array(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij")).reshape(3, 27).T
"""A place is good to about this much, and what is there is looked for that near."""
_CLUTTER_MM = 18.0
"""Distance of the places round a lesion that say how much its surroundings vary without it."""
_FILE = Path(__file__).parents[1] / "weights" / "matching_calibration.json"


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on standardised signs; a sign that is missing counts as its mean.

    ``products``: weights of the signs' products, two by two in the order of :func:`products_of`; empty without them.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    products: tuple[float, ...] = ()

    def __call__(self, signs: dict[str, float]) -> float:
        """Probability, 0 to 1."""
        values = np.nan_to_num((transformed(signs, self.names) - self.mean) / self.scale)
        total = float(values @ np.array(self.weights)) + self.intercept
        if self.products:
            total += float(products_of(values) @ np.array(self.products))
        return float(1 / (1 + np.exp(-np.clip(total, -30, 30))))


def products_of(values: np.ndarray) -> np.ndarray:
    """Standardised signs (..., n) -> all squares and products of two (..., n (n + 1) / 2), row by row."""
    first, second = np.triu_indices(values.shape[-1])
    return values[..., first] * values[..., second]


@dataclass(frozen=True)
class Calibration:
    """The two regressions for one choice of evidence; under ``absent_below`` a lesion is reported as not found."""

    place: Logistic
    presence: Logistic
    absent_below: float

    def still_there(self, signs: dict[str, float]) -> float:
        """Probability that what is at the point is still there, 0.5 where ``absent_below`` lies.

        The regression has learned from scans in which one lesion in seven had gone. Under treatment that is no news:
        its odds are moved so that, before one has looked, it is as likely gone as not; then the answer in words
        follows from the number, and the rate of false calls is what it was.
        """
        return _moved(self.presence(signs), self.absent_below)


def _moved(probability: float, middle: float) -> float:
    """A probability whose odds are divided by those of ``middle``, so that that becomes 0.5."""
    p, m = (float(np.clip(value, 1e-9, 1 - 1e-9)) for value in (probability, middle))
    odds = p / (1 - p) * (1 - m) / m
    return odds / (1 + odds)


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
    """The calibration for "hu", or for tokens with HU by their encoder's weights hash; None if there is none.

    What one encoder's similarities are worth says nothing about another's.
    """
    if not _FILE.is_file():
        return None
    table = json.loads(_FILE.read_text(encoding="utf-8")).get(evidence)
    if table is None:
        return None
    return Calibration(_logistic(table["place"]), _logistic(table["presence"]), float(table["absent_below"]))


def _logistic(table: dict) -> Logistic:
    parts = {key: tuple(table.get(key, ())) for key in ("names", "mean", "scale", "weights", "products")}
    return Logistic(**parts, intercept=float(table["intercept"]))


def band(confidence: float, presence: float, in_view: bool, absent_below: float = 0.5) -> str:
    """In words: "out of view", "not found" (``presence`` is under ``absent_below``), "high", "moderate" or "low"."""
    if not in_view:
        return "out of view"
    if presence < absent_below:
        return "not found"
    return next(name for lowest, name in BANDS if confidence >= lowest)


def presence_signs(
    image_a: Image, image_b: Image, points: np.ndarray, places: np.ndarray, linears: np.ndarray
) -> list[dict[str, float]]:
    """What tells a persisting lesion from a healed place, in levels of the contrast curve; for each of points (N, 3).

    ``contrast`` is how much the core stands out from its surroundings in a, at the size where it does most;
    ``stands_out`` how much it still does in b, at a like size, in units of how much other places near by do;
    ``kept`` the share of the contrast that b shows, less a half, the smaller the less a's contrast exceeds its
    surroundings'; ``core_faded`` how far the core's level moved towards that of its surroundings, in units of the
    contrast; ``core_excess`` the change of the core beyond its surroundings' in units of how much those vary;
    ``core_ncc`` the correlation of the inner 14 mm.
    """
    first = _profile(image_a, points, len(_SHELLS_MM), np.zeros((1, 3)))[:, 0]
    core = correlate(image_a, image_b, points, places, linears, 2.0, 14.0, 4.0).amax(dim=(1, 2, 3)).tolist()
    excess = _core_excess(image_a, image_b, points, places, linears)
    sizes = [s for s in _SIZES_MM if s > 3]
    most = np.stack([np.abs(_contrast(first, s)) * s**0.5 for s in sizes]).argmax(axis=0)
    out: list[dict[str, float]] = [{"core_excess": e, "core_ncc": c} for e, c in zip(excess, core, strict=True)]
    for number, size in enumerate(sizes):
        same = np.flatnonzero(most == number)
        if len(same):
            found = _standing_out(image_a, image_b, first[same], points[same], places[same], size)
            for row, n in enumerate(same):
                out[n] |= {name: float(values[row]) for name, values in found.items()}
    return out


def _standing_out(
    image_a: Image, image_b: Image, first: np.ndarray, points: np.ndarray, places: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """The signs that rest on the mean level about points whose lesions have one size -> (N,) each.

    ``first`` (N, shells) are their profiles in a.
    """
    like = [s for s in _SIZES_MM if 0.5 * size <= s <= 1.5 * size]
    around = np.concatenate([_SHIFTS_MM, _clutter()])
    clutter_a = _profile(image_a, points, _shells_of(size), _clutter())
    b = _profile(image_b, places, _shells_of(max(like)), around)
    second, clutter_b = b[:, : len(_SHIFTS_MM)], b[:, len(_SHIFTS_MM) :]
    contrast = _contrast(first, size)
    sign, strength = np.where(contrast >= 0, 1.0, -1.0), np.maximum(np.abs(contrast), 0.02)
    stands_out, kept = np.full(len(points), -3.0), np.full(len(points), -0.5)
    for radius in like:
        most = (sign[:, None] * _contrast(second, radius)).max(axis=1)
        others = sign[:, None] * _contrast(clutter_b, radius)
        stands_out = np.maximum(stands_out, (most - np.median(others, axis=1)) / (others.std(axis=1) + 0.03))
        kept = np.maximum(kept, most / strength)
    known = np.minimum(1.0, np.abs(contrast) / (_contrast(clutter_a, size).std(axis=1) + 0.02) / 4)
    faded = -sign[:, None] * (_core(second, 0.6 * size) - _core(first, 0.6 * size)[:, None])
    return {
        "contrast": np.abs(contrast),
        "stands_out": np.minimum(stands_out, 8.0),
        "kept": (np.minimum(kept, 2.0) - 0.5) * known,
        "core_faded": np.clip(faded.min(axis=1) / strength, -2, 2),
    }


def _core_excess(
    image_a: Image, image_b: Image, points: np.ndarray, places: np.ndarray, linears: np.ndarray
) -> list[float]:
    """Logarithm of the inner 3 mm's change beyond that past 16 mm, where a lesion seldom reaches."""
    shells = (_SHELLS_MM[:, None, None] * _directions()).reshape(1, -1, 3)
    before = image_a.patches(points, shells)
    after = image_b.patches(places, shells @ linears.transpose(0, 2, 1))
    change = (after - before).numpy().reshape(len(points), len(_SHELLS_MM), -1)
    around = change[:, 16:].reshape(len(points), -1)
    noise = np.abs(around).mean(axis=1) + 0.05
    excess = np.abs(change[:, :4].mean(axis=(1, 2)) - np.median(around, axis=1)) / noise
    return np.log1p(excess).tolist()


def _profile(image: Image, centres: np.ndarray, shells: int, around: np.ndarray) -> np.ndarray:
    """Mean level on each of the first shells about centres (N, 3) plus ``around`` (k, 3) mm -> (N, k, shells)."""
    places = around[:, None, None] + _SHELLS_MM[:shells, None, None] * _directions()
    levels = image.patches(centres, places.reshape(1, -1, 3))
    return levels.view(len(centres), len(around), shells, -1).mean(dim=3).numpy()


def _shells_of(radius: float) -> int:
    """How many shells the contrast at a radius rests on."""
    return min(round(1.2 * radius) + 5, len(_SHELLS_MM))


def _core(profiles: np.ndarray, radius: float) -> np.ndarray:
    """Mean level within a radius in mm, by volume, of profiles (..., shells)."""
    inner = max(1, round(radius)) + 1
    weights = (_SHELLS_MM[:inner] + 0.3) ** 2
    return np.einsum("...k,k->...", profiles[..., :inner], weights / weights.sum())


def _contrast(profiles: np.ndarray, radius: float) -> np.ndarray:
    """Level inside 0.7 radius less the level of the shell beyond 1.2 radius, of profiles (..., shells)."""
    outer = round(1.2 * radius)
    return _core(profiles, 0.7 * radius) - profiles[..., outer + 1 : outer + 5].mean(axis=-1)


def _clutter() -> np.ndarray:
    return _CLUTTER_MM * _directions(24)


@cache
def _directions(count: int = 48) -> np.ndarray:
    """Evenly spread unit vectors (count, 3), a Fibonacci sphere."""
    i = np.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
