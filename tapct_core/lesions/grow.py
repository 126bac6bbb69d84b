"""A lesion's mask from one point: voxels like it in HU and in features, connected to it, in 3D, and no leak.

The band of HU is not asked for but chosen: among bands of growing width round the HU at the point, the one whose
region stands out most from its rim, as long as it stays compact and inside the reach. Thin bridges to
neighbours (vessels, pleura) are cut by an opening. A proposal to be edited, not a segmentation to be trusted.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import UserError
from ..features import FeatureMap
from ..geometry import Geometry
from ..matching import similarity_map
from ..volume import CTVolume
from . import Mask

REACH_MM = 40.0
"""No voxel further than this from the point is taken."""
LEAK = 0.02
"""A region with a larger share of its voxels at the end of the reach has leaked; less is a vessel."""
BANDS_HU = (15, 25, 35, 50, 70, 95, 130, 180, 250, 350, 480)
SEED_MM = 2.0
BRIDGE_MM = 1.5
"""Bridges up to twice this width are cut."""
SIMILAR = 0.3
"""Share of the point's own similarity below which a voxel belongs to something else."""
RESOLVED = 2.0
"""Tokens this near the point say nothing yet: a lesion of fewer tokens is decided by HU alone."""
SMOOTH_MM = 0.7
RIM_MM, SHELL_MM = 1.2, 2.5
"""Surroundings are a shell this far from the region, this thick."""
LEAST_CONTRAST_HU = 20.0
"""A region that stands out less is noise, and the point is answered with an error, not with a blob."""


def grow_mask(
    volume: CTVolume,
    point_lps_mm: tuple[float, float, float],
    features: FeatureMap | None = None,
    reach_mm: float = REACH_MM,
) -> Mask:
    """The mask (on the scan's own voxels) grown from an LPS point.

    ``features`` of the same scan keep the region out of tissue unlike the point's; without them, or without
    tokens in them, HU alone decides. Raises UserError for a point outside the scan, and where nothing
    stands out from its surroundings.
    """
    point = np.asarray(point_lps_mm, dtype=np.float64)
    if not volume.geometry.contains(point):
        raise UserError("the point lies outside the scan; points are x y z in LPS mm")
    start, grid = _box(volume.geometry, point, reach_mm + 5.0)
    box = tuple(slice(s, s + n) for s, n in zip(start, grid.shape, strict=True))
    spacing = grid.spacing_mm
    hu = ndimage.gaussian_filter(volume.hu[box].astype(np.float32), [SMOOTH_MM / s for s in spacing])
    distance = _distance(grid, point)
    allowed = distance <= reach_mm
    if features is not None and features.dim:
        allowed &= _similar(features, grid, point) | (distance <= RESOLVED * max(features.pitch_mm))
    seed = np.unravel_index(distance.argmin(), grid.shape)
    near = distance <= max(SEED_MM, float(distance.min()))
    centre = float(np.median(hu[near]))
    best, height = None, 0.0
    for band in BANDS_HU:
        region = _component((np.abs(hu - centre) <= band) & allowed, near, seed, spacing)
        if region is None:
            continue
        if (distance[region] > reach_mm - max(spacing)).mean() > LEAK:
            break  # a wider band leaks more
        score = _edge(region, hu) * _compactness(region, distance, spacing)
        if score > height:
            best, height = region, score
    if best is None or _contrast(best, hu, spacing) < LEAST_CONTRAST_HU:
        raise UserError("nothing stands out at this point, so no mask can be grown; draw it by hand")
    whole = np.zeros(volume.geometry.shape, dtype=bool)
    whole[box] = best
    return Mask.from_array(whole)


def _box(geometry: Geometry, point: np.ndarray, half_mm: float) -> tuple[tuple[int, int, int], Geometry]:
    """First index and grid of the scan's voxels within ``half_mm`` of the point along each axis."""
    index, half = geometry.to_index(point), half_mm / np.array(geometry.spacing_mm)
    low = np.clip(np.floor(index - half), 0, None).astype(int)
    high = np.minimum(np.ceil(index + half).astype(int) + 1, geometry.shape)
    start = tuple(int(i) for i in low)
    return start, geometry.cropped(start, tuple(int(n) for n in high - low))


def _distance(grid: Geometry, point: np.ndarray) -> np.ndarray:
    """mm from the point to each voxel's centre, (z, y, x); the axes stand at right angles."""
    index = grid.to_index(point)
    axes = [(np.arange(n) - i) * s for n, i, s in zip(grid.shape, index, grid.spacing_mm, strict=True)]
    return np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)


def _similar(features: FeatureMap, grid: Geometry, point: np.ndarray) -> np.ndarray:
    """Where tokens are like the point's own, interpolated to the voxels, bool (z, y, x)."""
    query = features.sample(point[None])[0]
    values = np.nan_to_num(similarity_map(features, query))
    # Both grids are affine: index on one -> index on the other.
    turn = np.linalg.inv(features.geometry.affine) @ grid.affine
    cosine = ndimage.affine_transform(
        values, turn[:3, :3], turn[:3, 3], output_shape=grid.shape, order=1, mode="nearest"
    )
    own = ndimage.map_coordinates(values, features.geometry.to_index(point)[:, None], order=1, mode="nearest")[0]
    return cosine >= SIMILAR * max(float(own), 0.0)


def _component(
    region: np.ndarray, near: np.ndarray, seed: tuple[int, int, int], spacing: tuple[float, float, float]
) -> np.ndarray | None:
    """The part of a region at the point, with thin bridges cut and holes filled; None where there is none."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    parts, _ = ndimage.label(depth > BRIDGE_MM)
    hits = parts[near & (parts > 0)]
    if len(hits):
        core = parts == (parts[seed] or np.bincount(hits).argmax())
        opened = ndimage.distance_transform_edt(~core, sampling=spacing) <= BRIDGE_MM + 0.5 * min(spacing)
        return ndimage.binary_fill_holes(opened & region)
    parts, _ = ndimage.label(region)  # a small lesion has no core; it has no bridges either
    return ndimage.binary_fill_holes(parts == parts[seed]) if parts[seed] else None


def _edge(region: np.ndarray, hu: np.ndarray) -> float:
    """How steep the region's border is: how much further its outer rim is from its HU than its inner one, in HU.

    Brighter and darker neighbours both count.
    """
    middle = np.median(hu[region])
    inner = region & ~ndimage.binary_erosion(region)
    outer = ndimage.binary_dilation(region) & ~region
    return float(np.abs(hu[outer] - middle).mean() - np.abs(hu[inner] - middle).mean()) if outer.any() else 0.0


def _contrast(region: np.ndarray, hu: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """How far the surroundings stand off the region's HU, beyond the region's own scatter, in HU.

    Unlike the rim's, which in noise is out of the band by choice, this is 0 where there is nothing to be seen.
    """
    away = ndimage.distance_transform_edt(~region, sampling=spacing)
    shell = (away > RIM_MM) & (away <= max(RIM_MM + SHELL_MM, 1.01 * min(spacing)))  # one voxel at the least
    if not shell.any():
        return 0.0
    middle = np.median(hu[region])
    return float(np.abs(hu[shell] - middle).mean() - np.abs(hu[region] - middle).mean())


def _compactness(region: np.ndarray, distance: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """1 for a ball round the point, less for what reaches far with little volume, as a leak does."""
    radius = (3 * region.sum() * np.prod(spacing) / (4 * np.pi)) ** (1 / 3)
    return float(min(1.0, radius / max(float(distance[region].max()), 1e-6)) ** 0.5)
