"""A scan made ready for matching, once: short keys from its tokens and from its HU, on one search grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..body import ROOM_HU
from ..errors import UserError
from ..features import FeatureMap
from ..geometry import Geometry
from .correlation import Image
from .descriptors import HuBasis, HuSampler, base_image, contrast_curve
from .similarity import Keys, make_keys, search_grid, surroundings

KEY_LENGTH = 128
"""Numbers left of a token: enough that cosines hold, few enough that 300,000 fit one quick product."""


IMAGE_MM = 2.0
"""Spacing of the image that correlation compares: below it there is more noise than pattern."""

NEAR_MM, TISSUE_HU = 15.0, -300.0
"""A point that is no air and lies this near to the patient belongs to it."""
DOUBT_MM = 9.0
"""Air this near to the patient may be meant as the patient."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Principal axes (C, K) of one map's tokens; None where tokens are short enough to stay whole."""

    axes: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """Keys of one scan by name ("tokens", "surroundings", "hu"), all on one ``grid``, and what made them.

    A follow-up is prepared with its baseline's ``projection`` and ``basis``, so that both speak one language.
    ``scanned`` is the HU grid: the field of view. The feature map itself is not held: a cache keyed by it lets go.
    """

    keys: dict[str, Keys]
    grid: Geometry
    scanned: Geometry
    projection: Projection
    basis: HuBasis | None
    body: np.ndarray
    """Patient (z, y, x) bool on ``body_geometry``, a coarse grid of the HU."""
    body_geometry: Geometry
    image: Image
    """HU at IMAGE_MM after the contrast curve, for correlation."""

    def in_body(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Whether LPS points (N, 3) lie in the patient, or in tissue right beside what is known of it -> bool (N,)."""
        points = np.asarray(points_lps_mm)
        shape = np.array(self.body_geometry.shape)
        index = np.rint(self.body_geometry.to_index(points)).astype(int)
        inside = ((index >= 0) & (index < shape)).all(axis=1)
        index = index.clip(0, shape - 1)
        found = self.body[tuple(index.T)]
        # The coarse mask loses what is thin or lies at a rim: tissue near it is the patient, tissue far away the table.
        reach = np.ceil(NEAR_MM / np.array(self.body_geometry.spacing_mm)).astype(int)
        for row in np.flatnonzero(inside & ~found & (self.image.sample(points) > contrast_curve(np.array(TISSUE_HU)))):
            box = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(index[row], reach, strict=True))
            found[row] = self.body[box].any()
        return inside & found

    def may_be_body(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Whether LPS points (N, 3) that are not known to lie in the patient may do so -> bool (N,).

        They hold more than room air, or lie as near to the patient as a hand's tremor and a thin skin fold.
        """
        points = np.asarray(points_lps_mm)
        index = np.rint(self.body_geometry.to_index(points)).astype(int)
        reach = np.ceil(DOUBT_MM / np.array(self.body_geometry.spacing_mm)).astype(int)
        denser = self.image.sample(points) > contrast_curve(np.array(ROOM_HU))
        out = np.array(denser, dtype=bool)
        for row in np.flatnonzero(~out):
            box = tuple(slice(max(0, i - r), max(0, i + r + 1)) for i, r in zip(index[row], reach, strict=True))
            out[row] = self.body[box].any()
        return out & self.scanned.contains(points)


def prepare(features: FeatureMap, like: Prepared | None = None) -> Prepared:
    """Keys of a scan; ``like`` gives the projections of the scan it will be compared with.

    Works without tokens (C = 0, ``--encoder none``), on the HU alone. Raises UserError for a map with
    tokens that are not finite, or one that holds nothing but air.
    """
    has_tokens = features.dim > 0 and bool(features.valid.any())
    sampler = HuSampler(features.hu, features.hu_geometry)
    if not sampler.valid.any() and not has_tokens:
        raise UserError("the scan holds nothing but air, so there is nothing to match; check that it is a CT in HU")
    grid = search_grid(features.geometry if has_tokens else sampler.geometry)
    keys: dict[str, Keys] = {}
    projection = like.projection if like else Projection(None)
    if has_tokens:
        vectors, projection = _project(features, projection if like else None)
        keys["tokens"] = make_keys("tokens", vectors, features.valid, features.geometry, grid)
        keys["surroundings"] = surroundings(keys["tokens"], "surroundings")
    basis = (like.basis if like else None) or sampler.basis()
    described = sampler.describe(basis)
    keys["hu"] = make_keys("hu", torch.from_numpy(described.vectors), described.valid, described.geometry, grid)
    for key in keys.values():
        _ = key.inverse_norm  # computed here, not at the first click
    hu, fine = base_image(features.hu, features.hu_geometry, IMAGE_MM)
    image = Image(contrast_curve(hu), fine)
    return Prepared(keys, grid, features.hu_geometry, projection, basis, sampler.valid_base, sampler.base, image)


def _project(features: FeatureMap, given: Projection | None) -> tuple[torch.Tensor, Projection]:
    """Centred tokens (Z, Y, X, K) float32 and the axes they were projected on.

    Centred at each place in the window on what tokens owe to that place, else an encoder's window pattern
    matches better than the anatomy does.
    """
    tokens = torch.from_numpy(np.ascontiguousarray(features.tokens)).view(-1, features.dim)
    means = torch.from_numpy(features.window_position_mean)
    if not bool(torch.isfinite(means).all()):  # a sum over tokens is finite only if each of them is
        raise UserError("the feature map holds numbers that are not finite; embed the scan again")
    places = torch.from_numpy(features.window_places.reshape(-1).astype(np.int64))
    filled = torch.from_numpy(np.flatnonzero(features.valid))
    if given is not None:
        projection = given
    elif features.dim <= KEY_LENGTH:
        projection = Projection(None)
    else:
        some = filled[:: max(1, len(filled) // 30000)]
        sample = tokens[some].float() - means[places[some]]
        _, axes = torch.linalg.eigh(sample.T @ sample)
        projection = Projection(axes[:, -KEY_LENGTH:].flip(1).contiguous())
    axes = projection.axes
    centre = means if axes is None else means @ axes  # taken off after the projection: a third of the numbers
    out = torch.zeros(len(tokens), centre.shape[1])
    for start in range(0, len(filled), 65536):
        block = filled[start : start + 65536]
        part = tokens[block].float()
        out[block] = (part if axes is None else part @ axes) - centre[places[block]]
    return out.view(*features.geometry.shape, centre.shape[1]), projection
