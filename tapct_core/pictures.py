"""Pictures of matches for people: slices in a radiologist's window, heat map, ranked candidates.

Radiological order: the patient's right is on the left of the picture, anterior and head are up.
matplotlib is imported when a picture is made, and without pyplot, so no window system is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .atomic import atomic_path
from .geometry import Geometry
from .hu_windows import suggested_window
from .volume import CTVolume

BACKGROUND, INK, QUIET = "#101418", "#f2f4f6", "#8b97a3"
HEAT_COLOUR = "#e35933"
BASELINE_COLOUR, BEST_COLOUR, OTHER_COLOUR, TRUTH_COLOUR = "#4cc9f0", "#ffd166", "#c9a227", "#7ee787"
VIEW_MM = (230.0, 170.0)
"""Width and height of every panel, centred on what it shows: all panels have one scale."""
_CURSOR_MM = 7.0


@dataclass(frozen=True)
class MatchPicture:
    """All that one picture shows. Points are LPS mm; ``similarity`` (Z, Y, X) lies on ``similarity_geometry``."""

    title: str
    baseline: CTVolume
    followup: CTVolume
    point: np.ndarray
    candidates: Sequence[np.ndarray]
    similarity: np.ndarray | None
    similarity_geometry: Geometry
    truth: np.ndarray | None = None


def save_match_page(pictures: Sequence[MatchPicture], path: Path) -> None:
    """One row a match: baseline axial and coronal, follow-up axial and coronal with the heat map."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 2.62 * len(pictures) + 0.4), facecolor=BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(pictures), 4, squeeze=False)
    for row, picture in zip(axes, pictures, strict=True):
        window = suggested_window(picture.baseline, picture.point)
        for axis, plane in zip(row[:2], ("axial", "coronal"), strict=True):
            draw_slice(axis, picture.baseline, picture.point, plane, window)
            draw_cursor(axis, picture.baseline, picture.point, plane, BASELINE_COLOUR)
        for axis, plane in zip(row[2:], ("axial", "coronal"), strict=True):
            best = picture.candidates[0]
            draw_slice(axis, picture.followup, best, plane, window)
            if picture.similarity is not None:
                draw_heat(axis, picture.followup, best, plane, picture.similarity, picture.similarity_geometry)
            for rank, candidate in reversed(list(enumerate(picture.candidates, start=1))):
                colour = BEST_COLOUR if rank == 1 else OTHER_COLOUR
                draw_cursor(axis, picture.followup, candidate, plane, colour, label=str(rank), shown=best)
            if picture.truth is not None:
                draw_cursor(axis, picture.followup, picture.truth, plane, TRUTH_COLOUR, marker="x", shown=best)
        row[0].set_title(picture.title, color=INK, fontsize=10, loc="left")
        row[0].set_ylabel("baseline", color=QUIET)
        row[2].set_title("follow-up", color=QUIET, fontsize=10, loc="left")
    legend = [("baseline point", BASELINE_COLOUR, "o"), ("candidates by rank", BEST_COLOUR, "o")]
    if any(picture.similarity is not None for picture in pictures):
        legend.append(("glow: similarity of the features", HEAT_COLOUR, "s"))
    if any(picture.truth is not None for picture in pictures):
        legend.append(("reference", TRUTH_COLOUR, "x"))
    figure.legend(
        handles=[_handle(*entry) for entry in legend],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        labelcolor=INK,
    )
    with atomic_path(path) as part:
        figure.savefig(part, dpi=100, facecolor=BACKGROUND, metadata={"Software": None})


def draw_slice(axis, volume: CTVolume, point: np.ndarray, plane: str, window: tuple[float, float]) -> None:
    """The slice through ``point`` in the window (width, level), in mm proportions."""
    width, level = window
    image = volume.hu[_slicer(volume.geometry, point, plane)]
    axis.imshow(
        image, cmap="gray", vmin=level - width / 2, vmax=level + width / 2, interpolation="bilinear",
        origin="upper" if plane == "axial" else "lower", aspect=_aspect(volume.geometry, plane),
    )  # fmt: skip
    index = volume.geometry.to_index(point)
    rows, columns = (1, 2) if plane == "axial" else (0, 2)
    half = np.array(VIEW_MM) / 2 / np.array(volume.geometry.spacing_mm)[[columns, rows]]
    axis.set_xlim(index[columns] - half[0], index[columns] + half[0])
    bottom, top = index[rows] + half[1], index[rows] - half[1]
    axis.set_ylim((bottom, top) if plane == "axial" else (top, bottom))
    axis.set_facecolor("black")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_heat(
    axis, volume: CTVolume, point: np.ndarray, plane: str, similarity: np.ndarray, geometry: Geometry
) -> None:
    """The similarity map over that slice: nothing at the 90th percentile, full colour at the peak."""
    from scipy.ndimage import map_coordinates

    shape = volume.geometry.shape
    rows, columns = (1, 2) if plane == "axial" else (0, 2)
    index = np.zeros((shape[rows], shape[columns], 3))
    index[...] = np.rint(volume.geometry.to_index(point))
    index[..., rows] = np.arange(shape[rows])[:, None]
    index[..., columns] = np.arange(shape[columns])[None]
    tokens = np.moveaxis(geometry.to_index(volume.geometry.to_world(index)), -1, 0)
    finite = np.nan_to_num(similarity.astype(np.float32), nan=-1.0, neginf=-1.0)
    heat = map_coordinates(finite, tokens, order=1, mode="nearest")
    low, high = np.percentile(finite[finite > -1], 90) if (finite > -1).any() else 0.0, float(finite.max())
    strength = np.clip((heat - low) / max(high - low, 1e-6), 0, 1)
    limits = axis.axis()  # imshow would show the whole slice again
    axis.imshow(
        heat, cmap="inferno", vmin=low, vmax=high, alpha=0.75 * strength, interpolation="bilinear",
        origin="upper" if plane == "axial" else "lower", aspect=_aspect(volume.geometry, plane),
    )  # fmt: skip
    axis.axis(limits)


def draw_cursor(
    axis,
    volume: CTVolume,
    point: np.ndarray,
    plane: str,
    colour: str,
    label: str = "",
    marker: str = "o",
    shown: np.ndarray | None = None,
) -> None:
    """A ring, or a cross, at the point's place; faint when it lies over 10 mm off the slice through ``shown``."""
    index = volume.geometry.to_index(point)
    row, column, through = (index[1], index[2], 0) if plane == "axial" else (index[0], index[2], 1)
    slice_index = index if shown is None else volume.geometry.to_index(shown)
    off_mm = abs(index[through] - slice_index[through]) * volume.geometry.spacing_mm[through]
    alpha = 1.0 if off_mm <= 10 else 0.35
    size = 90 if marker == "o" else 45
    face = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"color": colour}
    axis.scatter([column], [row], s=size, marker=marker, linewidths=1.6, alpha=alpha, zorder=5, **face)
    if label:
        step = _CURSOR_MM / volume.geometry.spacing_mm[2]
        axis.annotate(
            label, (column + step, row), color=colour, fontsize=8, va="center", alpha=alpha, zorder=6, clip_on=True
        )


def _slicer(geometry: Geometry, point: np.ndarray, plane: str) -> tuple:
    index = np.clip(np.rint(geometry.to_index(point)).astype(int), 0, np.array(geometry.shape) - 1)
    return (index[0], slice(None), slice(None)) if plane == "axial" else (slice(None), index[1], slice(None))


def _aspect(geometry: Geometry, plane: str) -> float:
    z, y, x = geometry.spacing_mm
    return (y if plane == "axial" else z) / x


def _handle(label: str, colour: str, marker: str):
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        linestyle="",
        marker=marker,
        markersize=8,
        markerfacecolor="none",
        markeredgecolor=colour,
        markeredgewidth=1.6,
        label=label,
    )
