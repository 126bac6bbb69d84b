"""Geometry as properties: voxel <-> world and back, every orientation of a file, and the grids made from a grid."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapct_core.geometry import RAS_FROM_LPS, Geometry, GeometryError, axis_codes, orient

ALL_48 = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]
SHAPE = (4, 5, 7)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        i, j = [a for a in range(3) if a != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def affine_of(
    axes=(2, 1, 0), signs=(1, 1, 1), degrees=(0.0, 0.0, 0.0), spacing=(2.5, 0.8, 0.7), origin=(-120.0, 33.5, 700.25)
):
    """File index -> LPS mm, file axis i running along world axis ``axes[i]`` with ``signs[i]``, then rotated."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for i, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, i] = sign * spacing[i]
    affine[:3, :3] = rotation(degrees) @ affine[:3, :3]
    affine[:3, 3] = origin
    return affine


def indices(shape):
    return np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)


angles = st.tuples(*[st.floats(-180, 180)] * 3)
spacings = st.tuples(*[st.floats(0.2, 8.0)] * 3)
shapes = st.tuples(*[st.integers(1, 40)] * 3)
grids = st.builds(
    lambda shape, degrees, spacing, origin: Geometry(shape, affine_of((2, 1, 0), (1, 1, 1), degrees, spacing, origin)),
    shapes, angles, spacings, st.tuples(*[st.floats(-1500, 1500)] * 3),
)  # fmt: skip


@given(grids, st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=4))
def test_world_and_index_are_inverse(grid, points):
    assert np.allclose(grid.to_index(grid.to_world(points)), points, atol=1e-6)


@given(grids)
def test_spacing_is_the_distance_between_neighbours(grid):
    steps = grid.to_world(np.eye(3)) - grid.to_world(np.zeros(3))
    assert np.allclose(np.linalg.norm(steps, axis=1), grid.spacing_mm)
    assert np.allclose(grid.to_world((0, 0, 0)), grid.origin_mm)


@pytest.mark.parametrize(("axes", "signs"), ALL_48)
@pytest.mark.parametrize("degrees", [(0, 0, 0), (7.0, -12.0, 20.0)])
def test_orienting_moves_no_voxel_in_the_patient(axes, signs, degrees):
    affine = affine_of(axes, signs, degrees)
    orientation, grid = orient(SHAPE, affine)
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    turned = orientation.apply(stored)
    assert turned.shape == grid.shape
    assert np.array_equal(orientation.undo(turned), stored)
    where = nib.affines.apply_affine(affine, indices(SHAPE))  # world of each stored value, by other code
    expected = np.empty((stored.size, 3))
    expected[stored.ravel()] = where.reshape(-1, 3)
    assert np.allclose(grid.to_world(indices(grid.shape)).reshape(-1, 3), expected[turned.ravel()])


@pytest.mark.parametrize(("axes", "signs"), ALL_48)
def test_oriented_grid_is_the_closest_to_axial_lps(axes, signs):
    _, grid = orient(SHAPE, affine_of(axes, signs, (5.0, -10.0, 15.0)))
    assert axis_codes(grid.affine) == "SPL"
    assert (np.diag(grid.direction[::-1]) > 0.8).all()


@pytest.mark.parametrize(("axes", "signs"), ALL_48)
def test_orientation_agrees_with_nibabel(axes, signs):
    affine = affine_of(axes, signs, (3.0, 4.0, -6.0))
    assert "".join(nib.aff2axcodes(RAS_FROM_LPS @ affine)) == axis_codes(affine)
    _, grid = orient(SHAPE, affine)
    image = nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), RAS_FROM_LPS @ affine)
    target = nib.orientations.axcodes2ornt("SPL")
    theirs = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))
    assert np.allclose(RAS_FROM_LPS @ theirs.affine, grid.affine)


def test_45_degrees_still_uses_each_axis_once():
    orientation, _ = orient(SHAPE, affine_of(degrees=(45.0, 0.0, 45.0)))
    assert sorted(orientation.axes) == [0, 1, 2]


@given(grids, shapes)
def test_resizing_keeps_the_outer_faces(grid, shape):
    resized = grid.resized(shape)
    for corner in product((0, 1), repeat=3):
        ours = grid.to_world(np.array(corner) * grid.shape - 0.5)
        assert np.allclose(ours, resized.to_world(np.array(corner) * shape - 0.5), atol=1e-6)


@given(grids, spacings)
def test_respacing_gives_the_spacing_and_covers_the_box_to_half_a_voxel(grid, spacing):
    new = grid.respaced(spacing)
    assert np.allclose(new.spacing_mm, spacing)
    assert np.allclose(new.to_world([-0.5] * 3), grid.to_world([-0.5] * 3), atol=1e-6)
    lengths = np.array(new.shape) * spacing - np.array(grid.shape) * grid.spacing_mm
    assert (np.abs(lengths) <= np.array(spacing) * (0.5 + 1e-6)).all() or min(new.shape) == 1


@given(grids, st.tuples(*[st.integers(-5, 30)] * 3), shapes, st.tuples(*[st.floats(-3, 30)] * 3))
def test_a_crop_keeps_every_voxels_place(grid, start, shape, index):
    assert np.allclose(grid.cropped(start, shape).to_world(index), grid.to_world(np.add(index, start)), atol=1e-6)


def test_pooling_puts_a_block_at_the_mean_of_its_voxels():
    grid = Geometry((8, 12, 6), affine_of(degrees=(10, 20, 30)))
    pooled = grid.pooled((4, 3, 2))
    block = indices((4, 3, 2)).reshape(-1, 3) + np.array([4, 6, 2])
    assert np.allclose(pooled.to_world((1, 2, 1)), grid.to_world(block).mean(axis=0))
    with pytest.raises(GeometryError, match="does not divide"):
        grid.pooled((3, 3, 2))


def test_contains_reaches_to_the_outer_faces():
    grid = Geometry.from_spacing((3, 4, 5), (2.0, 1.0, 0.5), (10.0, 20.0, 30.0))
    assert grid.contains(grid.to_world([[-0.49] * 3, [2.49, 3.49, 4.49]])).all()
    assert not grid.contains(grid.to_world([[-0.51, 0, 0], [0, 3.51, 0], [0, 0, 4.51]])).any()
    assert np.allclose(grid.to_world((1, 1, 1)), (10.5, 21.0, 32.0))


def test_matches_sees_shape_shift_and_far_corners():
    grid = Geometry.from_spacing((100, 100, 100), (2.0, 1.0, 1.0))
    slightly = grid.affine.copy()
    slightly[0, 2] += 1e-3  # 0.1 mm at the far corner
    assert grid.matches(Geometry(grid.shape, grid.affine))
    assert not grid.matches(Geometry(grid.shape, slightly))
    assert not grid.matches(Geometry((100, 100, 99), grid.affine))


@pytest.mark.parametrize(
    "broken", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3), np.diag([1.0, 1.0, 0.0, 1.0])]
)
def test_a_grid_without_a_place_is_refused(broken):
    with pytest.raises(GeometryError):
        Geometry((2, 2, 2), broken)
    with pytest.raises(GeometryError):
        Geometry((2, 0, 2), np.eye(4))


def test_two_axes_in_one_direction_are_singular():
    affine = np.eye(4)
    affine[:3, 1] = affine[:3, 0] + [0, 1e-5, 0]
    affine[:3, 1] = [1.0, 1e-5, 0.0]
    with pytest.raises(GeometryError, match="singular"):
        Geometry((2, 2, 2), affine)


def test_a_grid_cannot_be_changed():
    with pytest.raises(ValueError):
        Geometry((2, 2, 2), np.eye(4)).affine[0, 0] = 2
