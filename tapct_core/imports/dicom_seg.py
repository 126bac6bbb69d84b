"""DICOM Segmentation objects: binary, fractional (set from half of its maximum) and label map; segments may overlap.

Frames may come in any order and may leave out empty slices. Standard: DICOM PS3.3 C.8.20, C.7.6.16.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import UserError
from ..files import require_fits
from ..geometry import Geometry
from ..io.dicom_slices import text
from .found import Found, Region, Slices, made_uid
from .label_map import parts_of

Frames = dict[int, list[tuple[np.ndarray, np.ndarray]]]
"""Segment number -> (position LPS mm (3,), set pixels (row, column) (n, 2)) of each of its frames."""


def read_seg(dataset: Any, name: str) -> list[Found]:
    """Each segment a finding, or each part of one that has no tracking UID. Empty segments are left out."""
    uid = text(dataset, "SOPInstanceUID")
    series = frozenset(text(one, "SeriesInstanceUID") for one in dataset.get("ReferencedSeriesSequence") or [])
    frames, grid = _frames(dataset, name)
    found = []
    for segment in dataset.SegmentSequence:
        number = int(segment.SegmentNumber)
        if number not in frames:
            continue
        label = text(segment, "SegmentLabel") or f"segment {number}"
        tracking = text(segment, "TrackingUID")
        region = _region(frames[number], grid, name)
        whole = bool(tracking) or isinstance(region, Slices)
        parts = [(label, region)] if whole else parts_of(label, region)
        for part, (part_name, one) in enumerate(parts):
            found.append(
                Found(
                    name,
                    part_name,
                    tracking or made_uid(uid, number, part),
                    (one,),
                    series - {""},
                    frame_uid=text(dataset, "FrameOfReferenceUID"),
                    segment=(uid, number) if len(parts) == 1 else None,
                )
            )
    return found


def _frames(dataset: Any, name: str) -> tuple[Frames, np.ndarray]:
    """The set pixels by segment, and (axes (2, 3), spacing (2,), slice step) of all frames as one array (3, 3)."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    labelmap = text(dataset, "SegmentationType").upper() == "LABELMAP"
    half = number_of(dataset, "MaximumFractionalValue", 2) / 2
    fractional = text(dataset, "SegmentationType").upper() == "FRACTIONAL"
    frames: Frames = defaultdict(list)
    grid = None
    for group, plane in zip(dataset.PerFrameFunctionalGroupsSequence, _planes(dataset), strict=True):
        axes = np.array(_of(group, shared, "PlaneOrientationSequence").ImageOrientationPatient, float).reshape(2, 3)
        measures = _of(group, shared, "PixelMeasuresSequence")
        spacing = np.array(measures.PixelSpacing, float)
        step = number_of(measures, "SpacingBetweenSlices", number_of(measures, "SliceThickness", 0.0))
        own = np.vstack([axes, [*spacing, abs(step)]])
        if grid is not None and np.abs(own - grid).max() > 1e-3:
            raise UserError(f"{name} has frames of several orientations or spacings; convert it to a label map first")
        grid = own if grid is None else grid
        position = np.array(_of(group, shared, "PlanePositionSequence").ImagePositionPatient, float)
        if labelmap:
            for value, inside in _by_value(plane):
                frames[value].append((position, inside))
            continue
        inside = np.argwhere(plane >= half if fractional else plane > 0)
        number = int(_of(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        if len(inside):
            frames[number].append((position, inside))
    return frames, grid


def _by_value(plane: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each value above 0 of a plane with its pixels (row, column) (n, 2), in one sort however many there are."""
    flat = plane.reshape(-1)
    at = np.flatnonzero(flat > 0)
    at = at[np.argsort(flat[at], kind="stable")]
    values, starts = np.unique(flat[at], return_index=True)
    for value, pixels in zip(values, np.split(at, starts[1:]), strict=bool(len(values))):
        yield int(value), np.stack(np.unravel_index(pixels, plane.shape), axis=1)


def _planes(dataset: Any) -> Iterator[np.ndarray]:
    """One frame (row, column) at a time."""
    from pydicom.pixels import iter_pixels

    if dataset.BitsAllocated == 1:  # frames share bytes, so they are taken apart together
        pixels = dataset.pixel_array
        yield from pixels if pixels.ndim == 3 else pixels[None]
    else:
        yield from iter_pixels(dataset)


def _of(group: Any, shared: Any, key: str) -> Any:
    """The item of a functional group, of the frame or of all."""
    return next(one[key][0] for one in (group, shared) if one is not None and one.get(key))


def number_of(dataset: Any, key: str, default: float) -> float:
    """A number of the data set, or the default where there is none."""
    words = text(dataset, key)
    return float(words) if words else float(default)


def _region(frames: list[tuple[np.ndarray, np.ndarray]], grid: np.ndarray, name: str) -> Region | Slices:
    """The set pixels of a segment as a tight box (slice, row, column); as Slices where its frames make no grid."""
    (along, down), (between_rows, between_columns, step) = grid[:2], grid[2]
    normal = np.cross(along, down)
    heights = np.array([position @ normal for position, _ in frames])
    apart = np.diff(np.unique(np.round(heights, 3)))
    if len(apart):
        step = float(apart.min()) if not step or apart.min() < 0.99 * step else step
    step = step or 1.0
    first = heights.argmin()
    index = (heights - heights[first]) / step
    positions = np.array([position for position, _ in frames])
    aside = (positions - positions[first]) @ np.stack([along / between_columns, down / between_rows]).T
    if np.abs(index - np.rint(index)).max() > 0.1 or np.abs(aside).max() > 0.25:
        return Slices(tuple(frames), grid)
    pixels = np.concatenate([inside for _, inside in frames])
    low, high = pixels.min(axis=0), pixels.max(axis=0) + 1
    require_fits(int((np.rint(index.max()) + 1) * np.prod(high - low, dtype=float)), f"{name}, unpacked,")
    mask = np.zeros((int(np.rint(index.max())) + 1, *(high - low)), bool)
    for slice_, (_, inside) in zip(np.rint(index).astype(int), frames, strict=True):
        mask[slice_, inside[:, 0] - low[0], inside[:, 1] - low[1]] = True
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([normal * step, down * between_rows, along * between_columns])
    affine[:3, 3] = frames[first][0] + affine[:3, 1] * low[0] + affine[:3, 2] * low[1]
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    geometry = Geometry(mask.shape, affine)
    start = tuple(s.start for s in box)
    return Region(mask[box], geometry.cropped(start, mask[box].shape))
