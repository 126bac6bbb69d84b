"""Regions of other programs onto a scan's voxels: masks by nearest voxel, contours by even-odd, axes as ellipses."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from ..errors import UserError
from ..geometry import Geometry
from ..lesions import Mask
from ..lesions.recist import Measurement
from ..volume import CTVolume
from .found import Contours, InSpace, OnImage, Region, Slices

FLAT = 0.5
"""Voxels by which a contour may leave its slice."""


def on_grid(part: Geometry, whole: Geometry) -> bool:
    """Whether the voxels of ``part`` are voxels of ``whole``, all of them."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in part.shape])).reshape(3, -1).T
    index = whole.to_index(part.to_world(corners))
    inside = (index > -0.05).all() and (index < np.array(whole.shape) - 0.95).all()
    same = np.allclose(part.affine[:3, :3], whole.affine[:3, :3], atol=1e-3 * max(whole.spacing_mm))
    return bool(inside and same and np.abs(index - np.rint(index)).max() < 0.05)


def resampled(region: Region, geometry: Geometry) -> np.ndarray:
    """A mask on another grid (z, y, x): what its nearest own voxel says of each voxel's centre."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in region.mask.shape])).reshape(3, -1).T
    index = geometry.to_index(region.geometry.to_world(corners))
    low = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0)) + 1, geometry.shape).astype(int)
    out = np.zeros(geometry.shape, bool)
    if (high <= low).any():
        return out
    for z in range(low[0], high[0]):
        y, x = np.meshgrid(np.arange(low[1], high[1]), np.arange(low[2], high[2]), indexing="ij")
        places = geometry.to_world(np.stack([np.full(y.shape, z), y, x], axis=-1))
        own = np.rint(region.geometry.to_index(places)).astype(int)
        inside = ((own >= 0) & (own < region.mask.shape)).all(axis=-1)
        out[z, low[1] : high[1], low[2] : high[2]][inside] = region.mask[tuple(own[inside].T)]
    return out


def from_slices(slices: Slices, volume: CTVolume) -> np.ndarray:
    """A mask on slices that make no grid, on the scan's voxels (z, y, x): each takes what its nearest slice says.

    On a scan that was resampled from these slices, those without a set pixel are known too; otherwise a slice reaches
    half way to the next one that is given, and no further than half its thickness beyond the last.
    """
    series, native = volume.source.dicom, volume.source.native
    along, down = slices.grid[:2]
    between_rows, between_columns, thickness = slices.grid[2]
    normal = np.cross(along, down)
    heights = np.array([position @ normal for position, _ in slices.frames])
    known = heights
    if native is not None and series is not None:
        affine = volume.source.file_affine
        known = (native.at[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]) @ normal
    geometry = volume.geometry
    out = np.zeros(geometry.shape, bool)
    for (position, pixels), height in zip(slices.frames, heights, strict=True):
        others = np.abs(known - height)
        apart = others[others > FLAT * 0.1]
        below, above = known[known < height - 0.05], known[known > height + 0.05]
        edge = thickness / 2 or (apart.min() / 2 if apart.size else FLAT)
        low = (height + below.max()) / 2 if below.size else height - edge
        high = (height + above.min()) / 2 if above.size else height + edge
        if native is None:  # a slice that is left out has nothing set, so nothing reaches over it
            most = max(thickness, apart.min() if apart.size else 0.0) / 2
            low, high = max(low, height - most), min(high, height + most)
        shown = np.zeros(pixels.max(axis=0) + 1, bool)
        shown[tuple(pixels.T)] = True
        corners = np.array([[row, column] for row in (-1, shown.shape[0]) for column in (-1, shown.shape[1])])
        flat = position + corners[:, :1] * between_rows * down + corners[:, 1:] * between_columns * along
        box = np.concatenate([flat + normal * (edge_ - height) for edge_ in (low, high)])
        index = geometry.to_index(box)
        first = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
        last = np.minimum(np.ceil(index.max(axis=0)) + 1, geometry.shape).astype(int)
        if (last <= first).any():
            continue
        part = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        z, y, x = np.meshgrid(*(np.arange(a, b) for a, b in zip(first, last, strict=True)), indexing="ij")
        away = geometry.to_world(np.stack([z, y, x], axis=-1)) - position
        at = away @ normal + height
        row, column = (np.rint(away @ axis / step).astype(int) for axis, step in
                       ((down, between_rows), (along, between_columns)))  # fmt: skip
        here = (at >= low) & (at < high) & (row >= 0) & (column >= 0)
        here &= (row < shown.shape[0]) & (column < shown.shape[1])
        out[part][here] |= shown[row[here], column[here]]
    return out


def filled(contours: Contours, geometry: Geometry) -> np.ndarray:
    """Voxels (z, y, x) whose centres lie inside closed planar contours; those of one plane by even-odd.

    A slice takes the contours of the nearest plane, no further than half the distance of the planes. Raises UserError
    for contours that do not run in the scan's slices.
    """
    drawn = [geometry.to_index(points) for points in contours.planes]
    flat = [axis for axis in range(3) if max(np.ptp(points[:, axis]) for points in drawn) < FLAT]
    if not flat:
        raise UserError("its contours do not run in the slices of the scan")
    axis = flat[0]
    others = [a for a in range(3) if a != axis]
    planes: dict[float, list[np.ndarray]] = defaultdict(list)
    for points in drawn:
        height = float(points[:, axis].mean())
        key = next((known for known in planes if abs(known - height) < 0.1), height)
        planes[key].append(points[:, others])
    heights = np.array(sorted(planes))
    reach = max(0.5, float(np.median(np.diff(heights))) / 2 if len(heights) > 1 else 0.5) + 0.01
    out = np.zeros(geometry.shape, bool)
    stack = np.moveaxis(out, axis, 0)
    for k in range(max(0, int(heights[0] - reach)), min(len(stack), int(heights[-1] + reach) + 2)):
        nearest = heights[np.abs(heights - k).argmin()]
        if abs(nearest - k) <= reach:
            stack[k] = even_odd(planes[nearest], stack[k].shape)
    return out


def even_odd(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels (row, column) whose centres lie inside an odd number of polygons, each (n, 2) as (row, column)."""
    crossings = np.zeros((shape[0], shape[1] + 1), bool)
    for points in polygons:
        for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if r0 == r1:
                continue
            if r0 > r1:
                r0, c0, r1, c1 = r1, c1, r0, c0
            rows = np.arange(max(0, int(np.ceil(r0))), min(shape[0], int(np.ceil(r1))))
            columns = np.ceil(c0 + (rows - r0) * (c1 - c0) / (r1 - r0)).clip(0, shape[1]).astype(int)
            np.logical_xor.at(crossings, (rows, columns), True)
    return np.logical_xor.accumulate(crossings, axis=1)[:, :-1]


def in_patient(graphic: OnImage, volume: CTVolume) -> InSpace | None:
    """A graphic on one of the scan's images, in LPS mm; None for another image."""
    series = volume.source.dicom
    if series is None:
        return None
    frames = series.frames or (graphic.frame,) * len(series.sop_instance_uids)
    known = list(zip(series.sop_instance_uids, frames, strict=True))
    if known.count((graphic.sop_instance_uid, graphic.frame)) != 1:
        return None
    slice_ = known.index((graphic.sop_instance_uid, graphic.frame))
    native = volume.source.native
    start = (0.0, 0.0, slice_) if native is None else native.at[slice_][::-1]  # (column, row, slice)
    index = np.column_stack([graphic.points - 0.5, np.zeros(len(graphic.points))]) + start
    affine = volume.source.file_affine
    return InSpace(graphic.graphic, index @ affine[:3, :3].T + affine[:3, 3])


def mask_of(graphics: list[InSpace], volume: CTVolume) -> tuple[Mask, Measurement] | None:
    """Mask and measurement of what is drawn in the patient; None for points alone.

    A closed outline is filled in its slice. Axes (the ends of an ellipse, or lines of two points, the longer the long
    axis) become the ellipse they span, and their lengths are taken as they were drawn, to the micrometre.
    """
    closed = [g.points for g in graphics if g.graphic in ("POLYLINE", "POLYGON") and len(g.points) > 2]
    if closed:
        mask = Mask.from_array(filled(Contours(tuple(closed)), volume.geometry))
        return mask, mask.measure(volume)
    lines = [g.points for g in graphics if g.graphic in ("POLYLINE", "POLYGON", "MULTIPOINT") and len(g.points) == 2]
    for g in graphics:
        if g.graphic == "ELLIPSE" and len(g.points) == 4:
            lines += [g.points[:2], g.points[2:]]
    if not lines:
        return None
    lines = sorted(lines, key=lambda ends: -_length(ends))[:2]
    return _axes(lines, volume)


def _length(ends: np.ndarray) -> float:
    return float(np.linalg.norm(ends[1] - ends[0]))


def _axes(lines: list[np.ndarray], volume: CTVolume) -> tuple[Mask, Measurement]:
    long = lines[0]
    along = (long[1] - long[0]) / 2
    centre = long.mean(axis=0)
    normal = np.array([0.0, 0.0, 1.0])
    across = np.cross(normal, along)
    if len(lines) > 1:
        centre = (centre + lines[1].mean(axis=0)) / 2
        across = across / np.linalg.norm(across) * _length(lines[1]) / 2
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)[:, None]
    outline = centre + np.cos(angle) * along + np.sin(angle) * across
    mask = Mask.from_array(filled(Contours((outline,)), volume.geometry))
    measured = mask.measure(volume)
    short = lines[1] if len(lines) > 1 else np.stack([centre - across, centre + across])
    return mask, replace(
        measured,
        long_axis_mm=round(_length(long), 6),
        short_axis_mm=round(_length(short), 6),
        long_axis_ends=tuple(tuple(map(float, end)) for end in long),
        short_axis_ends=tuple(tuple(map(float, end)) for end in short),
    )
