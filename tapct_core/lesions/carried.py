"""The same lesion in an earlier scan as the expectation: its shape carried along, grown or shrunk, a little aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..errors import UserError
from ..volume import CTVolume
from .field import Field
from .finding import Mask
from .prompts import GIVE, Prompt
from .recist import Point
from .shapes import Template

FACTORS = (0.5, 0.6, 0.72, 0.85, 1.0, 1.18, 1.4, 1.65, 2.0)
"""Changes of diameter that are tried."""
ASIDE = (-0.3, 0.0, 0.3)
"""Shifts along each axis, as shares of the radius: motion is known to a few millimetres."""
COSTS_OF_CHANGE, COSTS_OF_SHIFT = 0.5, 0.5
CORE, SHELL = 0.85, (1.15, 1.7)
ACROSS = 16
LEAST_SPREAD_HU, SEEN = 10.0, 0.3
"""A baseline that differs from its surroundings by less than SEEN of their scatter says nothing of the sign."""
OFFERED = 2


@dataclass(frozen=True, eq=False)
class Carried:
    """A lesion's mask in an earlier scan, and the motion (4, 4), LPS mm of that scan -> LPS mm of this one."""

    mask: Mask
    volume: CTVolume
    motion: np.ndarray

    @classmethod
    def to(cls, mask: Mask, volume: CTVolume, point_lps_mm: Point, place_lps_mm: Point) -> Carried:
        """Carried from its point there to its place here, not turned."""
        motion = np.eye(4)
        motion[:3, 3] = np.asarray(place_lps_mm, float) - np.asarray(point_lps_mm, float)
        return cls(mask, volume, motion)

    @property
    def contrast(self) -> float:
        """By how much it differed from its surroundings there, in their scatter, with its sign."""
        shape = Template.of(self.mask, self.volume.geometry)
        middle = self.volume.geometry.to_world(np.argwhere(self.mask.voxels).mean(axis=0) + self.mask.start)
        field = Field.around(self.volume, middle, shape.reach_mm(SHELL[1]), shape.half_mm / ACROSS * 2)
        return _effect(field.hu, shape.rho(field.grid))


def from_carried(carried: Carried, volume: CTVolume) -> list[Prompt]:
    """The likeliest shapes here: each factor with the shift at which it differs most from what is round it.

    Raises UserError where the lesion is carried out of the scan, or its mask belongs to another scan than said.
    """
    if carried.mask.grid != carried.volume.geometry.shape:
        raise UserError("the earlier mask was drawn on another grid than its scan; give the scan it belongs to")
    there = carried.volume.geometry
    middle = there.to_world(np.argwhere(carried.mask.voxels).mean(axis=0) + carried.mask.start)
    shape = Template.of(carried.mask, there, carried.motion)
    here = carried.motion[:3, :3] @ middle + carried.motion[:3, 3]
    if not volume.geometry.contains(here):
        raise UserError("the earlier mask is carried out of this scan")
    before = carried.contrast
    sign = np.sign(before) if abs(before) >= SEEN else 0.0
    field = Field.around(volume, here, 1.5 * shape.reach_mm(SHELL[1]), 2 * shape.half_mm / ACROSS)
    best = []
    for factor in FACTORS:
        fits = [
            (_fit(_effect(field.hu, moved.rho(field.grid)), sign, factor, aside), place, moved)
            for aside, place, moved in _moved(shape, here, factor)
        ]
        best.append((*max(fits, key=lambda fit: fit[0]), factor))
    best.sort(key=lambda fit: -fit[0])
    size = 2 * shape.half_mm
    return [Prompt(moved, place, size * factor, GIVE, place[None]) for _, place, moved, factor in best[:OFFERED]]


def _moved(shape: Template, middle: np.ndarray, factor: float) -> Iterator[tuple[float, np.ndarray, Template]]:
    """The shape about its middle times ``factor``, at all shifts: how far aside (in radii), its middle, the shape."""
    for shift in product(ASIDE, repeat=3):
        place = middle + np.array(shift) * shape.radius_mm
        about = np.eye(4)
        about[:3, :3] /= factor
        about[:3, 3] = middle - place / factor
        yield (
            float(np.linalg.norm(shift)),
            place,
            replace(shape, back=shape.back @ about, half_mm=shape.half_mm * factor),
        )


def _fit(effect: float, sign: float, factor: float, aside: float) -> float:
    return (effect * sign or abs(effect)) - COSTS_OF_CHANGE * np.log(factor) ** 2 - COSTS_OF_SHIFT * aside**2


def _effect(hu: np.ndarray, rho: np.ndarray) -> float:
    """Difference of a shape's core from its shell, in the scatter of both; 0 where one of them has no voxel."""
    core, shell = hu[rho < CORE], hu[(rho > SHELL[0]) & (rho < SHELL[1])]
    if not len(core) or not len(shell):
        return 0.0
    return float((core.mean() - shell.mean()) / np.sqrt(core.var() + shell.var() + LEAST_SPREAD_HU**2))
