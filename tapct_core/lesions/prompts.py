"""What a person says of a lesion, as a shape to expect and places that are certain: axes, a box, an outline, strokes.

A drawn axis is law in its middle: its inner part lies in the lesion, its continuation beyond both ends does not.
What a drawing in one slice leaves open, the extent across the slices, is what such lesions have on average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..errors import UserError
from ..geometry import Geometry
from ..volume import LabelMap
from .finding import Mask
from .shapes import AROUND_MM, Ellipsoid, Shape, Template, ball

BACKGROUND = "background"
"""Name of the class of strokes that lie outside the lesion."""
INNER = 0.8
"""Share of a drawn axis, about its middle, that is surely inside."""
CAP = 0.08
"""Of an axis's length beyond its ends: further on lies surely something else."""
WIDE, TALL = 0.85, 1.1
"""Extent at right angles to a drawn axis in its plane, and across its plane, as shares of the axis."""
FAR = 1.8
"""Relative radius from which on all is outside."""
GIVE = 0.2
"""How softly a drawn shape ends, as a share of its radius."""
EDGE_MM = 1.0
"""And how softly a border ends that has been found in the image."""
OFF_MM = 2.5
"""How far a hand's outline lies from the border."""
SHORTEST_MM = 1.0

Where = Callable[[Geometry], np.ndarray]


@dataclass(frozen=True, eq=False)
class Prompt:
    """One expectation. ``size_mm``: the long axis that is expected; ``give``: how softly the shape ends, in relative
    radii; ``points`` (n, 3) LPS mm surely inside; ``outside`` says where on a grid the lesion surely is not (besides
    ``far`` away); ``drawn_mm`` the length of an axis drawn in a slice. The mask's long axis is held against
    ``expected_mm``, which ``expected_by`` says; ``guessed`` where the size is nobody's word."""

    shape: Shape
    middle_lps_mm: np.ndarray
    size_mm: float
    give: float = GIVE
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    outside: Where | None = None
    drawn_mm: float | None = None
    far: float = FAR
    expected_mm: float | None = None
    expected_by: str = "were drawn"
    guessed: bool = False

    @property
    def half_mm(self) -> float:
        """How far from the middle the image matters."""
        return self.shape.reach_mm(self.far)


@dataclass(frozen=True, eq=False)
class Marks:
    """Strokes on the scan's own voxels, bool (z, y, x), each None where there are none."""

    inside: np.ndarray
    outside: np.ndarray

    @classmethod
    def of(cls, strokes: LabelMap | None, geometry: Geometry) -> Marks | None:
        """Every class is the lesion's, but that named "background". Raises UserError for another grid or no stroke."""
        if strokes is None:
            return None
        _same_grid(strokes.geometry, geometry, "strokes")
        labels = strokes.labels
        outside = np.isin(labels, [k for k, name in strokes.names.items() if name.strip().lower() == BACKGROUND])
        if not labels.any():
            raise UserError("the strokes are empty; paint inside the lesion, or beside it as background")
        return cls((labels > 0) & ~outside, outside)


def from_axis(axis: object, geometry: Geometry) -> Prompt:
    """From a long axis, two LPS points, or from a long and a short one, two such pairs."""
    lines = np.asarray(axis, float)
    if lines.shape not in ((2, 3), (1, 2, 3), (2, 2, 3)) or not np.isfinite(lines).all():
        raise UserError("an axis is two points, x y z in LPS mm; a second pair is the short axis")
    lines = lines.reshape(-1, 2, 3)
    lines = lines[np.argsort(-np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1))]
    length = float(np.linalg.norm(lines[0, 1] - lines[0, 0]))
    if length < SHORTEST_MM:
        raise UserError("the ends of the axis lie at one place; draw it across the lesion")
    middle = lines[0].mean(axis=0)
    if not geometry.contains(middle):
        raise UserError("the axis lies outside the scan; its points are x y z in LPS mm")
    axes = _frame((lines[0, 1] - lines[0, 0]) / length, geometry.direction[:, 0])
    semi = length / 2 * np.array([1.0, WIDE, TALL])
    centre = middle
    if len(lines) == 2:
        across = (lines[1] - middle) @ axes[1]
        semi[1] = max(np.ptp(across) / 2, 0.1 * length)
        semi[2] = TALL * (semi[0] + semi[1]) / 2 / ((1 + WIDE) / 2)
        centre = middle + across.mean() * axes[1]
    semi[2] = max(semi[2], 0.5 * geometry.spacing_mm[0])
    points = np.concatenate([_line(part, INNER, geometry) for part in lines])
    if len(lines) == 1:

        def outside(grid: Geometry) -> np.ndarray:
            return _beyond(grid, middle, axes[0], length)
    else:
        width, second = 2 * semi[1], centre

        def outside(grid: Geometry) -> np.ndarray:
            return _beyond(grid, middle, axes[0], length) | _beyond(grid, second, axes[1], width)

    in_slice = abs(axes[0] @ geometry.direction[:, 0]) * length < geometry.spacing_mm[0]
    shape = Ellipsoid(centre, axes, semi)
    drawn = length if in_slice else None
    return Prompt(shape, centre, length, GIVE, points, outside, drawn, expected_mm=drawn)


def from_box(box: object, geometry: Geometry) -> Prompt:
    """From two opposite corners in LPS mm; a flat one was drawn in a slice and leaves the extent across it open."""
    corners = np.asarray(box, float)
    if corners.shape != (2, 3) or not np.isfinite(corners).all():
        raise UserError("a box is two opposite corners, x y z in LPS mm")
    middle, semi = corners.mean(axis=0), np.abs(corners[1] - corners[0]) / 2
    if not geometry.contains(middle):
        raise UserError("the box lies outside the scan; its corners are x y z in LPS mm")
    flat = semi < 0.25 * semi.max()
    if semi.max() < SHORTEST_MM or flat.sum() > 1:
        raise UserError("the box is thinner than a lesion; draw it round the lesion")
    limits = np.where(flat, np.inf, semi + 0.05 * semi.max() + 0.5)
    semi[flat] = TALL * semi[~flat].mean()

    def outside(grid: Geometry) -> np.ndarray:
        return (np.abs(_places(grid) - middle) > limits).any(axis=-1)

    return Prompt(Ellipsoid(middle, np.eye(3), semi), middle, 2 * float(semi[:2].max()), GIVE, middle[None], outside)


def from_outline(outline: LabelMap, geometry: Geometry) -> Prompt:
    """From a rough outline, drawn as a closed curve or filled, in one slice or in several."""
    _same_grid(outline.geometry, geometry, "outline")
    drawn = outline.labels > 0
    slices = np.flatnonzero(drawn.any(axis=(1, 2)))
    if not len(slices):
        raise UserError("the outline is empty; draw it round the lesion")
    filled = np.zeros_like(drawn)
    for z in slices:
        filled[z] = ndimage.binary_fill_holes(drawn[z])
    mask = Mask.from_array(_between(filled, slices))
    radius = float(np.sqrt(filled.sum(axis=(1, 2)).max() * np.prod(geometry.spacing_mm[1:]) / np.pi))
    shape = _Slices.of(mask, geometry, radius)
    middle = geometry.to_world(np.argwhere(mask.voxels).mean(axis=0) + mask.start)

    def outside(grid: Geometry) -> np.ndarray:
        beyond, away = shape.distances(grid)
        return (away <= 0.5 * geometry.spacing_mm[0]) & (beyond > OFF_MM + 0.25 * radius)

    give = float(np.clip(OFF_MM / radius / 2, 0.1, 0.3))
    deep = np.argwhere(mask.voxels & _deep(mask, geometry, OFF_MM + 0.15 * radius)) + mask.start
    points = geometry.to_world(deep if len(deep) else np.rint(geometry.to_index(middle))[None])
    return Prompt(shape, middle, 2 * radius, give, points, outside)


def from_ball(middle_lps_mm: np.ndarray, radius_mm: float, point_lps_mm: np.ndarray, reach_mm: float) -> Prompt:
    """A ball that stands out in the image round a clicked point, from which nothing further than a reach is taken."""
    point = np.asarray(point_lps_mm, float)

    def outside(grid: Geometry) -> np.ndarray:
        return ball(point, reach_mm).rho(grid) > 1

    return Prompt(
        ball(middle_lps_mm, radius_mm), middle_lps_mm, 2 * radius_mm, GIVE, point[None], outside, guessed=True
    )


def from_mask(mask: Mask, geometry: Geometry, give_mm: float = EDGE_MM, guessed: bool = False) -> Prompt:
    """A region found or drawn on this scan, whose border is known to about ``give_mm``."""
    template = Template.of(mask, geometry)
    inside = np.argwhere(mask.voxels & _deep(mask, geometry, 2 * give_mm)) + mask.start
    if not len(inside):
        inside = np.argwhere(mask.voxels) + mask.start
        inside = inside[np.linalg.norm((inside - inside.mean(axis=0)) * geometry.spacing_mm, axis=1).argmin()][None]
    size = float(np.linalg.norm(np.array(mask.voxels.shape[1:]) * geometry.spacing_mm[1:]) / np.sqrt(2))
    middle = geometry.to_world(np.array(mask.start) + (np.array(mask.voxels.shape) - 1) / 2)
    give, far = give_mm / template.radius_mm, 1 + 3 * give_mm / template.radius_mm
    return Prompt(template, middle, size, give, geometry.to_world(inside), far=far, guessed=guessed)


@dataclass(frozen=True, eq=False)
class _Slices:
    """A shape known in slices ``first`` to ``last`` of ``geometry``, which goes on across them as an ellipsoid would.

    ``beyond_mm`` (slices, y, x): signed distance to the outline in its slice, negative inside, from pixel ``corner``.
    """

    beyond_mm: np.ndarray
    geometry: Geometry
    first: int
    corner: np.ndarray
    radius_mm: float

    @classmethod
    def of(cls, mask: Mask, geometry: Geometry, radius_mm: float) -> _Slices:
        """``mask`` has something in each of its slices."""
        _, y, x = geometry.spacing_mm
        margin = int(np.ceil((AROUND_MM + radius_mm) / min(y, x)))
        voxels = np.pad(mask.voxels, ((0, 0), (margin, margin), (margin, margin)))
        half = 0.5 * min(y, x)
        beyond = [
            ndimage.distance_transform_edt(~part, sampling=(y, x))
            - ndimage.distance_transform_edt(part, sampling=(y, x))
            + np.where(part, half, -half)
            for part in voxels
        ]
        return cls(
            np.stack(beyond).astype(np.float32), geometry, mask.start[0], np.array(mask.start[1:]) - margin, radius_mm
        )

    @property
    def half_mm(self) -> float:
        """Half of the height over the drawn slices."""
        return (len(self.beyond_mm) - 1) / 2 * self.geometry.spacing_mm[0]

    def reach_mm(self, far: float) -> float:
        """See :class:`~tapct_core.lesions.shapes.Template`."""
        margin = AROUND_MM + self.radius_mm
        sides = np.array(self.beyond_mm.shape[1:]) * self.geometry.spacing_mm[1:] / 2 - margin
        return max(float(sides.max()) + (far - 1) * self.radius_mm, self.half_mm + far * self.radius_mm)

    def distances(self, grid: Geometry) -> tuple[np.ndarray, np.ndarray]:
        """mm beyond the outline of the nearest drawn slice, negative inside, and mm away from that slice."""
        at = self.geometry.to_index(_places(grid))
        held = np.clip(at[..., 0], self.first, self.first + len(self.beyond_mm) - 1)
        away = np.abs(at[..., 0] - held) * self.geometry.spacing_mm[0]
        index = np.stack([held - self.first, *(at[..., a + 1] - self.corner[a] for a in (0, 1))])
        return ndimage.map_coordinates(self.beyond_mm, index, order=1, mode="nearest", output=np.float32), away

    def rho(self, grid: Geometry) -> np.ndarray:
        """See :class:`~tapct_core.lesions.shapes.Template`."""
        beyond, away = self.distances(grid)
        tall = max(TALL * self.radius_mm - self.half_mm, 0.5 * self.geometry.spacing_mm[0])
        return np.hypot(np.maximum(1 + beyond / self.radius_mm, 0), away / tall).astype(np.float32)


def _between(filled: np.ndarray, slices: np.ndarray) -> np.ndarray:
    """Slices that were left out between drawn ones, filled in by their signed distances."""
    out = filled.copy()
    for first, last in zip(slices[:-1], slices[1:], strict=True):
        ends = [
            ndimage.distance_transform_edt(filled[z]) - ndimage.distance_transform_edt(~filled[z])
            for z in (first, last)
        ]
        for z in range(first + 1, last):
            share = (z - first) / (last - first)
            out[z] = (1 - share) * ends[0] + share * ends[1] > 0
    return out


def _deep(mask: Mask, geometry: Geometry, depth_mm: float) -> np.ndarray:
    """Voxels of a mask's box at least this deep, by distance in the slices."""
    _, y, x = geometry.spacing_mm
    padded = np.pad(mask.voxels, ((0, 0), (1, 1), (1, 1)))
    depth = np.stack([ndimage.distance_transform_edt(part, sampling=(y, x)) for part in padded])
    return depth[:, 1:-1, 1:-1] > depth_mm


def _frame(along: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Rows: along the axis, across it in the slice, and at right angles to both."""
    across = np.cross(normal, along)
    if np.linalg.norm(across) < 0.1:  # drawn across the slices
        across = np.cross(np.eye(3)[np.abs(along).argmin()], along)
    across /= np.linalg.norm(across)
    return np.stack([along, across, np.cross(along, across)])


def _line(ends: np.ndarray, share: float, geometry: Geometry) -> np.ndarray:
    """Points (n, 3) along the inner share of a line, half a voxel apart."""
    count = int(np.ceil(np.linalg.norm(ends[1] - ends[0]) * share / (0.5 * min(geometry.spacing_mm)))) + 1
    at = np.linspace(0.5 - share / 2, 0.5 + share / 2, count)[:, None]
    return ends[0] * (1 - at) + ends[1] * at


def _beyond(grid: Geometry, middle: np.ndarray, along: np.ndarray, length: float) -> np.ndarray:
    """Where on a grid the ends of an axis have been passed."""
    reach = (0.5 + CAP) * length + 0.5 * min(grid.spacing_mm[1:])
    return np.abs((_places(grid) - middle) @ along) > reach


def _places(grid: Geometry) -> np.ndarray:
    """LPS mm of every voxel, (z, y, x, 3)."""
    return grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1))


def _same_grid(drawn: Geometry, scan: Geometry, what: str) -> None:
    if not drawn.matches(scan):
        raise UserError(f"the {what} lie on another grid than the scan; draw on the scan itself")
