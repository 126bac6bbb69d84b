"""Slices of one stack to one regular grid, or the line that says why they make none."""

from __future__ import annotations

import numpy as np

from ..errors import NeedsWord, UserError
from ..volume import Native
from .dicom_groups import normal_of, where
from .dicom_resample import native_grid
from .dicom_slices import Slice

EVEN_MM = 0.05
"""Slices may lie this far, or 5 % of their spacing, from an even grid."""
WRITTEN = 1.3
"""Or this many halves of the last decimal that the header writes, but no further than a third of the spacing."""
FURTHEST = 0.35
FEW = 0.1
"""Share of slices that may be called strays among the others."""


class NoGridError(NeedsWord):
    """Slices that are all there, but uneven or leaning, so that only resampling makes a regular grid of them."""

    def __init__(self, reason: str, grid: str) -> None:
        choice = (f"Resample them onto {grid} grid", {"resample": True})
        super().__init__(reason, f"put them on {grid} grid with --resample", (choice,))


def stack(slices: list[Slice], resample: bool = False) -> tuple[np.ndarray, list[Slice], Native | None]:
    """(affine, slices, native) with the slices in the order of the volume's axis: index (column, row, slice) -> LPS mm.

    ``native`` is None where the slices are the grid. With ``resample``, a person's word, uneven slices and those of a
    tilted gantry get a grid to be resampled on, and ``native`` says where the slices lie in it.
    Raises UserError for a single slice, gaps and strays, NoGridError for slices that are uneven or lean.
    """
    along, down = np.mean([s.axes for s in slices], axis=0)
    if abs(np.linalg.norm(along) - 1) > 0.01 or abs(np.linalg.norm(down) - 1) > 0.01 or abs(along @ down) > 0.01:
        raise UserError("this DICOM series has no valid ImageOrientationPatient; export it again")
    if len(slices) < 2:
        raise UserError("this DICOM series has a single slice; a volume needs at least two, so export the whole series")
    normal = normal_of(slices)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.stack([s.position for s in slices])
    heights = positions @ normal
    between_rows, between_columns = slices[0].spacing
    affine = np.eye(4)
    affine[:3, 0] = along / np.linalg.norm(along) * between_columns
    affine[:3, 1] = down / np.linalg.norm(down) * between_rows
    try:
        start, step = _even(heights, slices, normal)
        _check_column(positions, heights, slices, normal)
    except NoGridError:
        if not resample:
            raise
        affine[:3, 2] = normal * np.diff(heights).min()
        affine, native = native_grid(affine, positions, slices[0].size)
        return affine, slices, native
    affine[:3, 2] = normal * step
    affine[:3, 3] = positions[0] + normal * (start - heights[0])
    return affine, slices, None


def _even(heights: np.ndarray, slices: list[Slice], normal: np.ndarray) -> tuple[float, float]:
    """(first, step) mm of the even grid that sorted positions (n,) lie on; UserError, naming the place, for none.

    Positions that the header has rounded are fitted, so that the rounding of the ends does not tip the grid.
    """
    step = (heights[-1] - heights[0]) / (len(heights) - 1)
    index = np.arange(len(heights))
    if np.abs(heights - heights[0] - step * index).max() < 0.002:
        return float(heights[0]), float(step)
    rounding = WRITTEN * _last_decimal_mm(slices, normal) / 2
    fitted, first = np.polyfit(index, heights, 1)
    off, first = _off(heights, first, fitted, index)
    if off.max() <= _allowed(fitted, rounding):
        return float(first), float(fitted)
    _name_what_is_wrong(heights, slices, normal, rounding)
    steps = np.diff(heights)
    raise NoGridError(
        f"the slices are unevenly spaced ({steps.min():.2f} to {steps.max():.2f} mm, worst at "
        f"{where(normal, heights[off.argmax()])})",
        "an even",
    )


def _off(heights: np.ndarray, first: float, step: float, number: np.ndarray) -> tuple[np.ndarray, float]:
    """(mm off the grid (n,), its first place), the grid moved to where the largest is least, as rounding leaves it."""
    off = heights - first - step * number
    middle = (off.max() + off.min()) / 2 if np.ptp(off) < step else 0.0
    return np.abs(off - middle), float(first + middle)


def _allowed(step: float, rounding: float) -> float:
    return max(EVEN_MM, 0.05 * step, min(rounding, FURTHEST * step))


def _last_decimal_mm(slices: list[Slice], normal: np.ndarray) -> float:
    """The unit of the last decimal of the positions along the normal, as the headers write them; 1 for whole mm."""
    decimals = 0
    for s in slices:
        for value, share in zip(s.header.ImagePositionPatient, np.abs(normal), strict=True):
            words = str(getattr(value, "original_string", value)).strip()
            if share > 0.1:
                decimals = max(decimals, 9 if "e" in words.lower() else len(words.partition(".")[2]))
    return 10.0**-decimals


def _name_what_is_wrong(heights: np.ndarray, slices: list[Slice], normal: np.ndarray, rounding: float) -> None:
    """Raise UserError where all but a few slices stand on one even grid: strays far away or in between, or gaps."""
    count = len(heights)
    few = max(1, FEW * count)
    number, off, step = _grid(heights, rounding)
    wide = np.flatnonzero(np.diff(heights) > max(20 * step, 0.5 * (heights[-1] - heights[0])))
    if len(wide) == 1:  # the smaller side of the one wide gap
        below = np.arange(count) <= wide[0]
        strays = below if below.sum() * 2 < count else ~below
        few = count / 3
    else:
        strays = off > _allowed(step, rounding)
    if count > 3 and 0 < strays.sum() <= few:
        named = ", ".join(f"{slices[i].path.name} at {where(normal, heights[i])}" for i in np.flatnonzero(strays)[:5])
        what = "a slice stands" if strays.sum() == 1 else f"{strays.sum()} slices stand"
        raise UserError(f"{what} off the even grid of all others ({named}); remove what does not belong to the series")
    steps = np.diff(number)
    gaps = np.flatnonzero(steps > 1)
    if strays.any() or not 0 < len(gaps) <= max(1, 0.25 * len(steps)):
        return
    missing = int((steps[gaps] - 1).sum())
    what = "a slice is" if missing == 1 else f"{missing} slices are"
    raise UserError(
        f"{what} missing at {where(normal, heights[gaps[0]] + step)} "
        f"(next to {where(normal, heights[gaps[0]])}); copy the whole series again"
    )


def _grid(heights: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(number of each slice on the grid that most stand on, mm off it, step mm) of sorted positions (n,)."""
    apart = min(4, max(1, (len(heights) - 1) // 3))  # several steps at once, for single ones are rounded
    step = float(np.median((heights[apart:] - heights[:-apart]) / apart))
    number = np.concatenate([[0], np.cumsum(np.rint(np.diff(heights) / step))])
    on = np.ones(len(heights), bool)
    for _ in range(3):
        fitted, first = np.polyfit(number[on], heights[on], 1)
        off, _ = _off(heights, first, fitted, number)
        on = off <= max(_allowed(fitted, rounding), float(np.median(off)))
        number = np.rint((heights - first) / fitted) if on.sum() > 2 else number
    return number, np.abs(heights - first - fitted * number), float(fitted)


def _check_column(positions: np.ndarray, heights: np.ndarray, slices: list[Slice], normal: np.ndarray) -> None:
    """Raise UserError unless the slices stand square above each other."""
    sideways = positions - np.outer(heights, normal)
    limit = max(0.2, np.tan(np.radians(0.1)) * (heights[-1] - heights[0]))
    if np.linalg.norm(sideways - sideways[0], axis=1).max() <= limit:
        return
    off = np.linalg.norm(sideways - np.median(sideways, axis=0), axis=1)
    strays = np.flatnonzero(off > limit)
    if len(strays) <= max(1, FEW * len(slices)) and len(slices) > 3:
        named = ", ".join(slices[i].path.name for i in strays[:5])
        raise UserError(
            f"{named}: {off[strays].max():.1f} mm sideways of all other slices of this DICOM series; "
            "remove what does not belong to it"
        )
    lean = np.linalg.norm(sideways - sideways[0], axis=1).max()
    degrees = np.degrees(np.arctan2(np.linalg.norm(sideways[-1] - sideways[0]), heights[-1] - heights[0]))
    reason = f"gantry tilt of {degrees:.1f} degrees" if degrees > 0.1 else "their in-plane positions differ"
    raise NoGridError(f"the slices do not stand square above each other ({reason}, {lean:.1f} mm)", "a rectangular")
