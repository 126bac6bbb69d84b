"""How well a segmentation agrees with the truth: Dice, and distances between surfaces in millimetres.

Dice = 2 |A and B| / (|A| + |B|). A surface is the voxels of a mask that touch its outside by a face; distances run
between their centres in mm. With d(a, B) the distance of a surface voxel to the other surface:

- mean symmetric surface distance: the mean of all d(a, B) and d(b, A) taken together (ASSD);
- 95 % Hausdorff: the larger of the two directed 95th percentiles (HD95);
- surface Dice: the share of both surfaces that lies within 2 mm of the other (Nikolov et al. 2021, J Med Internet Res
  23(7):e26151), surface voxels counted alike.

A class that the truth does not hold has no figure in that case, only the volume of what was wrongly found; a class
that was missed has Dice 0 and no distance, and both are counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from tapct_core.errors import UserError
from tapct_core.volume import LabelMap

TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class ClassScore:
    """One class in one case; None where a figure is not defined. Volumes are in ml."""

    dice: float | None
    surface_dice: float | None
    surface_mm: float | None
    hausdorff95_mm: float | None
    ml: float
    ml_truth: float


def score_case(prediction: LabelMap, truth: LabelMap, classes: tuple[int, ...]) -> dict[str, dict]:
    """{class value: ClassScore as a dict}, by the words of JSON. Raises UserError for two different grids."""
    from scipy import ndimage

    if not prediction.geometry.matches(truth.geometry, tolerance_mm=0.1):
        raise UserError("prediction and truth lie on different grids")
    spacing = truth.geometry.spacing_mm
    voxel_ml = float(np.prod(spacing)) / 1000
    top = max(*classes, int(prediction.labels.max()), int(truth.labels.max()))
    ours = ndimage.find_objects(prediction.labels, top)
    theirs = ndimage.find_objects(truth.labels, top)
    scores = {}
    for value in classes:
        box = _union(ours[value - 1], theirs[value - 1])
        if box is None:
            scores[str(value)] = asdict(ClassScore(None, None, None, None, 0.0, 0.0))
            continue
        found, true = prediction.labels[box] == value, truth.labels[box] == value
        scores[str(value)] = asdict(score_class(found, true, spacing, voxel_ml))
    return scores


def score_class(
    found: np.ndarray, true: np.ndarray, spacing_mm: tuple[float, float, float], voxel_ml: float
) -> ClassScore:
    """Two masks (z, y, x) of one class, cut to a box that holds both; spacing (z, y, x) in mm."""
    a, b = int(found.sum()), int(true.sum())
    if b == 0:
        return ClassScore(None, None, None, None, a * voxel_ml, 0.0)
    dice = 2 * int((found & true).sum()) / (a + b)
    if not a:
        return ClassScore(dice, 0.0, None, None, 0.0, b * voxel_ml)
    to_true, to_found = _to_each_other(found, true, spacing_mm)
    mean, hausdorff = _summaries(to_true, to_found)
    near = float((np.concatenate([to_true, to_found]) <= TOLERANCE_MM).mean())
    return ClassScore(dice, near, mean, hausdorff, a * voxel_ml, b * voxel_ml)


def surface_distances(
    first: np.ndarray, second: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[float, float]:
    """(mean symmetric surface distance, 95 % Hausdorff) in mm of two masks (z, y, x), neither of them empty."""
    return _summaries(*_to_each_other(first, second, spacing_mm))


def _to_each_other(
    first: np.ndarray, second: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance in mm of every surface voxel of the first mask to the second's surface, and the other way round.

    Nearest neighbours by a k-d tree: the cost follows the surfaces, not the box, as with a distance transform.
    """
    from scipy.spatial import cKDTree

    a, b = (np.argwhere(surface(mask)) * np.asarray(spacing_mm) for mask in (first, second))
    return cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]


def _summaries(to_b: np.ndarray, to_a: np.ndarray) -> tuple[float, float]:
    mean = (to_b.sum() + to_a.sum()) / (len(to_b) + len(to_a))
    return float(mean), float(max(np.percentile(to_b, 95), np.percentile(to_a, 95)))


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask (z, y, x) with a face to its outside; beyond the array is outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(3):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return mask & ~inner[1:-1, 1:-1, 1:-1]


def _union(first: tuple | None, second: tuple | None) -> tuple[slice, ...] | None:
    boxes = [box for box in (first, second) if box is not None]
    if not boxes:
        return None
    return tuple(slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))
