"""The report's pictures: a lesion on its slice with outline and axes, and the timeline, all as SVG."""

from __future__ import annotations

from base64 import b64encode
from html import escape

import numpy as np

from ..hu_windows import suggested_window
from ..lesions import Finding, Lesion
from ..lesions.curves import Course, Curve, spread, ticks
from ..lesions.recist import PARTIAL, PROGRESS, PROGRESS_MM
from ..thumbnails import Thumbnail, mask_lines, png, thumbnail
from ..volume import CTVolume
from .report_style import category_class, lesion_class
from .words import millimetres

PIXELS = 192
LEAST_SIDE_MM, MOST_SIDE_MM, ROUND = 50.0, 140.0, 2.2
"""A lesion's pictures all show this much of the patient: ``ROUND`` times its longest axis, within these."""
WIDTH, LEFT, RIGHT = 960.0, 44.0, 840.0
SUM_TOP, SUM_BOTTOM, TOP, BOTTOM = 52.0, 158.0, 200.0, 390.0
HEIGHT = 436.0


def side_mm(lesion: Lesion) -> float:
    """How much of the patient a lesion's pictures show, the same at all time points."""
    axes = [found.measurement.long_axis_mm for found in lesion.findings.values() if found.measurement is not None]
    return float(np.clip(ROUND * max(axes, default=0.0), LEAST_SIDE_MM, MOST_SIDE_MM))


def window_of(volume: CTVolume, finding: Finding) -> tuple[float, float]:
    """The window (width, level) in HU in which a finding is seen best."""
    return suggested_window(volume, np.array(finding.point_lps_mm))


def lesion_picture(volume: CTVolume, finding: Finding, side: float, window: tuple[float, float], words: str) -> str:
    """An SVG of a finding that is present: outline and axes where it was measured, else a cross at its place."""
    measured = finding.measurement
    place = np.array(finding.point_lps_mm) if measured is None else np.mean(measured.long_axis_ends, axis=0)
    picture = thumbnail(volume, place, side, PIXELS, window)
    drawn = _cross(picture, place) if measured is None else ""
    if finding.mask is not None and finding.mask.grid == volume.geometry.shape:
        drawn += "".join(
            f'<polygon class="outline" points="{_points(picture.of_index(line))}"/>'
            for line in mask_lines(finding.mask, picture.slice_index)
        )
    if measured is not None:
        for ends in (measured.long_axis_ends, measured.short_axis_ends):
            points = _points(picture.place(np.array(ends)))  # dark below: seen on bright lesions, too
            drawn += f'<polyline class="halo" points="{points}"/><polyline class="axis" points="{points}"/>'
    grey = b64encode(png(picture.grey)).decode()
    return (
        f'<svg viewBox="0 0 {PIXELS} {PIXELS}" role="img" aria-label="{escape(words)}" stroke-width="1.4" '
        f'stroke-linejoin="round"><image width="{PIXELS}" height="{PIXELS}" href="data:image/png;base64,{grey}"/>'
        f"{drawn}{_scale(picture)}</svg>"
    )


def timeline(course: Course) -> str:
    """An SVG of the sum of targets with the responses, and below it every lesion's diameter; "" where none is known."""
    if not any(curve.marks for curve in course.curves):
        return ""
    has_sum = course.largest_sum_mm > 0
    up = 0.0 if has_sum else TOP - 26
    parts = [
        f'<svg class="plot" viewBox="0 {up:.0f} {WIDTH:.0f} {HEIGHT - up:.0f}" role="img" '
        'aria-label="Diameters over time" stroke-width="1.5">'
    ]
    if has_sum:
        parts += _sum_panel(course)
    steps = ticks(1.05 * course.largest_mm)
    parts += _axis(steps, TOP, BOTTOM, "Diameters, mm; of nodes the short axis")
    for n, (name, date) in enumerate(zip(course.names, course.dates, strict=True)):
        for row, (words, kind) in enumerate(((name, ""), (date, "quiet"))):
            parts.append(_text(_x(course, n), BOTTOM + 18 + 15 * row, words[:22], kind, "middle"))
    for curve in course.curves:
        parts += _curve(course, curve, steps[-1])
    parts += _names(course, steps[-1])
    return "".join([*parts, "</svg>"])


def _sum_panel(course: Course) -> list[str]:
    steps = ticks(1.12 * course.largest_sum_mm, 3)
    parts = _axis(steps, SUM_TOP, SUM_BOTTOM, "Sum of targets, mm")
    known = [(n, mm) for n, mm in enumerate(course.sums_mm) if mm is not None]
    if course.sums_mm[0] is not None and len(course.names) > 1:
        nadir = min(mm for mm in course.sums_mm[:-1] if mm is not None)
        limits = (
            ("PR", course.sums_mm[0] * (1 + PARTIAL / 100), f"PR −{-PARTIAL:.0f} %"),
            ("PD", max(nadir * (1 + PROGRESS / 100), nadir + PROGRESS_MM), f"PD +{PROGRESS:.0f} %"),
        )
        for category, mm, words in limits:
            if mm <= steps[-1]:
                y = _y(mm, steps[-1], SUM_TOP, SUM_BOTTOM)
                kind = category_class(category)
                line = f'class="bound {kind}" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="1"'
                parts.append(f'<line {line} stroke-dasharray="5 4"/>')
                parts.append(_text(RIGHT + 6, y + 4, words, f"limit {kind}"))
    for (a, first), (b, second) in zip(known, known[1:], strict=False):
        if b == a + 1:
            ends = [(_x(course, n), _y(mm, steps[-1], SUM_TOP, SUM_BOTTOM)) for n, mm in ((a, first), (b, second))]
            parts.append(f'<polyline class="sum" stroke-width="2.2" points="{_points(np.array(ends))}"/>')
    provisional = {one.timepoint for one in course.responses if one.provisional}
    for n, mm in known:
        x, y = _x(course, n), _y(mm, steps[-1], SUM_TOP, SUM_BOTTOM)
        fill = "var(--ground)" if course.names[n] in provisional else "var(--text)"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" style="stroke:var(--text);fill:{fill}"/>')
        parts.append(_text(x, y - 10, millimetres(mm), "", "middle"))
    for one in course.responses:
        kind = category_class(one.response.category)
        x = _x(course, course.names.index(one.timepoint))
        parts.append(_text(x, 18, one.response.category, f"limit {kind}", "middle", "font-weight:650"))
    return parts


def _axis(steps: list[float], top: float, bottom: float, title: str) -> list[str]:
    parts = [_text(4, top - 14, title, "quiet")]
    for value in steps:
        y = _y(value, steps[-1], top, bottom)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="1"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value:g}", "quiet", "end"))
    return parts


def _curve(course: Course, curve: Curve, top: float) -> list[str]:
    kind = lesion_class(curve.number)
    dash = "" if curve.lesion.role == "target" else ' stroke-dasharray="6 4"'
    parts = []
    for run in curve.runs:
        places = np.array([(_x(course, mark.order), _y(mark.mm, top, TOP, BOTTOM)) for mark in run])
        parts.append(f'<polyline class="curve {kind}" points="{_points(places)}"{dash}/>')
    for mark in curve.marks:
        x, y = _x(course, mark.order), _y(mark.mm, top, TOP, BOTTOM)
        if mark.mm == 0:
            cross = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
            parts.append(f'<path class="curve {kind}" d="{cross}"/>')
        else:
            open_ = "" if mark.finding.decided else " open"
            parts.append(f'<circle class="mark{open_} {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>')
    return parts


def _names(course: Course, top: float) -> list[str]:
    shown = [curve for curve in course.curves if curve.marks]
    ends = [_y(curve.marks[-1].mm, top, TOP, BOTTOM) for curve in shown]
    places = spread(ends, 15.0, TOP, BOTTOM)
    return [
        _text(RIGHT + 6, place + 4, curve.lesion.name[:16], f"name {lesion_class(curve.number)}")
        for curve, place in zip(shown, places, strict=True)
    ]


def _cross(picture: Thumbnail, place: np.ndarray) -> str:
    x, y = picture.place(place)
    arms = [f"M{x + 9 * dx:.1f} {y + 9 * dy:.1f}l{10 * dx} {10 * dy}" for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    return f'<path class="cross" d="{"".join(arms)}"/>'


def _scale(picture: Thumbnail) -> str:
    """A bar of 1 cm in the corner."""
    length = 10 * PIXELS / picture.side_mm
    line = f'x1="{PIXELS - 8 - length:.1f}" x2="{PIXELS - 8}" y1="{PIXELS - 8}" y2="{PIXELS - 8}"'
    return f'<line {line} stroke="#fff" stroke-width="2"/>'


def _x(course: Course, order: int) -> float:
    return LEFT + 30 + course.places[order] * (RIGHT - LEFT - 60)


def _y(mm: float, largest: float, top: float, bottom: float) -> float:
    return bottom - mm / largest * (bottom - top)


def _points(places: np.ndarray) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start", style: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{styled}>{escape(words)}</text>'
