"""Which labelled voxels a probe learns from: balanced by class and by stroke, capped, the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..volume import LabelMap

BACKGROUND_NAME = "background"
GROUP_TOKENS = 4
"""Voxels of a class with one piece only are left out together, when a probe is checked on its own labels, if they lie
in one cube of this many tokens: nearer ones share what their tokens saw. Smaller cubes choose too small a penalty."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Labelled places: ``points`` (N, 3) LPS mm, ``values`` (N,) label, ``groups`` (N,) id of stroke and place."""

    points: np.ndarray
    values: np.ndarray
    groups: np.ndarray


def zero_is_background(labels: LabelMap, zero: str = "auto") -> bool:
    """Whether label 0 is a class of its own (full masks) or means "not painted" (strokes).

    ``zero``: "background", "unlabelled", or "auto": a class *named* background, or no voxel of 0, makes 0 mean not
    painted; otherwise labels that are thick in all three directions (some voxel with all of its 26 neighbours) are
    masks, and flat ones, as a brush leaves them in a slice, are strokes.
    """
    if zero not in ("auto", "background", "unlabelled"):
        raise ValueError(f"zero must be auto, background or unlabelled, not {zero!r}")
    if zero != "auto":
        return zero == "background"
    if any(name.strip().casefold() == BACKGROUND_NAME for value, name in labels.names.items() if value):
        return False
    if labels.labels.all():
        return False
    return any(_is_thick(labels.labels[box] == value) for value, box in label_boxes(labels.labels))


def pick_voxels(features: FeatureMap, labels: LabelMap, background: bool, cap: int, rng: np.random.Generator) -> Voxels:
    """At most ``cap`` voxels a class; within a class every stroke (26-connected piece) gets an equal share.

    Strokes smaller than their share are kept whole and leave the rest to the others. With ``background``, label 0
    is a class as well: half of it anywhere in the scan, half within about a token of the other labels.
    Raises UserError when the labels do not lie in the scan, or a class only where there are no features.
    """
    _check_overlap(features, labels)
    points, values, strokes = [], [], []
    for value, box in label_boxes(labels.labels):
        index, stroke = _pick_class(labels.labels[box] == value, cap, rng)
        index = index + [part.start for part in box]
        inside = _with_features(features, labels.geometry.to_world(index), _name(labels, value))
        points.append(labels.geometry.to_world(index)[inside])
        strokes.append(stroke[inside])
        values.append(np.full(int(inside.sum()), value))
    if not points and not background:
        raise UserError("no voxel is labelled; paint a stroke of at least two classes first")
    if background:
        found = _pick_background(features, labels, np.concatenate(points) if points else None, cap, rng)
        points.append(found)
        values.append(np.zeros(len(found), dtype=int))
        strokes.append(np.zeros(len(found), dtype=int))
    points, values, strokes = np.concatenate(points), np.concatenate(values), np.concatenate(strokes)
    return Voxels(points, values, _groups(features, points, values, strokes))


def class_weights(classes: np.ndarray, count: int) -> np.ndarray:
    """Weights (N,) that give each of ``count`` classes the same sum, 1 / count; they add up to 1."""
    sizes = np.bincount(classes, minlength=count)
    return 1.0 / (count * sizes[classes])


def shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """How many of each of ``sizes`` to take so that ``total`` is reached and no one gets more than an equal share."""
    taken = np.zeros(len(sizes), dtype=int)
    order = np.argsort(sizes, kind="stable")
    left = total
    for place, which in enumerate(order):
        taken[which] = min(sizes[which], max(1, left // (len(order) - place)))
        left = max(0, left - taken[which])
    return taken


def label_boxes(labels: np.ndarray) -> list[tuple[int, tuple[slice, slice, slice]]]:
    """(value, bounding box) of each label above 0. Only slices with labels are searched: strokes fill few."""
    filled = np.flatnonzero(labels.reshape(len(labels), -1).any(axis=1))
    if len(filled) == 0:
        return []
    from scipy import ndimage

    first, last = int(filled[0]), int(filled[-1]) + 1
    boxes = ndimage.find_objects(labels[first:last])
    return [
        (value, (slice(box[0].start + first, box[0].stop + first), *box[1:]))
        for value, box in enumerate(boxes, start=1)
        if box is not None
    ]


def _is_thick(mask: np.ndarray) -> bool:
    from scipy import ndimage

    return min(mask.shape) >= 3 and bool(ndimage.binary_erosion(mask, np.ones((3, 3, 3))).any())


def _pick_class(mask: np.ndarray, cap: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Chosen voxels (n, 3) of a mask and the number of the stroke each belongs to."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    index = np.argwhere(mask)
    stroke = pieces[mask]
    if len(index) > cap:
        order = rng.permutation(len(index))
        order = order[np.argsort(stroke[order], kind="stable")]
        sizes = np.bincount(stroke, minlength=count + 1)[1:]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        # More strokes than the cap: one voxel each, then a random choice among those.
        chosen = [order[start : start + take] for start, take in zip(starts, shares(sizes, cap), strict=True)]
        order = np.concatenate(chosen)
        order = np.sort(order if len(order) <= cap else rng.choice(order, cap, replace=False))
        index, stroke = index[order], stroke[order]
    return index, stroke


def _pick_background(
    features: FeatureMap, labels: LabelMap, labelled: np.ndarray | None, cap: int, rng: np.random.Generator
) -> np.ndarray:
    shape = np.array(labels.geometry.shape)
    near = np.empty((0, 3), int)
    if labelled is not None:
        reach = labels.geometry.to_index(labelled)[rng.integers(0, len(labelled), 3 * cap)]
        step = np.array(features.pitch_mm) / labels.geometry.spacing_mm
        near = np.rint(reach + rng.standard_normal((3 * cap, 3)) * step).astype(int)
    anywhere = (rng.random((6 * cap, 3)) * shape).astype(int)
    found = []
    for index, wanted in ((near, cap // 2), (anywhere, cap - cap // 2)):
        index = index[((index >= 0) & (index < shape)).all(axis=1)]
        points = labels.geometry.to_world(index[labels.labels[tuple(index.T)] == 0])
        found.append(points[features.covers(points)][:wanted])
    found = np.concatenate(found)
    if len(found) == 0:
        raise UserError("the labels leave no background in the scan; say that 0 means not painted (zero='unlabelled')")
    return found


def _check_overlap(features: FeatureMap, labels: LabelMap) -> None:
    """Labels may lie on any grid that is placed in the same patient, but they must lie in the scan."""
    scan = features.hu_geometry
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in labels.geometry.shape])).reshape(3, -1).T
    index = scan.to_index(labels.geometry.to_world(corners))
    low, high = index.min(axis=0), index.max(axis=0)
    if (high < -0.5).any() or (low > np.array(scan.shape) - 0.5).any():
        raise UserError("the labels lie outside the scan; check that they belong to it and keep its geometry")


def _with_features(features: FeatureMap, points: np.ndarray, name: str) -> np.ndarray:
    """Which points have features. A few outside are passed over; a whole class without is refused."""
    covered = features.covers(points)
    if covered.any():
        return covered
    if features.hu_geometry.contains(points).any():
        raise UserError(f"{name} is painted only in empty air that the encoder skips; paint it inside the patient")
    raise UserError(f"{name} is painted only outside the scan; paint it inside, or check that the labels belong to it")


def _name(labels: LabelMap, value: int) -> str:
    return f"class {value} ({labels.names[value]})" if value in labels.names else f"class {value}"


def _groups(features: FeatureMap, points: np.ndarray, values: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Group (N,): the stroke, or for a class with a single one (a mask, background) a cube of GROUP_TOKENS."""
    place = np.floor(features.geometry.to_index(points) / GROUP_TOKENS).astype(int)
    for value in np.unique(values):
        own = values == value
        if len(np.unique(strokes[own])) > 1:
            place[own] = 0
    return np.unique(np.column_stack([values, strokes, place]), axis=0, return_inverse=True)[1].reshape(-1)
