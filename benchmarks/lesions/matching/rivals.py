"""What a user can match points with already: registration, correlation, and a training-free descriptor.

Each rival takes a pair of CTVolumes and points (N, 3) LPS mm of the first, and gives points of the second.
HU is clipped to [-1000, 700] for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from tapct_core.geometry import Geometry
from tapct_core.matching.descriptors import base_image
from tapct_core.volume import CTVolume

Locate = Callable[[np.ndarray], np.ndarray]
CLIP_HU = (-1000, 700)


def identity(before: CTVolume, after: CTVolume) -> Locate:
    """The same coordinates."""
    return lambda points: points.copy()


def register(before: CTVolume, after: CTVolume, spline: bool) -> Locate:
    """SimpleITK, mutual information: affine on three levels, then optionally a B-spline with knots 50 mm apart."""
    fixed, moving = (_to_sitk(volume) for volume in (before, after))
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    rigid = _optimise(fixed, moving, start, (8, 4), (4, 2), "gradient")
    affine = sitk.AffineTransform(3)
    euler = sitk.Euler3DTransform(sitk.CompositeTransform(rigid).GetBackTransform())
    affine.SetMatrix(euler.GetMatrix())
    affine.SetTranslation(euler.GetTranslation())
    affine.SetCenter(euler.GetCenter())
    transform = sitk.CompositeTransform([_optimise(fixed, moving, affine, (4, 2), (2, 1), "gradient")])
    if spline:
        extent = np.array(fixed.GetSize()) * fixed.GetSpacing()
        mesh = [int(max(1, round(e / 50))) for e in extent]
        resampled = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, CLIP_HU[0])
        bend = _optimise(fixed, resampled, sitk.BSplineTransformInitializer(fixed, mesh), (8, 4), (4, 2), "lbfgs")
        transform = sitk.CompositeTransform([transform, bend])  # ITK applies the last one first
    return lambda points: np.array([transform.TransformPoint([float(c) for c in p]) for p in points])


def _to_sitk(volume: CTVolume) -> sitk.Image:
    hu, grid = base_image(volume.hu, volume.geometry, 2.5)
    image = sitk.GetImageFromArray(np.clip(hu, *CLIP_HU).astype(np.float32))
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction[:, ::-1].ravel().tolist())
    return image


def _optimise(fixed, moving, start, shrink, smooth_mm, kind: str):
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, 7)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel(list(smooth_mm))
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    if kind == "lbfgs":
        method.SetOptimizerAsLBFGSB(numberOfIterations=30, maximumNumberOfCorrections=5)
    else:
        method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 120, relaxationFactor=0.6)
        method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def convex_adam(before: CTVolume, after: CTVolume, first: Locate) -> Locate:
    """ConvexAdam (Siebert et al., IEEE TMI 2024; package ``convexadam``) with MIND features, its own settings, at 2 mm.

    It starts from ``first``, by which the follow-up is resampled on the baseline's grid.
    """
    import torch
    from convexAdam.convex_adam_MIND import convex_adam_pt

    fixed, grid = base_image(np.clip(before.hu, *CLIP_HU), before.geometry, 2.0)
    image, after_grid = base_image(np.clip(after.hu, *CLIP_HU), after.geometry, 2.0)
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    moving = _sample(image, after_grid, _affine_of(first, grid)(grid.to_world(voxels))).reshape(grid.shape)
    shift = convex_adam_pt(fixed.astype(np.float32), moving, dtype=torch.float32, device=torch.device("cpu"))

    def locate(points: np.ndarray) -> np.ndarray:
        index = grid.to_index(points)
        moved = [ndimage.map_coordinates(shift[..., axis], index.T, order=1, mode="nearest") for axis in range(3)]
        return first(grid.to_world(index + np.stack(moved, axis=1)))

    return locate


def _affine_of(first: Locate, grid: Geometry) -> Locate:
    """An affine ``first`` for a million points at once: from four of them."""
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    start = first(middle[None])[0]
    linear = np.stack([(first((middle + 50 * axis)[None])[0] - start) / 50 for axis in np.eye(3)], axis=1)
    return lambda points: start + (points - middle) @ linear.T


def correlation(before: CTVolume, after: CTVolume, first: Locate, patch_mm: float, reach_mm: float) -> Locate:
    """Normalised correlation of a cubic patch within ``reach_mm`` of where ``first`` says; 2 mm, then 1 mm steps.

    The template is warped by the local linear part of ``first``, taken from differences over 10 mm.
    """
    images = [base_image(np.clip(v.hu, *CLIP_HU), v.geometry, 2.0) for v in (before, after)]

    def locate(points: np.ndarray) -> np.ndarray:
        starts = first(points)
        steps = [(first(points + 10 * axis) - starts) / 10 for axis in np.eye(3)]
        linears = np.stack(steps, axis=2)
        return np.array(
            [_correlate(images, p, s, m, patch_mm, reach_mm) for p, s, m in zip(points, starts, linears, strict=True)]
        )

    return locate


def _correlate(images, point, start, linear, patch_mm: float, reach_mm: float) -> np.ndarray:
    (image_a, grid_a), (image_b, grid_b) = images
    inverse = np.linalg.inv(linear)
    for step, reach in ((2.0, reach_mm), (1.0, 3.0)):
        half = _cube(patch_mm / 2, step)
        template = _sample(image_a, grid_a, point + half @ inverse.T)
        region = _sample(image_b, grid_b, start + _cube(patch_mm / 2 + reach, step))
        found = _plain_ncc(template, region)
        best = np.array(np.unravel_index(found.argmax(), found.shape))
        start = start + ((best - (np.array(found.shape) - 1) / 2) * step)[::-1]
    return start


def _cube(radius_mm: float, step_mm: float) -> np.ndarray:
    ticks = np.arange(-round(radius_mm / step_mm), round(radius_mm / step_mm) + 1) * step_mm
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    return np.stack([x, y, z], axis=-1)


def _sample(image: np.ndarray, grid: Geometry, points: np.ndarray) -> np.ndarray:
    index = np.moveaxis(grid.to_index(points), -1, 0)
    return ndimage.map_coordinates(image, index, order=1, mode="constant", cval=CLIP_HU[0], output=np.float32)


def _plain_ncc(template: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Unweighted normalised correlation at every shift inside the region."""
    from skimage.feature import match_template

    return match_template(region, template)


def descriptor(before: CTVolume, after: CTVolume) -> Locate:
    """Sparse multi-scale HU samples compared by L1, coarse to fine over the whole scan.

    After Yerebakan et al. 2023 (arXiv 2308.07337), written from the paper's description: 7 x 7 x 7 offsets at
    steps of 4, 10 and 24 mm (1,029 samples), searched at 12 mm in the body, and from the five best
    places at 4, 2 and 1 mm.
    """
    volumes = before, after
    (image_a, grid_a), (image_b, grid_b) = (base_image(np.clip(v.hu, *CLIP_HU), v.geometry, 2.0) for v in volumes)
    offsets = np.concatenate([_cube(3 * step, step).reshape(-1, 3) for step in (4.0, 10.0, 24.0)])
    body = ndimage.uniform_filter(image_b, 5) > -900
    nodes = np.argwhere(body[3::6, 3::6, 3::6]) * 6 + 3
    lattice = grid_b.to_world(nodes)
    coarse = offsets[::3]
    dense = np.concatenate(
        [_nearest(image_b, grid_b, lattice[i : i + 2000], coarse) for i in range(0, len(lattice), 2000)]
    )

    def locate(points: np.ndarray) -> np.ndarray:
        found = []
        for point in points:
            rough = np.abs(dense - _nearest(image_a, grid_a, point[None], coarse)[0]).mean(axis=1)
            wanted = _nearest(image_a, grid_a, point[None], offsets)[0]
            ends = []
            for place in lattice[np.argsort(rough)[:5]]:
                for step, reach in ((4.0, 12.0), (2.0, 4.0), (1.0, 2.0)):
                    tried = place + _cube(reach, step).reshape(-1, 3)
                    distances = np.abs(_nearest(image_b, grid_b, tried, offsets) - wanted).mean(axis=1)
                    place, distance = tried[distances.argmin()], distances.min()
                ends.append((distance, tuple(place)))
            found.append(min(ends)[1])
        return np.array(found)

    return locate


def _nearest(image: np.ndarray, grid: Geometry, points: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Nearest voxels round points (N, 3) at offsets (M, 3) LPS mm -> (N, M) float32; air outside."""
    index = np.rint(grid.to_index(points)[:, None] + (grid.to_index(offsets) - grid.to_index(np.zeros(3)))).astype(
        np.int32
    )
    inside = ((index >= 0) & (index < image.shape)).all(axis=2)
    flat = np.ravel_multi_index(np.moveaxis(index.clip(0, np.array(image.shape) - 1), -1, 0), image.shape)
    return np.where(inside, image.reshape(-1)[flat], np.float32(CLIP_HU[0]))
