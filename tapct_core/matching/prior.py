"""Roughly where everything went: a motion from scan a to scan b, found once a pair.

Matches of the cached keys that agree in both directions give a first rigid motion (SAME does this with
learned embeddings: Liu et al. 2021, arXiv 2109.02722); identity and slides along the body's axis compete
with it, and the one on which the images agree best is kept. Block matching by correlation then refines it
to a field of point pairs (Ourselin et al. 2001), from which the motion near any click is a local affine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree

from ..geometry import Geometry
from .affine import IDENTITY, apply, fit_affine, fit_rigid, local_affines, ransac_rigid
from .correlation import correlate, peaks, sharpness
from .prepared import Prepared
from .similarity import NEIGHBOURS, Keys

_LEVELS = ((4.0, 40.0, 24.0, 400), (3.0, 24.0, 12.0, 1600), (2.0, 12.0, 8.0, 8000))
"""Block matching from coarse to fine: sample step, patch side and reach in mm, and number of blocks.

Many small blocks that agree with their neighbours follow a deformation closer than few large ones."""
SHARP = 0.1
"""Fall of correlation beside its peak from which a pair counts in full."""
NEAR_MM = 15.0
"""Pairs within about this distance decide the motion at a click; further ones too where there are few."""
NEAREST = 64
"""Pairs that take part in one local motion: those beyond have next to no weight."""


@dataclass(frozen=True, eq=False)
class Prior:
    """A motion between two scans: ``motion`` (3, 4) for all, and pairs for the local part.

    ``points_a``, ``points_b`` (M, 3) LPS mm with ``weights`` (M,); ``agreement`` how alike the scans are under
    ``motion`` and ``identity_agreement`` under none (-1 to 1).
    """

    motion: np.ndarray
    points_a: np.ndarray
    points_b: np.ndarray
    weights: np.ndarray
    agreement: float
    identity_agreement: float

    def at(self, points_lps_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where points (N, 3) of a went: places (N, 3), linear parts (N, 3, 3), spread (N,) mm."""
        points = np.atleast_2d(points_lps_mm)
        base = np.broadcast_to(self.motion, (len(points), 3, 4))
        if len(self.points_a) < 8:
            return apply(self.motion, points), base[:, :, :3].copy(), np.full(len(points), 20.0)
        near, nearness = _nearest(self._tree, points, 8)
        weights = self.weights[near] * nearness
        return local_affines(points, self.points_a[near], self.points_b[near], weights, base, scale_mm=3.0)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points_a)

    def inverse(self) -> Prior:
        """The way back."""
        linear = np.linalg.inv(self.motion[:, :3])
        motion = np.column_stack([linear, -linear @ self.motion[:, 3]])
        return Prior(motion, self.points_b, self.points_a, self.weights, self.agreement, self.identity_agreement)


def find_prior(a: Prepared, b: Prepared, names: tuple[str, ...], refine: bool = True, seed: int = 0) -> Prior:
    """The motion from scan a to scan b from evidence ``names``; never worse than identity on agreement.

    ``refine`` adds block matching on the images, which is evidence from HU.
    """
    rng = np.random.default_rng(seed)
    places = _Places(a, names, body_points(a, 1200, rng))
    candidates = [IDENTITY, *_slides(a, b), *_from_keys(a, b, names, rng)]
    scores = [places.agreement(b, motion) for motion in candidates]
    best = int(np.argmax(scores))
    prior = Prior(candidates[best], *np.zeros((2, 0, 3)), np.zeros(0), scores[best], scores[0])
    return _block_matching(a, b, prior, places, rng) if refine else prior


class _Places:
    """Places in scan a with what they look like there, to compare with where a motion takes them."""

    def __init__(self, a: Prepared, names: tuple[str, ...], points: np.ndarray) -> None:
        self.points = points
        self.vectors = {name: F.normalize(a.keys[name].sample(points), dim=1) for name in names}
        self.level = a.image.sample(points) if "hu" in names else None

    def agreement(self, b: Prepared, motion: np.ndarray) -> float:
        """Mean of the keys' cosines and the images' correlation under a motion; -1 for under a fifth's overlap."""
        moved = apply(motion, self.points)
        inside = b.scanned.contains(moved)
        if inside.mean() < 0.2:
            return -1.0
        parts = []
        for name, vectors in self.vectors.items():
            cosines = (F.normalize(b.keys[name].sample(moved[inside]), dim=1) * vectors[torch.from_numpy(inside)]).sum(
                1
            )
            parts.append(float(cosines.mean()))
        if self.level is not None:
            first, second = self.level[inside], b.image.sample(moved[inside])
            flat = first.std() < 1e-6 or second.std() < 1e-6
            parts.append(-1.0 if flat else float(np.corrcoef(first, second)[0, 1]))
        # A little is taken off for what falls out of view, or a tiny overlap would win by chance.
        return float(np.mean(parts)) - 0.2 * float(1 - inside.mean())


def body_points(scan: Prepared, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random places inside the patient -> (N, 3) LPS mm."""
    places = np.flatnonzero(scan.body)
    if len(places) == 0:
        places = np.arange(scan.body.size)
    chosen = rng.choice(places, min(count, len(places)), replace=False)
    return scan.body_geometry.to_world(np.stack(np.unravel_index(chosen, scan.body.shape), axis=1))


def _slides(a: Prepared, b: Prepared) -> list[np.ndarray]:
    """Shifts that lay body on body in plane and slide along z, for scans whose fields of view differ."""
    ends = [_corners(scan) for scan in (a, b)]
    middle = [scan.body_geometry.to_world(np.argwhere(scan.body).mean(axis=0)) if scan.body.any() else e.mean(axis=0)
              for scan, e in zip((a, b), ends, strict=True)]  # fmt: skip
    low, high = ends[1][:, 2].min() - ends[0][:, 2].max(), ends[1][:, 2].max() - ends[0][:, 2].min()
    length = min(np.ptp(ends[0][:, 2]), np.ptp(ends[1][:, 2]))
    shift = middle[1] - middle[0]
    slides = np.arange(low + 0.3 * length, high - 0.3 * length, 12.0)
    return [np.column_stack([np.eye(3), [shift[0], shift[1], z]]) for z in [*slides, shift[2]]]


def _corners(scan: Prepared) -> np.ndarray:
    """The eight corner voxels of a scan's HU grid, (8, 3) LPS mm."""
    grid = scan.scanned
    return grid.to_world(np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T)


def _from_keys(a: Prepared, b: Prepared, names: tuple[str, ...], rng: np.random.Generator) -> list[np.ndarray]:
    """Rigid and affine motions from mutual best matches, of each kind of evidence and of all together."""
    pairs = [
        mutual_matches(a.keys[n], b.keys[n], rng) for n in names if n in a.keys and n in b.keys and n != "surroundings"
    ]
    if len(pairs) > 1:
        pairs.append(tuple(np.concatenate(part) for part in zip(*pairs, strict=True)))
    motions = []
    for first, second in pairs:
        if len(first) < 6:
            continue
        rigid, inliers = ransac_rigid(first, second, 20.0, rng)
        if inliers.sum() < 6:
            continue
        motions.append(rigid)
        motions.append(fit_affine(first[inliers], second[inliers], np.ones(inliers.sum()), rigid, 8.0))
    return motions


def mutual_matches(a: Keys, b: Keys, rng: np.random.Generator, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Lattice points of a whose best match in b finds its way back -> pairs (N, 3), (N, 3) LPS mm."""
    (places_a, keys_a, step), (places_b, keys_b, _) = _thinned(a), _thinned(b)
    if len(places_a) == 0 or len(places_b) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    chosen = rng.choice(len(places_a), min(count, len(places_a)), replace=False)
    there = (keys_a[torch.from_numpy(chosen)] @ keys_b.T).argmax(dim=1)
    back = (keys_b[there] @ keys_a.T).argmax(dim=1)
    first, second = places_a[chosen], places_b[there.numpy()]
    mutual = np.linalg.norm(places_a[back.numpy()] - first, axis=1) <= 2.0 * step
    return first[mutual], second[mutual]


def _thinned(keys: Keys, most: int = 40000) -> tuple[np.ndarray, torch.Tensor, float]:
    """Places and unit vectors of a lattice's filled points, every second or third one if there are many; step mm."""
    stride = 1
    while np.prod([-(-n // stride) for n in keys.vectors.shape[:3]]) > most * 3:
        stride += 1
    part = keys.vectors[::stride, ::stride, ::stride]
    length = torch.linalg.vector_norm(part, dim=-1)
    filled = torch.nonzero(length > 1e-6)
    places = keys.geometry.to_world(filled.numpy() * stride)
    return places, F.normalize(part[tuple(filled.T)], dim=1), stride * max(keys.geometry.spacing_mm)


def _block_matching(a: Prepared, b: Prepared, start: Prior, places_a: _Places, rng: np.random.Generator) -> Prior:
    """Point pairs by correlation, level by level; a level that would worsen the agreement keeps the motion."""
    prior = start
    for step, patch, reach, count in _LEVELS:
        at = _textured(a, count, rng)
        places, linear, _ = prior.at(at)
        seen = b.scanned.contains(places)
        at, places, linear = at[seen], places[seen], linear[seen]
        if len(at) < 8:
            return prior
        found = correlate(a.image, b.image, at, places, linear, step, patch, reach)
        scanned = _share_inside(a.scanned, at, patch) * _share_inside(b.scanned, places, patch)
        shift, weights = _pairs(found, step, at, places, scanned, prior.motion)
        good = weights > 0
        if good.sum() < 8:
            return prior
        first, second, weights, moved = at[good], (places + shift)[good], weights[good], shift[good]
        rigid = fit_rigid(first, second, weights / (1 + (np.linalg.norm(moved, axis=1) / 10) ** 2))
        motion = fit_affine(first, second, weights, rigid, 4.0)
        score = places_a.agreement(b, motion)
        if score < start.agreement - 0.02:
            motion, score = prior.motion, prior.agreement
        prior = Prior(motion, first, second, weights, score, start.identity_agreement)
    return prior


def _pairs(
    found: torch.Tensor, step: float, at: np.ndarray, places: np.ndarray, scanned: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each block's shift (N, 3) mm and its weight (N,), 0 where nothing correlates.

    Much weight has a block that correlates well at one place only, that was ``scanned`` whole (share, (N,)), and
    that went where its neighbours went. ``found`` (N, s, s, s) is centred on ``places`` (N, 3).
    """
    shift, height = peaks(found, step)
    weights = np.where(height > 0.4, (height - 0.3) ** 2, 0.0) * np.clip(sharpness(found) / SHARP, 0.05, 1.0)
    weights = weights * scanned**2
    misfit = np.linalg.norm(_neighbours_word(at, places + shift, weights, base) - places - shift, axis=1)
    return shift, weights / (1 + (misfit / 8.0) ** 4)


def _neighbours_word(a: np.ndarray, b: np.ndarray, weights: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Where its neighbours expect each of the pairs, (N, 3) LPS mm of b: a pair does not vote on itself."""
    near, nearness = _nearest(cKDTree(a), a, 9)  # the first is the pair itself
    nearby = weights[near] * nearness * (near != np.arange(len(a))[:, None])
    base = np.broadcast_to(base, (len(a), 3, 4))
    return local_affines(a, a[near], b[near], nearby, base, scale_mm=3.0, rounds=3)[0]


def _nearest(pairs: cKDTree, points: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs that decide at points (N, 3): numbers (N, k), and how much each counts for being near.

    The width grows until ``least`` pairs are within it.
    """
    distance, near = pairs.query(points, min(NEAREST, pairs.n))
    width = np.maximum(NEAR_MM, distance[:, min(least, pairs.n) - 1])
    return near, np.exp(-0.5 * (distance / width[:, None]) ** 2)


def _share_inside(scanned: Geometry, points: np.ndarray, patch_mm: float) -> np.ndarray:
    """Share of a cube round each point that lies in the field of view, (N,): what is beyond repeats the border."""
    return scanned.contains(points[:, None] + NEIGHBOURS * (patch_mm / 3)).mean(axis=1)


def _textured(scan: Prepared, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places in the body where the image varies, (N, 3) LPS mm: the liveliest of three random ones each."""
    points = body_points(scan, 3 * count, rng)
    step = 5.0 * np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))])
    contrast = scan.image.sample(points[:, None] + step).std(axis=1)
    groups = len(points) // 3
    pick = contrast[: 3 * groups].reshape(groups, 3).argmax(axis=1)
    return points[np.arange(groups) * 3 + pick]
