"""A lesion's mask from what a person says of it: a click, axes, a box, an outline, strokes, or the baseline's mask.

Each prompt becomes a shape to expect and places that are certain (``prompts``); HU inside and round that shape say
what the lesion looks like (``appearance``); a random walk with both as its prior says where the border runs
(``delineation.walker``; priors as in Grady, CVPR 2005). A click does not say how large: the region that stands out
at it (``region``) and the balls that do (``scale``) are tried, and the most plausible mask is taken.
A proposal to be edited, not a segmentation to be trusted: each mask says how far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..delineation.walker import edge_hu, random_walk
from ..errors import UserError
from ..features import FeatureMap
from ..volume import CTVolume, LabelMap
from .appearance import log_ratio
from .carried import Carried, from_carried
from .field import Field
from .finding import Mask
from .plausibility import GrownMask, Looks, Walked, judged, looks_of
from .prompts import Marks, Prompt, from_axis, from_ball, from_box, from_mask, from_outline
from .recist import Point
from .region import REACH_MM, distinct_region, similar
from .scale import balls_at

NEAR, RING = 0.8, (1.25, 2.0)
"""Relative radii within which the lesion's HU are learnt, and its surroundings'."""
TRUST = 0.7
"""Weight of the HU's log ratio beside the shape's."""
CARRIES = 0.15
"""How far a certain place's word carries against the prior, as a share of the lesion's size."""
STEPS = 28
"""Voxels across a lesion, as far as the scan has them."""
SMOOTH = 0.06
"""Of the lesion's size: HU are averaged over this (sigma) before they are compared."""
LEVELS_TRIED, LEVEL_COSTS = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74), 0.5
"""Where a border may be drawn so that its diameter is the drawn one; a border's move of 0.1 weighs as 5 % of length."""
CLEAR = 3.0
"""A region whose contrast is this many times the noise has a clear border; chosen on train and dev patients."""
PREFERRED = 0.1
"""By how much less plausible a clear region may be than what a drawn axis alone gives, and still be taken."""
MOST_BALLS, CLOSE = 3, 1.0
"""Balls are tried whose score is this near the best one's; chosen on train and dev patients."""
LEAST_EFFECT = 0.5
"""A ball that differs less from its shell is noise, and a click there is answered with an error, not with a blob."""
UNLIKE = 2.0
"""Log odds against tissue whose features are unlike the lesion's."""


def grow_mask(
    volume: CTVolume,
    point_lps_mm: Point | None = None,
    features: FeatureMap | None = None,
    reach_mm: float = REACH_MM,
    *,
    axis: Sequence | None = None,
    box: Sequence | None = None,
    outline: LabelMap | None = None,
    strokes: LabelMap | None = None,
    prior: Mask | Carried | None = None,
) -> GrownMask:
    """The mask, on the scan's own voxels, with its band of diameters and how plausible it is.

    ``point_lps_mm`` a place inside; may be left out where anything else is given
    ``features``     of the same scan: they keep the mask out of tissue unlike the point's
    ``reach_mm``     no voxel further than this from a click is taken
    ``axis``         the longest diameter, two LPS points; a second pair is the short one
    ``box``          two opposite corners, LPS mm; flat where it was drawn in one slice
    ``outline``      a rough outline on the scan's grid, as a curve or filled, in one slice or several
    ``strokes``      on the scan's grid: classes named "background" lie outside, all others inside, whatever else says
    ``prior``        a mask on this scan to start from, such as the one that strokes correct; or the lesion's mask in
                     an earlier scan, :class:`~tapct_core.lesions.carried.Carried` by the motion

    Raises UserError for a place outside the scan, prompts that cannot be read, and for a click alone at which
    nothing stands out.
    """
    marks = Marks.of(strokes, volume.geometry)
    point = _inside(volume, point_lps_mm)
    given = _given(volume, axis, box, outline, prior)
    if given is None:
        if point is None and marks is None:
            raise UserError("say where the lesion is: a point, an axis, a box, an outline, strokes or a mask")
        return _clicked(volume, point, features, reach_mm, marks)
    best, looks = _best(volume, given, features, marks)
    carried = point is not None and isinstance(prior, Carried)
    if not (axis is not None or carried) or looks.contrast < CLEAR:
        return best
    clear = _clear_region(volume, given[0], features, marks)
    return clear if clear is not None and clear.plausibility > best.plausibility - PREFERRED else best


def _inside(volume: CTVolume, point: Point | None) -> np.ndarray | None:
    if point is None:
        return None
    place = np.asarray(point, dtype=np.float64)
    if not volume.geometry.contains(place):
        raise UserError("the point lies outside the scan; points are x y z in LPS mm")
    return place


def _given(volume: CTVolume, axis, box, outline, prior) -> list[Prompt] | None:
    """What says most of the shape, as one expectation or several; None for a click or strokes alone."""
    geometry = volume.geometry
    if axis is not None:
        return [from_axis(axis, geometry)]
    if outline is not None:
        return [from_outline(outline, geometry)]
    if box is not None:
        return [from_box(box, geometry)]
    if isinstance(prior, Carried):
        return from_carried(prior, volume)
    if prior is not None:
        if prior.grid != geometry.shape:
            raise UserError(f"the prior was drawn on a scan of {prior.grid}, this one is {geometry.shape}; carry it")
        return [from_mask(prior, geometry)]
    return None


def _clicked(
    volume: CTVolume, point: np.ndarray | None, features: FeatureMap | None, reach_mm: float, marks: Marks | None
) -> GrownMask:
    """What a click means: the region that stands out there if its border is clear, else the likeliest ball."""
    painted = marks is not None and marks.inside.any()
    if point is None:
        if not painted:
            raise UserError("the strokes say only where the lesion is not; paint inside it, or click it")
        inside = np.argwhere(marks.inside)
        point = volume.geometry.to_world(inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()])
    region = distinct_region(volume, point, features, reach_mm)
    if region is not None:
        mask, looks = _grown(volume, from_mask(region, volume.geometry, guessed=True), features, marks)
        if looks.contrast >= CLEAR:
            return mask
    balls = balls_at(volume, point, reach_mm)
    if balls and (balls[0].effect >= LEAST_EFFECT or painted):
        close = [ball for ball in balls[:MOST_BALLS] if ball.score >= balls[0].score - CLOSE]
        prompts = [from_ball(ball.middle_lps_mm, ball.radius_mm, point, reach_mm) for ball in close]
        return _best(volume, prompts, features, marks)[0]
    if region is not None:
        return mask
    raise UserError("nothing stands out at this point, so no mask can be grown; draw its long axis, or paint it")


def _clear_region(
    volume: CTVolume, drawn: Prompt, features: FeatureMap | None, marks: Marks | None
) -> GrownMask | None:
    """Where the border is clear, as in lung, the region at a place knows the shape better than an expectation does."""
    reach = max(REACH_MM, drawn.size_mm)
    region = distinct_region(volume, drawn.points[len(drawn.points) // 2], features, reach)
    if region is None:
        return None
    shape = from_mask(region, volume.geometry)
    on_axis = replace(
        shape,
        points=np.concatenate([shape.points, drawn.points]),
        outside=drawn.outside,
        drawn_mm=drawn.drawn_mm,
        expected_mm=drawn.expected_mm,
    )
    mask, looks = _grown(volume, on_axis, features, marks)
    return mask if looks.contrast >= CLEAR else None


def _best(
    volume: CTVolume, prompts: list[Prompt], features: FeatureMap | None, marks: Marks | None
) -> tuple[GrownMask, Looks]:
    """The most plausible mask of several expectations."""
    return max((_grown(volume, one, features, marks) for one in prompts), key=lambda found: found[0].plausibility)


def _grown(
    volume: CTVolume, prompt: Prompt, features: FeatureMap | None, marks: Marks | None
) -> tuple[GrownMask, Looks]:
    """The mask of one expectation."""
    walked = _walked(volume, prompt, features, marks)
    drawn = walked.at(walked.level)
    looks = looks_of(walked, drawn)
    return judged(walked, looks, drawn), looks


def _walked(volume: CTVolume, prompt: Prompt, features: FeatureMap | None, marks: Marks | None) -> Walked:
    """The random walk of one expectation."""
    field = Field.around(volume, prompt.middle_lps_mm, prompt.half_mm, prompt.size_mm / STEPS)
    grid = field.grid
    rho = prompt.shape.rho(grid)
    inside, outside = _at_points(prompt.points, grid), rho > prompt.far
    if prompt.outside is not None:
        outside |= prompt.outside(grid)
    if marks is not None:
        painted, beside = field.pooled(marks.inside), field.pooled(marks.outside)
        inside, outside = (inside & ~beside) | (painted & ~beside), (outside & ~painted) | (beside & ~painted)
    outside &= ~inside
    smooth = ndimage.gaussian_filter(
        np.clip(field.hu, -1000, 400), [SMOOTH * prompt.size_mm / s for s in grid.spacing_mm]
    )
    near, ring = ((rho < NEAR) | inside) & ~outside, (rho > RING[0]) & (rho < RING[1]) & ~inside
    if not near.any():
        near = rho <= rho.min()
    if not ring.any():
        ring = ~near
    odds = TRUST * log_ratio(smooth, near, ring) + (1 - rho) / prompt.give
    if features is not None and features.dim:
        odds -= UNLIKE * ~similar(features, grid, grid.to_world(np.argwhere(near).mean(axis=0)))
    chance = 1 / (1 + np.exp(-np.clip(odds, -8, 8)))
    seeds = np.where(inside, 1, np.where(outside, 2, 0)).astype(np.uint8)
    priors = np.stack([chance, 1 - chance]).astype(np.float32)
    sure = np.ones(grid.shape, np.float32)
    probability = random_walk(
        edge_hu(field.hu, grid.spacing_mm), grid.spacing_mm, seeds, priors, CARRIES * prompt.size_mm, weight=sure
    )[0]
    own = np.zeros(field.fine.shape, bool)
    own |= _at_points(prompt.points, field.fine)
    away = np.zeros_like(own)
    if marks is not None:
        away = marks.outside[field.box]
        own = (own & ~away) | marks.inside[field.box]
    return _leveled(Walked(prompt, field, probability, field.on_own_voxels(probability), own, away))


def _leveled(walked: Walked) -> Walked:
    """With the border where the mask's diameter agrees best with the drawn one."""
    drawn = walked.prompt.drawn_mm
    if drawn is None:
        return walked

    def off(level: float) -> float:
        length = walked.long_axis_mm(walked.at(level))
        return abs(np.log(max(length, 1e-3) / drawn)) + LEVEL_COSTS * abs(level - 0.5)

    return replace(walked, level=min(LEVELS_TRIED, key=off))


def _at_points(points_lps_mm: np.ndarray, grid) -> np.ndarray:
    """The voxels of a grid that hold LPS points (n, 3), bool; points beside it are left out."""
    out = np.zeros(grid.shape, bool)
    index = np.rint(grid.to_index(points_lps_mm)).astype(int)
    index = index[((index >= 0) & (index < grid.shape)).all(axis=1)]
    out[tuple(index.T)] = True
    return out
