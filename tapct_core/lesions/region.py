"""The region round one point: voxels like it in HU and in features, connected to it, in 3D, and no leak.

Neither the band of HU nor the width of the bridges to be cut (a vessel is thin, the pleura beside a nodule wide)
is asked for: every band round the HU at the point is tried with every width of opening, and the region is taken that
stands out most from its rim, as long as it stays compact and inside the reach. The search runs on voxels of
about 1.5 mm, the border is then drawn on the scan's own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from ..features import FeatureMap
from ..geometry import Geometry
from ..matching import similarity_map
from ..volume import CTVolume
from .field import Field
from .finding import Mask

REACH_MM = 40.0
"""No voxel further than this from the point is taken."""
LEAK = 0.02
"""A region with a larger share of its voxels at the end of the reach has leaked; less is a vessel."""
BANDS_HU = (15, 25, 35, 50, 70, 95, 130, 180, 250, 350, 480)
SEED_MM = 2.0
BRIDGES_MM = (1.5, 2.5, 4.0, 6.0, 9.0)
"""Bridges up to twice this width are cut. Wide ones hold a nodule to the pleura: chosen on dev patients, where the
thinnest alone refuses one lesion in six."""
SIMILAR = 0.3
"""Share of the point's own similarity below which a voxel belongs to something else."""
RESOLVED = 2.0
"""Tokens this near the point say nothing yet: a lesion of fewer tokens is decided by HU alone."""
WORK_MM = 1.5
"""Finer voxels are averaged up to about this size while regions are sought: less noise, and a click's time."""
SMOOTH_MM = 0.7
RIM_MM, SHELL_MM = 1.2, 2.5
"""Surroundings are a shell this far from the region, this thick."""
LEAST_CONTRAST_HU = 20.0
"""A region that stands out less is noise, and the point is answered with an error, not with a blob."""

Box = tuple[slice, slice, slice]
Spacing = tuple[float, float, float]


def distinct_region(
    volume: CTVolume, point_lps_mm: np.ndarray, features: FeatureMap | None = None, reach_mm: float = REACH_MM
) -> Mask | None:
    """The region at an LPS point inside the scan, on the scan's own voxels; None where nothing stands out.

    ``features`` of the same scan keep it out of tissue unlike the point's; without them, or without tokens in
    them, HU alone decides.
    """
    point = np.asarray(point_lps_mm, dtype=np.float64)
    field = Field.around(volume, point, reach_mm + 5.0, WORK_MM)
    grid, block, fine = field.grid, field.block, field.fine
    hu = ndimage.gaussian_filter(field.hu, [SMOOTH_MM / s for s in grid.spacing_mm])
    distance = _distance(grid, point)
    allowed = distance <= reach_mm
    if features is not None and features.dim:
        allowed &= similar(features, grid, point) | (distance <= RESOLVED * max(features.pitch_mm))
    near = distance <= max(SEED_MM, float(distance.min()))
    best, centre, band = _most_distinct(hu, distance, allowed, near, grid.spacing_mm, reach_mm)
    if best is None or _contrast(best, hu, grid.spacing_mm) < LEAST_CONTRAST_HU:
        return None
    if max(block) > 1:
        best = _on_own_voxels(best, block, volume.hu[field.box], fine, centre, band)
    return field.mask(best)


def _most_distinct(
    hu: np.ndarray, distance: np.ndarray, allowed: np.ndarray, near: np.ndarray, spacing: Spacing, reach_mm: float
) -> tuple[np.ndarray | None, float, float]:
    """The region that stands out most, bool (z, y, x), None if there is none, with its HU and its band."""
    centre = float(np.median(hu[near]))
    best, height, chosen = None, 0.0, 0.0
    for band in BANDS_HU:
        for box, region in _openings((np.abs(hu - centre) <= band) & allowed, near, distance, spacing, reach_mm):
            away = distance[box]
            if (away[region] > reach_mm - max(spacing)).mean() > LEAK:
                continue
            score = _edge(region, hu[box]) * _compactness(region, away, spacing)
            if score > height:
                best, height, chosen = np.zeros(hu.shape, dtype=bool), score, float(band)
                best[box] = region
    return best, centre, chosen


def _openings(
    inside: np.ndarray, near: np.ndarray, distance: np.ndarray, spacing: Spacing, reach_mm: float
) -> Iterator[tuple[Box, np.ndarray]]:
    """The part of ``inside`` at the point with ever wider bridges cut and holes filled: its box and bool voxels in it.

    A box is wider than what it holds, unless the grid ends there. A core that reaches far leaks, and is left out.
    """
    parts, _ = ndimage.label(inside)
    touched = np.unique(parts[near & inside])
    if len(touched) == 0:
        return
    body = np.isin(parts, touched)
    around = _box_of(body, (1, 1, 1))
    seed = np.unravel_index(distance.argmin(), distance.shape)
    depth = np.zeros(inside.shape, dtype=np.float32)
    within = np.pad(body[around], 1)
    depth[around] = ndimage.distance_transform_edt(within, sampling=spacing)[1:-1, 1:-1, 1:-1]
    for bridge in BRIDGES_MM:
        cores, _ = ndimage.label(depth > bridge)
        hits = cores[near & (cores > 0)]
        if len(hits) == 0:
            if bridge == BRIDGES_MM[0] and body[seed]:  # a small lesion has no core; it has no bridges either
                yield around, ndimage.binary_fill_holes(parts[around] == parts[seed])
            return
        core = cores == (cores[seed] or np.bincount(hits).argmax())
        if (distance[core] > reach_mm - bridge - 1.5 * max(spacing)).mean() > LEAK:
            continue
        box = _box_of(core, tuple(int(np.ceil(bridge / s)) + 2 for s in spacing))
        opened = ndimage.distance_transform_edt(~core[box], sampling=spacing) <= bridge + 0.5 * min(spacing)
        yield box, ndimage.binary_fill_holes(opened & body[box])


def _box_of(region: np.ndarray, margin: tuple[int, int, int]) -> Box:
    """The slices that hold a region (one voxel at the least) and ``margin`` voxels round it, as far as there are."""
    found = ndimage.find_objects(region.view(np.uint8))[0]
    return tuple(slice(max(0, part.start - m), part.stop + m) for part, m in zip(found, margin, strict=True))


def _on_own_voxels(
    region: np.ndarray, block: tuple[int, int, int], hu: np.ndarray, grid: Geometry, centre: float, band: float
) -> np.ndarray:
    """The region on the scan's own voxels (z, y, x): within one block of its border the HU there decide."""
    for axis, times in enumerate(block):
        region = region.repeat(times, axis=axis)
    region = region[tuple(slice(n) for n in hu.shape)]
    width = [2 * b - 1 for b in block]
    sure, possible = ndimage.minimum_filter(region, width), ndimage.maximum_filter(region, width)
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), [SMOOTH_MM / s for s in grid.spacing_mm])
    drawn = sure | (possible & (np.abs(smooth - centre) <= band))
    parts, _ = ndimage.label(drawn)
    main = np.bincount(parts[region & drawn]).argmax() if (region & drawn).any() else 0
    return ndimage.binary_fill_holes(parts == main) if main else region


def _distance(grid: Geometry, point: np.ndarray) -> np.ndarray:
    """mm from the point to each voxel's centre, (z, y, x); the axes stand at right angles."""
    index = grid.to_index(point)
    axes = [(np.arange(n) - i) * s for n, i, s in zip(grid.shape, index, grid.spacing_mm, strict=True)]
    return np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)


def similar(features: FeatureMap, grid: Geometry, point: np.ndarray) -> np.ndarray:
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


def _edge(region: np.ndarray, hu: np.ndarray) -> float:
    """How steep the region's border is: how much further its outer rim is from its HU than its inner one, in HU.

    Brighter and darker neighbours both count.
    """
    middle = np.median(hu[region])
    inner = region & ~ndimage.binary_erosion(region)
    outer = ndimage.binary_dilation(region) & ~region
    return float(np.abs(hu[outer] - middle).mean() - np.abs(hu[inner] - middle).mean()) if outer.any() else 0.0


def _contrast(region: np.ndarray, hu: np.ndarray, spacing: Spacing) -> float:
    """How far the surroundings stand off the region's HU, beyond the region's own scatter, in HU.

    Unlike the rim's, which in noise is out of the band by choice, this is 0 where there is nothing to be seen.
    """
    away = ndimage.distance_transform_edt(~region, sampling=spacing)
    shell = (away > RIM_MM) & (away <= max(RIM_MM + SHELL_MM, 1.01 * min(spacing)))  # one voxel at the least
    if not shell.any():
        return 0.0
    middle = np.median(hu[region])
    return float(np.abs(hu[shell] - middle).mean() - np.abs(hu[region] - middle).mean())


def _compactness(region: np.ndarray, distance: np.ndarray, spacing: Spacing) -> float:
    """1 for a ball round the point, less for what reaches far with little volume, as a leak does."""
    radius = (3 * region.sum() * np.prod(spacing) / (4 * np.pi)) ** (1 / 3)
    return float(min(1.0, radius / max(float(distance[region].max()), 1e-6)) ** 0.5)
