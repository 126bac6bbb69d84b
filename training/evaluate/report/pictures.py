"""The report's pictures: chosen slices with every row's segmentation beside the truth, and curves.

As in figure 4 of TAP-CT's paper, a slice is shown once for each encoder. Radiological order: the patient's right is on
the left of the picture.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tapct_core.hu_windows import suggested_window
from tapct_core.pictures import BACKGROUND, INK, QUIET
from tapct_core.volume import CTVolume, LabelMap

from .tables import Curves

COLOURS = (
    "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#b04be0", "#46f0f0", "#f032e6", "#bcf60c", "#fabebe",
    "#1aa39a", "#c8a2ff", "#c06b1f", "#fffac8", "#d4003c", "#aaffc3", "#9a9a2e", "#ffd8b1", "#5b7fff", "#b0b8c0",
)  # fmt: skip
LINES = ("#0b6e99", "#d1495b", "#2e7d4f", "#8a5cb8", "#c77d0a", "#4a5560", "#00897b", "#b0413e")
MARGIN_MM = 8.0
PANEL_INCHES = 2.9
LEGEND_CLASSES = 24


@dataclass(frozen=True)
class SlicePicture:
    """One case: the scan, the truth and each row's segmentation, all on one grid, and what to write under a panel."""

    case: str
    volume: CTVolume
    truth: LabelMap
    found: Mapping[str, LabelMap]
    under: Mapping[str, str]


def richest_slice(truth: LabelMap) -> int:
    """The axial slice that shows most classes, and of those the one with the largest labelled area."""
    best, where = (-1, -1), truth.labels.shape[0] // 2
    for z, plane in enumerate(truth.labels):
        if plane.any():
            here = (len(np.unique(plane)) - 1, int(np.count_nonzero(plane)))
            if here > best:
                best, where = here, z
    return where


def slices_page(pictures: Sequence[SlicePicture], names: Mapping[int, str]) -> bytes:
    """PNG: one line a case, its slice without and with the truth, then with each row's segmentation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = list(pictures[0].found)
    shown = [_cut(picture) for picture in pictures]
    heights = [PANEL_INCHES * height / width for _, _, (height, width) in shown]
    values = sorted({int(v) for p, (z, box, _) in zip(pictures, shown, strict=True) for v in _values(p, z, box)})
    legend_inches = 0.28 * (1 + (min(len(values), LEGEND_CLASSES) - 1) // 6) + 0.2
    width, height = PANEL_INCHES * (2 + len(rows)), sum(heights) + 0.62 * len(pictures) + legend_inches
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(pictures), 2 + len(rows), squeeze=False, gridspec_kw={"height_ratios": heights})
    colours = {value: COLOURS[place % len(COLOURS)] for place, value in enumerate(sorted(names))}
    for line, picture, (z, box, _) in zip(axes, pictures, shown, strict=True):
        window = _window(picture, z)
        panels = [("", None), ("truth", picture.truth), *picture.found.items()]
        for axis, (title, labels) in zip(line, panels, strict=True):
            _draw_slice(axis, picture.volume, z, box, window)
            if labels is not None:
                _draw_labels(axis, labels, z, box, colours)
            axis.set_title(title or f"{picture.case}, slice {z + 1}", color=INK, fontsize=9, loc="left", wrap=True)
            axis.set_xlabel(picture.under.get(title, ""), color=QUIET, fontsize=8.5, loc="left")
    handles = [Patch(color=colours[value], label=names[value]) for value in values[:LEGEND_CLASSES]]
    figure.legend(handles=handles, loc="outside lower left", ncols=6, frameon=False, labelcolor=INK, fontsize=9)
    return _png(figure, BACKGROUND, 110)


def curves_picture(curves: Curves) -> bytes:
    """PNG of lines with a legend; lines of a single point become dots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.7), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for number, (name, points) in enumerate(curves.lines.items()):
        x, y = np.array(points, dtype=float).T
        few = len(x) <= 12
        axis.plot(
            x, y, color=LINES[number % len(LINES)], linestyle=("-", "--", ":")[number // len(LINES) % 3],
            linewidth=1.8, marker="o" if few else None, markersize=5, label=name,
        )  # fmt: skip
    if curves.log_x:
        axis.set_xscale("log")
    axis.set_xlabel(curves.x)
    axis.set_ylabel(curves.y)
    axis.grid(color="#e3e7ea", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    return _png(figure, "white", 110)


def _cut(picture: SlicePicture) -> tuple[int, tuple[slice, slice], tuple[float, float]]:
    """The slice, the part of it (rows, columns) that shows the patient, and its size in mm."""
    z = richest_slice(picture.truth)
    spacing = picture.volume.geometry.spacing_mm[1:]
    body = (picture.volume.hu[z] > -400) | (picture.truth.labels[z] > 0)
    box = []
    for axis, step in enumerate(spacing):
        # A table or a wire is a few voxels wide; the patient is what a hundredth of the lines' length is filled by.
        filled = np.flatnonzero(body.sum(axis=1 - axis) > 0.02 * body.shape[1 - axis])
        margin = int(np.ceil(MARGIN_MM / step))
        low, high = (filled[0], filled[-1]) if len(filled) else (0, body.shape[axis] - 1)
        box.append(slice(max(0, int(low) - margin), int(high) + margin + 1))
    sizes = [len(range(*part.indices(n))) * s for part, n, s in zip(box, body.shape, spacing, strict=True)]
    return z, (box[0], box[1]), (sizes[0], sizes[1])


def _values(picture: SlicePicture, z: int, box: tuple[slice, slice]) -> np.ndarray:
    planes = [labels.labels[z][box].reshape(-1) for labels in (picture.truth, *picture.found.values())]
    values = np.unique(np.concatenate(planes))
    return values[values > 0]


def _window(picture: SlicePicture, z: int) -> tuple[float, float]:
    """Lung or soft tissue, by what surrounds the middle of the labelled part of the slice."""
    labelled = np.argwhere(picture.truth.labels[z] > 0)
    middle = labelled[len(labelled) // 2] if len(labelled) else np.array(picture.truth.labels[z].shape) // 2
    return suggested_window(picture.volume, picture.volume.geometry.to_world(np.array([z, *middle])))


def _draw_slice(axis, volume: CTVolume, z: int, box: tuple[slice, slice], window: tuple[float, float]) -> None:
    width, level = window
    rows, columns = volume.geometry.spacing_mm[1:]
    axis.imshow(
        volume.hu[z][box], cmap="gray", vmin=level - width / 2, vmax=level + width / 2, aspect=rows / columns,
        interpolation="bilinear",
    )  # fmt: skip
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("black")
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_labels(axis, labels: LabelMap, z: int, box: tuple[slice, slice], colours: Mapping[int, str]) -> None:
    """Each class as a tint with a line round it."""
    from matplotlib.colors import to_rgb

    plane = labels.labels[z][box]
    tint = np.zeros((*plane.shape, 4))
    for value in np.unique(plane[plane > 0]):
        tint[plane == value] = (*to_rgb(colours.get(int(value), "#ffffff")), 0.38)
    axis.imshow(tint, interpolation="nearest", aspect=axis.get_aspect())
    for value in np.unique(plane[plane > 0]):
        mask = np.pad((plane == value).astype(float), 1)
        extent = np.arange(-1, mask.shape[1] - 1), np.arange(-1, mask.shape[0] - 1)
        axis.contour(*extent, mask, levels=[0.5], colors=[colours.get(int(value), "#ffffff")], linewidths=0.9)
    axis.set_xlim(-0.5, plane.shape[1] - 0.5)
    axis.set_ylim(plane.shape[0] - 0.5, -0.5)


def _png(figure, background: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=background, metadata={"Software": None})
    return buffer.getvalue()
