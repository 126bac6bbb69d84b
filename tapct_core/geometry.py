"""Where voxels are: the one place that turns array indices into patient coordinates and back.

World is LPS+ millimetres, DICOM's patient system: x grows to the patient's Left, y to Posterior,
z to Superior. Arrays are (z, y, x). An affine here takes an *array index* (z, y, x, 1) straight to
(x, y, z, 1) in LPS mm, so no caller ever has to reverse a triple.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .errors import UserError

Shape = tuple[int, int, int]

FARTHEST_MM = 1e12
"""Beyond it a number is damage: its square would not fit, and no patient reaches so far."""
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns LPS mm into RAS mm, the system of NIfTI files; its own inverse."""

# For array axes (z, y, x): the LPS axis each should follow, that is z -> S, y -> P, x -> L.
_WORLD_AXIS_OF_ARRAY_AXIS = (2, 1, 0)


class GeometryError(UserError):
    """A grid that cannot be placed in the patient: singular, not finite, or sheared."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in the patient: ``shape`` (z, y, x) and ``affine``, index (z, y, x) -> LPS mm.

    The affine maps to voxel *centres*. Raises GeometryError for a singular or non-finite affine.
    """

    shape: Shape
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"a grid needs three axes of at least one voxel, not {shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not (np.abs(affine) < FARTHEST_MM).all():  # NaN fails too
            raise GeometryError("the affine is not a finite 4x4 matrix, so voxels have no place in the patient")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
            raise GeometryError("the affine is singular, so voxels have no place in the patient")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(cls, shape: Shape, spacing_mm: tuple[float, float, float], origin_mm=(0.0, 0.0, 0.0)) -> Geometry:
        """Axis-aligned grid: spacing (z, y, x) mm; ``origin_mm`` is the LPS (x, y, z) of voxel (0, 0, 0)."""
        affine = np.eye(4)
        affine[:3, :3] = np.diag(spacing_mm)[::-1]
        affine[:3, 3] = origin_mm
        return cls(shape, affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (z, y, x), in mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """LPS mm (x, y, z) of the centre of voxel (0, 0, 0)."""
        return tuple(float(c) for c in self.affine[:3, 3])

    @property
    def direction(self) -> np.ndarray:
        """(3, 3) unit columns: the LPS direction in which each array axis (z, y, x) runs."""
        return self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.inv(self.affine)

    def to_world(self, index_zyx: np.ndarray) -> np.ndarray:
        """Array indices (..., 3) as (z, y, x), fractional allowed -> LPS mm (..., 3) as (x, y, z)."""
        index = np.asarray(index_zyx, dtype=np.float64)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """LPS mm (..., 3) as (x, y, z) -> fractional array indices (..., 3) as (z, y, x)."""
        points = np.asarray(points_lps_mm, dtype=np.float64)
        return points @ self._inverse[:3, :3].T + self._inverse[:3, 3]

    def contains(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Whether LPS points (..., 3) lie inside the voxels' outer faces -> bool (...)."""
        index = self.to_index(points_lps_mm)
        return ((index >= -0.5) & (index <= np.array(self.shape) - 0.5)).all(axis=-1)

    def cropped(self, start: Shape, shape: Shape) -> Geometry:
        """The grid of ``array[start : start + shape]``; a negative start or a larger shape pads."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world(np.array(start))
        return Geometry(shape, affine)

    def resized(self, shape: Shape) -> Geometry:
        """The same box (outer faces) cut into ``shape`` voxels, as resizing an image does."""
        scale = np.array(self.shape) / np.array(shape)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * scale
        affine[:3, 3] = self.to_world(0.5 * scale - 0.5)
        return Geometry(shape, affine)

    def respaced(self, spacing_mm: tuple[float, float, float]) -> Geometry:
        """The same first corner at ``spacing_mm`` (z, y, x) exactly; the far side may gain up to half a voxel."""
        own = np.array(self.spacing_mm)
        scale = np.array(spacing_mm, dtype=np.float64) / own
        shape = np.maximum(1, np.rint(np.array(self.shape) / scale)).astype(int)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * scale
        affine[:3, 3] = self.to_world(0.5 * scale - 0.5)
        return Geometry(tuple(shape), affine)

    def pooled(self, block: Shape) -> Geometry:
        """The grid whose voxels are whole blocks (z, y, x) of this one; the shape must divide."""
        if any(n % b for n, b in zip(self.shape, block, strict=True)):
            raise GeometryError(f"a grid of {self.shape} does not divide into blocks of {tuple(block)}")
        return self.resized(tuple(n // b for n, b in zip(self.shape, block, strict=True)))

    def matches(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have one shape and no corner lies further apart than ``tolerance_mm``."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        return bool(np.abs(self.to_world(corners) - other.to_world(corners)).max() <= tolerance_mm)


@dataclass(frozen=True)
class Orientation:
    """How a file's array was turned to the house's axial-first LPS order, and back.

    ``axes[a]`` is the file array's axis that became axis ``a`` of (z, y, x); ``flips[a]`` says
    whether that axis was then reversed.
    """

    axes: Shape = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, file_array: np.ndarray) -> np.ndarray:
        """File order -> (z, y, x), a view."""
        return self._flip(np.transpose(file_array, self.axes))

    def undo(self, array_zyx: np.ndarray) -> np.ndarray:
        """(z, y, x) -> file order, a view; the exact inverse of :meth:`apply`."""
        return np.transpose(self._flip(array_zyx), np.argsort(self.axes))

    def _flip(self, array: np.ndarray) -> np.ndarray:
        return array[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]


def orient(file_shape: Shape, file_affine: np.ndarray) -> tuple[Orientation, Geometry]:
    """Closest axial-first LPS order of a file's array.

    ``file_affine`` takes the file's own index (axis order as stored) to LPS mm. Returns the
    orientation and the Geometry *after* it has been applied. Each array axis is paired with the
    world axis so that the summed alignment is largest, which is unambiguous for oblique scans too
    (a greedy choice can give two axes to one direction at 45 degrees).
    Raises GeometryError for a singular or non-finite affine.
    """
    from itertools import permutations

    checked = Geometry(file_shape, file_affine)
    cosines = checked.direction  # (world, file axis)
    axes = max(
        permutations(range(3)),
        key=lambda order: sum(abs(cosines[_WORLD_AXIS_OF_ARRAY_AXIS[a], order[a]]) for a in range(3)),
    )
    flips = tuple(bool(cosines[_WORLD_AXIS_OF_ARRAY_AXIS[a], axes[a]] < 0) for a in range(3))
    start = np.zeros(3)
    steps = np.zeros((3, 3))  # new axis -> file index
    for axis, (source, flip) in enumerate(zip(axes, flips, strict=True)):
        steps[source, axis] = -1.0 if flip else 1.0
        if flip:
            start[source] = checked.shape[source] - 1
    affine = np.eye(4)
    affine[:3, :3] = checked.affine[:3, :3] @ steps
    affine[:3, 3] = checked.to_world(start)
    return Orientation(axes, flips), Geometry(tuple(checked.shape[a] for a in axes), affine)


def axis_codes(affine: np.ndarray) -> str:
    """Directions in which the array axes grow, for example ``"SPL"`` for the house's own order.

    ``affine`` takes an index to LPS mm; each letter is the closest of L/R, P/A, S/I.
    """
    cosines = np.asarray(affine, dtype=np.float64)[:3, :3]
    letters = ("LR", "PA", "SI")
    closest = np.abs(cosines).argmax(axis=0)
    return "".join(letters[world][int(cosines[world, axis] < 0)] for axis, world in enumerate(closest))
