"""Slices of one DICOM series to one regular grid, or the line that says why they make none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np

from ..errors import UserError
from .dicom_slices import Slice, text

EVEN_MM = 0.05
"""Slices may lie this far, or 5 % of their spacing, from an even grid: headers round positions."""


def one_stack(slices: list[Slice], one: Path | None) -> list[Slice]:
    """Slices of one orientation, size and pixel spacing, and of one acquisition where positions repeat."""
    slices = _one_group(slices, one, lambda s: tuple(np.round(s.axes.ravel(), 2) + 0.0), "(mixed) orientations")
    slices = _one_group(slices, one, lambda s: (*s.size, *np.round(_spacing(s), 4)), "slice sizes or pixel spacings")
    if len({_key(s) for s in slices}) == len(slices):
        return slices
    if len({(_key(s), _acquisition(s)) for s in slices}) == len(slices):
        return _one_group(slices, one, _acquisition, "acquisitions at the same positions")
    repeats = Counter(_key(s) for s in slices)
    if len(repeats) > 1 and min(repeats.values()) > 1:
        raise UserError(
            f"this DICOM series is 4D: each position is there {min(repeats.values())} times, as in phases; "
            "split it into one series a phase"
        )
    where = next(key for key, count in repeats.items() if count > 1)
    files = " and ".join(s.path.name for s in slices if _key(s) == where)
    raise UserError(f"duplicate slice at {_mm(slices[0], where)}: {files}; remove one of them")


def stack(slices: list[Slice]) -> tuple[np.ndarray, list[Slice]]:
    """(affine, slices) with the slices in the order of the volume's axis: index (column, row, slice) -> LPS mm.

    Raises UserError for a single slice, gaps, uneven spacing and slices that do not stand in a column.
    """
    along, down = slices[0].axes
    if abs(np.linalg.norm(along) - 1) > 0.01 or abs(np.linalg.norm(down) - 1) > 0.01 or abs(along @ down) > 0.01:
        raise UserError("this DICOM series has no valid ImageOrientationPatient; export it again")
    if len(slices) < 2:
        raise UserError("this DICOM series has a single slice; a volume needs at least two, so export the whole series")
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal)
    # Towards left, posterior or superior, whichever the normal is closest to: the house's order.
    normal *= np.sign(normal[np.abs(normal).argmax()])
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.stack([s.position for s in slices])
    heights = positions @ normal
    _check_even(heights, slices[0], normal)
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    lean = np.linalg.norm(sideways, axis=1).max()
    if lean > max(0.2, np.tan(np.radians(0.1)) * (heights[-1] - heights[0])):
        degrees = np.degrees(np.arctan2(np.linalg.norm(sideways[-1]), heights[-1] - heights[0]))
        reason = f"gantry tilt of {degrees:.1f} degrees" if degrees > 0.1 else "their in-plane positions differ"
        raise UserError(
            f"the slices do not stand square above each other ({reason}, {lean:.1f} mm); "
            "resample the series to a rectangular grid first"
        )
    between_rows, between_columns = _spacing(slices[0])
    affine = np.eye(4)
    affine[:3, 0] = along / np.linalg.norm(along) * between_columns
    affine[:3, 1] = down / np.linalg.norm(down) * between_rows
    affine[:3, 2] = normal * (heights[-1] - heights[0]) / (len(slices) - 1)
    affine[:3, 3] = positions[0]
    return affine, slices


def _one_group(slices: list[Slice], one: Path | None, key: Callable[[Slice], Hashable], what: str) -> list[Slice]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for s in slices:
        groups[key(s)].append(s)
    if len(groups) == 1:
        return slices
    if one is not None:
        return next(group for group in groups.values() if any(s.path == one for s in group))
    sizes = " + ".join(str(len(group)) for group in groups.values())
    raise UserError(
        f"this DICOM series mixes {len(groups)} {what} ({sizes} slices); "
        "give one file of the stack you want instead of the folder"
    )


def _check_even(heights: np.ndarray, first: Slice, normal: np.ndarray) -> None:
    """Raise UserError, naming the place, unless sorted positions (n,) mm along the normal are evenly spaced."""
    steps = np.diff(heights)
    step = float(np.median(steps))
    sign = 1.0 if normal @ np.cross(*first.axes) > 0 else -1.0
    gap = int(steps.argmax())
    if steps[gap] > 1.5 * step:
        missing = round(steps[gap] / step) - 1
        what = "a slice is" if missing == 1 else f"{missing} slices are"
        raise UserError(
            f"{what} missing at {_mm(first, sign * (heights[gap] + step))} "
            f"(next to {_mm(first, sign * heights[gap])}); copy the whole series again"
        )
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() > max(EVEN_MM, 0.05 * step):
        worst = int(np.abs(heights - even).argmax())
        raise UserError(
            f"the slices are unevenly spaced ({steps.min():.2f} to {steps.max():.2f} mm, "
            f"worst at {_mm(first, sign * heights[worst])}); resample the series to an even grid first"
        )


def _acquisition(s: Slice) -> str:
    return text(s.header, "AcquisitionNumber")


def _key(s: Slice) -> float:
    """Position along the normal in mm, rounded to what tells slices apart."""
    return round(float(s.position @ np.cross(*s.axes)), 2) + 0.0


def _spacing(s: Slice) -> np.ndarray:
    """(between rows, between columns) in mm, in this order by the standard."""
    return np.array(s.header.PixelSpacing, dtype=np.float64)


def _mm(s: Slice, along: float) -> str:
    """A position along the normal in words: on a patient axis where the normal is one."""
    normal = np.cross(*s.axes)
    axis = int(np.abs(normal).argmax())
    if abs(normal[axis]) > 0.999:
        return f"{'xyz'[axis]} = {along * np.sign(normal[axis]):.2f} mm"
    return f"{along:.2f} mm along the slice normal"
