"""Whole lesions of a baseline in a follow-up: the mean of a mask's features is what is looked for.

One click describes a lesion by one place; the mean over its mask describes all of it and is steadier where the
inside is uneven (the queries of TAP-CT's lesion matching, arXiv 2512.00872, figure 2).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..volume import LabelMap
from .matcher import Matcher
from .pair import STEPS
from .points import PointMatch, check_choices, prepare_pair, refused_point, report, standing

SAMPLES = 2000
"""Voxels of a mask whose features are averaged; larger masks are thinned evenly."""


def match_masks(
    features_a: FeatureMap,
    features_b: FeatureMap,
    masks: LabelMap,
    top_k: int = 3,
    *,
    steps: Collection[str] = STEPS,
    apart_mm: float = 15.0,
    votes: int = 27,
) -> dict[int, PointMatch]:
    """Each label of ``masks`` in scan a -> its PointMatch in scan b, by label value, with up to ``top_k`` places.

    The mask may lie on any grid of scan a's patient space. ``query_lps_mm`` is the voxel centre of the mask nearest
    its centroid, and the places are where that came to lie. Confidence and presence are None: they are
    calibrated for clicks. ``steps``, ``apart_mm`` and ``votes`` as for :func:`match_points`. Raises UserError for
    an empty map, for labels outside the scan or in air, and for feature maps that cannot be compared.
    """
    found = match_each_mask(features_a, features_b, masks, top_k, steps=steps, apart_mm=apart_mm, votes=votes)
    refused = next((one for one in found.values() if not one.matches), None)
    if refused is not None:
        raise UserError(refused.reason)
    return found


def match_each_mask(
    features_a: FeatureMap,
    features_b: FeatureMap,
    masks: LabelMap,
    top_k: int = 3,
    *,
    steps: Collection[str] = STEPS,
    apart_mm: float = 15.0,
    votes: int = 27,
) -> dict[int, PointMatch]:
    """As :func:`match_masks`, but a label that is refused is an answer too: without matches, with its reason."""
    check_choices(steps, top_k, votes)
    voxels = _voxels_by_label(masks)
    if not voxels:
        raise UserError("the label map is empty; mark at least one lesion in it")
    centres = {label: _centre(points) for label, points in voxels.items()}
    pair = prepare_pair(features_a, features_b, steps)
    standings = dict(zip(centres, standing(pair.a, np.array(list(centres.values()))), strict=True))
    matcher = Matcher(pair, frozenset(steps), apart_mm, votes)
    found = {}
    for label, points in voxels.items():
        good, reason = standings[label]
        if not good:
            found[label] = refused_point(centres[label], reason)
            continue
        inside = points[pair.a.scanned.contains(points)]
        places = matcher.find(centres[label], top_k, inside[:: -(-len(inside) // SAMPLES)])
        (answer,) = report(matcher, centres[label][None], [places], top_k, None)
        found[label] = replace(answer, reason=reason)
    return found


def _voxels_by_label(masks: LabelMap) -> dict[int, np.ndarray]:
    """LPS mm (N, 3) of each label's voxels, by label value in rising order."""
    index = np.argwhere(masks.labels)
    values = masks.labels[tuple(index.T)]
    return {int(label): masks.geometry.to_world(index[values == label]) for label in np.unique(values)}


def _centre(points: np.ndarray) -> np.ndarray:
    """The voxel centre nearest the centroid, which itself may lie outside a bent mask; (3,) LPS mm."""
    return points[((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin()]
