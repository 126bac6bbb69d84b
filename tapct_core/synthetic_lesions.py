"""Made-up lesions with their truth: where they may lie, what they look like, which voxels are theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .body import body_mask, inside_skin
from .errors import UserError
from .geometry import Geometry
from .volume import CTVolume

Went = Callable[[np.ndarray], np.ndarray]
"""LPS points (N, 3) of the baseline -> where they are in the follow-up."""
FATES = ("stable", "grown", "shrunk", "vanished", "new")
_GROWTH = {"stable": (0.95, 1.05), "grown": (1.2, 1.7), "shrunk": (0.5, 0.85), "vanished": (0, 0), "new": (1, 1)}
"""Factor on the radius."""
THINNEST_LUNG_HU = -960.0
"""Below it is air: in the bowel, in the trachea, or between two legs."""
_TOO_LITTLE = "the scan holds too little lung or soft tissue to place lesions in; use a scan of the trunk"


@dataclass(frozen=True)
class SyntheticLesion:
    """A lesion with its truth. Points are LPS mm (x, y, z), radii in mm, 0 where it is absent.

    ``follow_up_lps_mm`` is where its place went, also for a vanished one; ``in_view`` whether that place
    lies in the follow-up's field of view. ``fate`` is one of FATES; ``tissue`` "lung" or "soft".
    """

    name: str
    fate: str
    tissue: str
    baseline_lps_mm: tuple[float, float, float]
    follow_up_lps_mm: tuple[float, float, float]
    baseline_radius_mm: float
    follow_up_radius_mm: float
    hu: float
    in_view: bool


def draw_lesions(
    volume: CTVolume, went: Went, grid: Geometry, rng: np.random.Generator, count: int
) -> tuple[SyntheticLesion, ...]:
    """Up to ``count`` lesions inside the patient, 30 mm apart; ``grid`` is the follow-up's, ``went`` the motion.

    Raises UserError when the scan holds too little tissue to place any.
    """
    step = max(1, round(3 / volume.geometry.spacing_mm[1]))
    coarse = volume.hu[:, ::step, ::step].astype(np.float32)
    spacing = np.array(volume.geometry.spacing_mm) * (1, step, step)
    body = body_mask(coarse, tuple(spacing))
    deep = ndimage.distance_transform_edt(np.pad(body, 1), sampling=spacing)[1:-1, 1:-1, 1:-1] > 10
    patient = inside_skin(coarse, tuple(spacing))
    smooth = ndimage.gaussian_filter(coarse, 4 / spacing)
    places = {"lung": np.argwhere(deep & (smooth < -600)), "soft": np.argwhere(deep & (np.abs(smooth - 50) < 70))}
    places = {tissue: found for tissue, found in places.items() if len(found) >= 50}
    if not places:
        raise UserError(_TOO_LITTLE)
    drawn: list[SyntheticLesion] = []
    for _ in range(count * 40):
        if len(drawn) == count:
            break
        tissue = sorted(places)[int(rng.integers(len(places)))]
        index = places[tissue][rng.integers(len(places[tissue]))] + rng.uniform(-0.4, 0.4, 3)
        point = volume.geometry.to_world(index * (1, step, step))
        voxel = tuple(np.rint(index).astype(int))
        around = float(smooth[voxel])
        if around < THINNEST_LUNG_HU or not patient[voxel]:
            continue
        if all(np.linalg.norm(point - np.array(other.baseline_lps_mm)) > 30 for other in drawn):
            drawn.append(_draw_lesion(f"lesion {len(drawn) + 1}", tissue, around, point, went, grid, rng))
    if count and not drawn:
        raise UserError(_TOO_LITTLE)
    return tuple(drawn)


def _draw_lesion(
    name: str,
    tissue: str,
    around_hu: float,
    point: np.ndarray,
    went: Went,
    grid: Geometry,
    rng: np.random.Generator,
) -> SyntheticLesion:
    """A lesion that can be seen: solid in lung, 40 to 90 HU darker or brighter than soft tissue round it."""
    fate = str(rng.choice(FATES, p=(0.3, 0.23, 0.23, 0.12, 0.12)))
    before = float(np.exp(rng.uniform(np.log(4), np.log(14))))
    after = before * float(rng.uniform(*_GROWTH[fate]))
    hu = (
        float(rng.uniform(0, 60))
        if tissue == "lung"
        else float(rng.choice([rng.uniform(-10, 20), rng.uniform(110, 160)]))
    )
    there = went(point[None])[0]
    return SyntheticLesion(
        name, fate, tissue, tuple(float(c) for c in point), tuple(float(c) for c in there),
        0.0 if fate == "new" else before, after, hu, bool(grid.contains(there)),
    )  # fmt: skip


def world_axes(geometry: Geometry) -> np.ndarray:
    """LPS mm of every voxel, (z, y, x, 3) float32."""
    parts = [np.arange(n, dtype=np.float32) for n in geometry.shape]
    matrix, first = geometry.affine[:3, :3].astype(np.float32), geometry.affine[:3, 3].astype(np.float32)
    z, y, x = (p[:, None] * matrix[:, a] for a, p in enumerate(parts))
    return z[:, None, None] + y[None, :, None] + x[None, None, :] + first


def with_lesions(
    hu: np.ndarray, grid: Geometry, where: np.ndarray | None, lesions: tuple[SyntheticLesion, ...]
) -> np.ndarray:
    """Blend lesions into HU on ``grid``; soft edges, half of soft tissue's texture kept.

    ``where`` (z, y, x, 3): baseline LPS mm of the follow-up's voxels; None says that ``grid`` is the baseline's.
    """
    for lesion in lesions:
        radius = lesion.baseline_radius_mm if where is None else lesion.follow_up_radius_mm
        if radius <= 0:
            continue
        middle = grid.to_index(np.array(lesion.baseline_lps_mm if where is None else lesion.follow_up_lps_mm))
        reach = (2 * radius + 8) / np.array(grid.spacing_mm) + 1
        box = tuple(
            slice(int(np.clip(m - r, 0, n)), int(np.clip(m + r + 1, 0, n)))
            for m, r, n in zip(middle, reach, grid.shape, strict=True)
        )
        part = hu[box]
        if part.size == 0:
            continue
        world = where[box] if where is not None else world_axes(grid.cropped([b.start for b in box], part.shape))
        inside = 1 / (1 + np.exp(np.clip(_beyond(lesion, radius, world) / 0.7, -30, 30)))
        typical = -850.0 if lesion.tissue == "lung" else 50.0
        kept = 0.1 if lesion.tissue == "lung" else 0.5
        hu[box] = (1 - inside) * part + inside * (lesion.hu + kept * np.clip(part - typical, -60, 60))
    return hu


def lesion_mask(lesion: SyntheticLesion, radius_mm: float, baseline_lps_mm: np.ndarray) -> np.ndarray:
    """Which voxels are the lesion's, bool (z, y, x).

    ``baseline_lps_mm`` (z, y, x, 3): where the voxels lie in the baseline.
    """
    return _beyond(lesion, radius_mm, baseline_lps_mm) < 0


def _beyond(lesion: SyntheticLesion, radius: float, world: np.ndarray) -> np.ndarray:
    """How far outside its surface places lie, in mm along the ray from its middle; negative inside.

    A fixed, mildly irregular shape: an ellipsoid whose radius ripples with direction.
    """
    offset = world - np.asarray(lesion.baseline_lps_mm, dtype=np.float32)
    length = np.linalg.norm(offset * np.float32((1.0, 1.15, 0.9)), axis=-1)
    unit = offset / np.maximum(length, 1e-3)[..., None]
    ripple = 1 + 0.12 * np.sin(3 * unit[..., 0] + lesion.hu) + 0.1 * np.sin(4 * unit[..., 1] + 2 * unit[..., 2])
    return length - radius * ripple
