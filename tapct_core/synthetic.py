"""Follow-up scans with exactly known truth, made from one real CT.

The baseline gets lesions; the follow-up is the same patient turned, shifted, deformed and scanned again with
another kernel, noise, slice thickness and field of view, in which lesions have grown, shrunk, vanished or
appeared. Where any point went is known exactly, so matching can be measured without a reader. Everything
follows from one seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.interpolate import BSpline

from .geometry import Geometry
from .synthetic_lesions import SyntheticLesion, draw_lesions, lesion_mask, with_lesions, world_axes
from .volume import AIR_HU, CTVolume, Source

Range = tuple[float, float]
_KNOT_MM = 70.0
"""Distance between control points of the deformation: organs move, voxels do not."""


@dataclass(frozen=True)
class FollowUpSpec:
    """How much changes between the scans; ranges are drawn from uniformly.

    ``rotation_deg`` and ``shift_mm`` are the largest about and along each axis; ``deformation_mm`` the largest
    displacement of the smooth part; ``kernel_mm`` the sigma of a blur, negative for sharpening;
    ``contrast`` how much enhancement may change (0 = not at all); ``keep_z`` the share of the baseline's
    length that is scanned again, ``keep_x`` of its width, from a side chosen at random.
    """

    rotation_deg: float = 10.0
    shift_mm: float = 30.0
    deformation_mm: Range = (5.0, 10.0)
    noise_hu: Range = (20.0, 40.0)
    kernel_mm: Range = (-0.8, 0.8)
    slice_mm: Range = (2.0, 4.0)
    in_plane_scale: Range = (0.9, 1.1)
    contrast: float = 0.0
    keep_z: Range = (0.75, 0.95)
    keep_x: Range = (1.0, 1.0)


STANDARD = FollowUpSpec()
HARD = FollowUpSpec(
    rotation_deg=15.0, deformation_mm=(15.0, 20.0), noise_hu=(40.0, 40.0), slice_mm=(5.0, 5.0), contrast=1.0
)


@dataclass(frozen=True, eq=False)
class Motion:
    """Where the patient's points went: a rigid motion and a smooth cubic B-spline displacement.

    Follow-up -> baseline is the closed form, y -> R^T (y - c - t) + c + u(y); the way there is found by
    iteration to 1e-3 mm. ``coefficients`` (3, Z, Y, X) mm on knots ``_KNOT_MM`` apart from ``origin``.
    """

    rotation: np.ndarray
    centre_mm: np.ndarray
    shift_mm: np.ndarray
    coefficients: np.ndarray
    origin_mm: np.ndarray

    def displacement(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """u(y) at LPS points (N, 3) of the follow-up -> (N, 3) mm."""
        index = (np.asarray(points_lps_mm) - self.origin_mm)[:, ::-1].T / _KNOT_MM
        return np.stack(
            [ndimage.map_coordinates(c, index, order=3, mode="nearest", prefilter=False) for c in self.coefficients],
            axis=1,
        )

    def to_baseline(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """LPS points (N, 3) of the follow-up -> of the baseline, exact."""
        points = np.atleast_2d(np.asarray(points_lps_mm, dtype=np.float64))
        return (points - self.centre_mm - self.shift_mm) @ self.rotation + self.centre_mm + self.displacement(points)

    def to_follow_up(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """LPS points (N, 3) of the baseline -> of the follow-up, to 1e-3 mm.

        Fixed-point iteration, which converges because the displacement changes by less than a millimetre a
        millimetre. Raises ValueError if it should not.
        """
        target = np.atleast_2d(np.asarray(points_lps_mm, dtype=np.float64))
        points = (target - self.centre_mm) @ self.rotation.T + self.centre_mm + self.shift_mm
        for _ in range(200):
            wrong = target - self.to_baseline(points)
            if np.abs(wrong).max(initial=0.0) < 1e-3:
                return points
            points = points + wrong @ self.rotation.T
        raise ValueError("the deformation folds the image; use a smaller one")


@dataclass(frozen=True, eq=False)
class FollowUp:
    """A synthetic pair: ``baseline`` (with lesions), ``follow_up``, ``lesions`` and the ``motion`` between."""

    baseline: CTVolume
    follow_up: CTVolume
    lesions: tuple[SyntheticLesion, ...]
    motion: Motion

    def baseline_mask(self, lesion: SyntheticLesion) -> np.ndarray:
        """The lesion's voxels in the baseline, bool (z, y, x); none where it is new."""
        return lesion_mask(lesion, lesion.baseline_radius_mm, world_axes(self.baseline.geometry))

    def follow_up_mask(self, lesion: SyntheticLesion) -> np.ndarray:
        """The lesion's voxels in the follow-up, bool (z, y, x); none where it has vanished."""
        return lesion_mask(lesion, lesion.follow_up_radius_mm, self._where_from)

    @cached_property
    def _where_from(self) -> np.ndarray:
        """Baseline LPS mm of the follow-up's voxels, (z, y, x, 3); one field for the masks of all lesions."""
        return _to_baseline_dense(self.motion, self.follow_up.geometry)


def make_follow_up(volume: CTVolume, spec: FollowUpSpec = STANDARD, seed: int = 0, lesions: int = 12) -> FollowUp:
    """A synthetic pair from a real CT; the same arguments give the same bytes.

    ``lesions`` are placed at random in lung and soft tissue; about one in eight is new and one in eight
    vanishes. Raises UserError when the scan holds too little tissue to place any.
    """
    rng = np.random.default_rng(seed)
    motion = _draw_motion(volume.geometry, spec, rng)
    grid = _follow_up_grid(volume.geometry, motion, spec, rng)
    drawn = draw_lesions(volume, motion.to_follow_up, grid, rng, lesions)
    baseline = CTVolume(
        with_lesions(volume.hu.astype(np.float32), volume.geometry, None, drawn),
        volume.geometry,
        Source("synthetic"),
    )
    hu = _scan_again(volume, motion, grid, drawn)
    if spec.contrast:
        hu = _change_contrast(hu, spec.contrast, rng)
    hu = _change_kernel(hu, rng.uniform(*spec.kernel_mm), grid.spacing_mm)
    hu = hu + _noise(hu.shape, rng.uniform(*spec.noise_hu), rng)
    return FollowUp(baseline, CTVolume(np.maximum(hu, AIR_HU), grid, Source("synthetic")), drawn, motion)


def _draw_motion(geometry: Geometry, spec: FollowUpSpec, rng: np.random.Generator) -> Motion:
    angles = np.deg2rad(rng.uniform(-spec.rotation_deg, spec.rotation_deg, 3) * (0.5, 0.5, 1.0))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    centre = geometry.to_world((np.array(geometry.shape) - 1) / 2)
    shift = rng.uniform(-spec.shift_mm, spec.shift_mm, 3)
    corners = geometry.to_world(np.array(np.meshgrid(*[(0, n - 1) for n in geometry.shape])).reshape(3, -1).T)
    low = corners.min(axis=0) + shift - 100 - 2 * _KNOT_MM
    knots = np.ceil((corners.max(axis=0) + shift + 100 + 2 * _KNOT_MM - low) / _KNOT_MM).astype(int) + 1
    coefficients = rng.uniform(-1, 1, (3, *knots[::-1]))
    unit = Motion(rotation, centre, shift, coefficients, low)
    probe = rng.uniform(corners.min(axis=0), corners.max(axis=0), (4000, 3)) + shift
    largest = np.linalg.norm(unit.displacement(probe), axis=1).max()
    return Motion(rotation, centre, shift, coefficients * (rng.uniform(*spec.deformation_mm) / largest), low)


def _follow_up_grid(geometry: Geometry, motion: Motion, spec: FollowUpSpec, rng: np.random.Generator) -> Geometry:
    """The second scan's grid: axis-aligned to the scanner, round the patient's new place, cropped along z and x."""
    spacing = np.array(geometry.spacing_mm) * rng.uniform(*spec.in_plane_scale)
    spacing[0] = rng.uniform(*spec.slice_mm)
    size = np.array(geometry.shape) * np.array(geometry.spacing_mm)
    kept = size.copy()
    kept[0] *= rng.uniform(*spec.keep_z)
    shape = np.maximum(1, np.rint(kept / spacing)).astype(int)
    middle = motion.centre_mm + motion.shift_mm
    slack = (size[0] - kept[0]) / 2
    middle = middle + np.array([0.0, 0.0, rng.uniform(-slack, slack)])
    if spec.keep_x != (1.0, 1.0):
        kept[2] *= rng.uniform(*spec.keep_x)
        shape[2] = max(1, round(kept[2] / spacing[2]))
        middle = middle + np.array([rng.choice((-1, 1)) * (size[2] - kept[2]) / 2, 0.0, 0.0])
    first = middle - ((shape - 1) / 2 * spacing)[::-1]
    return Geometry.from_spacing(tuple(shape), tuple(spacing), first)


def _scan_again(volume: CTVolume, motion: Motion, grid: Geometry, lesions: tuple[SyntheticLesion, ...]) -> np.ndarray:
    """The deformed patient on the follow-up's grid; thick slices are averages of thinner ones."""
    parts = max(1, int(np.ceil(grid.spacing_mm[0] / max(2.0, min(volume.geometry.spacing_mm[0], 4.0)))))
    total = np.zeros(grid.shape, dtype=np.float32)
    for part in range(parts):
        shift = ((part + 0.5) / parts - 0.5) * np.array([1.0, 0.0, 0.0])
        affine = grid.affine.copy()
        affine[:3, 3] = grid.to_world(shift)
        fine = Geometry(grid.shape, affine)
        where = _to_baseline_dense(motion, fine)
        index = volume.geometry.to_index(where.reshape(-1, 3)).T.astype(np.float32).reshape(3, *grid.shape)
        hu = ndimage.map_coordinates(volume.hu, index, output=np.float32, order=1, cval=AIR_HU)
        total += with_lesions(hu, fine, where, lesions)
    return total / parts


def _to_baseline_dense(motion: Motion, grid: Geometry) -> np.ndarray:
    """:meth:`Motion.to_baseline` at every voxel of an axis-aligned grid -> (z, y, x, 3) float32.

    The B-spline is a product along the axes, so three small matrices do what a sum over 64 knots would.
    """
    world = world_axes(grid)
    bases = []
    for axis, size in enumerate(grid.shape):
        first, step = grid.origin_mm[2 - axis], grid.spacing_mm[axis]
        knots = motion.coefficients.shape[1 + axis]
        at = (first + step * np.arange(size) - motion.origin_mm[2 - axis]) / _KNOT_MM
        knot_vector = np.arange(-2, knots + 2, dtype=np.float64)  # basis function k is centred on knot k
        bases.append(BSpline.design_matrix(at, knot_vector, 3, extrapolate=False).toarray().astype(np.float32))
    moved = np.einsum("cijk,zi,yj,xk->zyxc", motion.coefficients.astype(np.float32), *bases, optimize=True)
    rigid = (world - (motion.centre_mm + motion.shift_mm).astype(np.float32)) @ motion.rotation.astype(np.float32)
    return rigid + motion.centre_mm.astype(np.float32) + moved


def _change_contrast(hu: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Another contrast phase: enhancement over 40 HU is scaled by a smooth random factor, bone is left alone."""
    coarse = rng.uniform(-1, 1, (4, 4, 4))
    zoomed = ndimage.zoom(coarse, np.array(hu.shape) / 4, order=1, mode="nearest", grid_mode=True)
    factor = np.exp(amount * (0.6 * zoomed.astype(np.float32) + rng.uniform(-0.6, 0.3)))
    enhanced = np.clip((hu - 20) / 40, 0, 1) * np.clip((400 - hu) / 200, 0, 1)
    return hu + enhanced * ((hu - 40) * (factor - 1) + amount * 15 * zoomed.astype(np.float32))


def _change_kernel(hu: np.ndarray, sigma_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """A softer (sigma > 0) or sharper (sigma < 0) reconstruction kernel, in plane."""
    sigma = [0.0, *(max(abs(sigma_mm), 1e-3) / np.array(spacing_mm[1:]))]
    blurred = ndimage.gaussian_filter(hu, sigma)
    return blurred if sigma_mm > 0 else hu + 0.7 * (hu - blurred)


def _noise(shape: tuple[int, int, int], sigma_hu: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a given standard deviation, correlated a little in plane as a scanner's is."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 0.5, 0.5))
    return noise * (sigma_hu / noise.std())
