"""Between the house's volumes and napari's layers: where a scan is drawn, and where a layer's voxels really are.

Drawn coordinates are millimetres along (inferior, posterior, left), that is (-z, y, x) of LPS: on
napari's screen, where the second axis points down and the third to the right, the patient's right is
then on the left, anterior and head are up in every plane, and 3D is not mirrored. A layer gets only
scale and translate, for napari reads wrong voxels through a permuted affine and refuses to slice an
oblique one well; an oblique scan is therefore drawn upright, with its centre in its true place.
What is true in the patient is the Geometry that travels in ``layer.metadata``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry, Orientation, Shape
from tapct_core.hu_windows import SOFT_TISSUE
from tapct_core.volume import CTVolume, LabelMap, Source

if TYPE_CHECKING:
    from napari.layers import Layer

LayerData = tuple[Any, dict[str, Any], str]

GEOMETRY, SOURCE = "tapct_geometry", "tapct_source"
"""Keys of ``layer.metadata``: the voxels' place in the patient, and the file they came from."""
DRAWN_STEP_MM = 2.0**-20
"""Scale and translate are multiples of it, so that sums of them are exact in float64. napari counts a slider's
steps as extent / scale, rounded down: with 0.1 mm the last slice of many scans could not be reached. The
drawing is off by less than 0.001 mm for that."""
WHOLE_VOXEL = 0.02
"""Two grids are one when their voxels lie no further apart than this part of a voxel."""


class UnknownPlaceError(UserError):
    """A layer whose voxels cannot be placed in a patient."""


def ct_layer(volume: CTVolume, name: str, window: tuple[float, float] | None = None) -> LayerData:
    """An image layer of ``volume``, in ``window`` (width, level), else the file's own, else soft tissue."""
    width, level = window or volume.source.window or SOFT_TISSUE
    attributes = {
        **placement(volume.geometry),
        "name": name,
        "colormap": "gray",
        "interpolation2d": "linear",  # as every radiology viewer draws it; values under the mouse stay the voxels'
        "contrast_limits": (level - width / 2, level + width / 2),
        "metadata": {GEOMETRY: volume.geometry, SOURCE: volume.source},
    }
    return volume.hu, attributes, "image"


def ct_image(volume: CTVolume, name: str, hu_range: tuple[float, float] | None = None) -> Layer:
    """:func:`ct_layer` as a finished layer: only so can the contrast slider reach all HU, not just the window.

    ``hu_range`` (lowest, highest) spares reading all voxels where it is known.
    """
    from napari.layers import Layer

    layer = Layer.create(*ct_layer(volume, name))
    low, high = layer.contrast_limits
    least, most = hu_range or (float(volume.hu.min()), float(volume.hu.max()))
    layer.contrast_limits_range = (min(low, least), max(high, most))
    return layer


def ct_name(volume: CTVolume, name: str) -> str:
    """What a CT's layer is called: a DICOM series by its date and description, else ``name``."""
    dicom = volume.source.dicom
    words = [word for word in (dicom.date, dicom.description) if word] if dicom else []
    return " ".join(words) or name


def placement_on(scan: Geometry, grid: Geometry) -> dict[str, Any]:
    """How a coarser grid of the same scan is drawn: over the scan's own drawing, an oblique one's too.

    The grid's axes must run along the scan's.
    """
    drawn = placement(scan)
    scale, translate = np.array(drawn["scale"]), np.array(drawn["translate"])
    first = scan.to_index(grid.to_world(np.zeros(3)))
    step = np.array(grid.spacing_mm) / scan.spacing_mm
    return {
        **drawn,
        "scale": tuple(_exact(scale * step).tolist()),
        "translate": tuple(_exact(translate + first * scale).tolist()),
    }


def labels_layer(labels: LabelMap, name: str) -> LayerData:
    """A labels layer that can be painted on (a copy), with the labels' names in the status bar."""
    attributes: dict[str, Any] = {
        **placement(labels.geometry),
        "name": name,
        "metadata": {GEOMETRY: labels.geometry, SOURCE: labels.source},
    }
    if labels.names:
        attributes["features"] = {"index": list(labels.names), "name": list(labels.names.values())}
    if labels.colours:
        colours = {value: (*(c / 255 for c in rgb), 1.0) for value, rgb in labels.colours.items()}
        # Labels without a colour of their own, painted later perhaps, stay visible.
        attributes["colormap"] = {0: (0.0, 0.0, 0.0, 0.0), None: (1.0, 1.0, 1.0, 1.0), **colours}
    return labels.labels.copy(), attributes, "labels"


def points_layer(geometry: Geometry, points_lps_mm: np.ndarray, **attributes: Any) -> LayerData:
    """A points layer of LPS mm (N, 3) as they lie on a scan drawn with ``geometry``; sizes are in voxels.

    Its data are the scan's (z, y, x) indices under the scan's own scale: with a scale of 1 mm the
    viewer's slider would step by 1 mm and show most slices twice.
    """
    meta = {**placement(geometry), "metadata": {GEOMETRY: geometry}, **attributes}
    return geometry.to_index(points_lps_mm), meta, "points"


def placement(geometry: Geometry) -> dict[str, Any]:
    """How a grid is drawn: scale, translate, units and axis labels of its layer."""
    scale = _exact(np.array(geometry.spacing_mm) * (-1.0, 1.0, 1.0))
    middle = (np.array(geometry.shape) - 1) / 2
    x, y, z = geometry.to_world(middle)
    return {
        "scale": tuple(scale.tolist()),
        "translate": tuple(_exact(np.array([-z, y, x]) - middle * scale).tolist()),
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
    }


def _exact(mm: np.ndarray) -> np.ndarray:
    return np.rint(mm / DRAWN_STEP_MM) * DRAWN_STEP_MM


def drawn_affine(attributes: Mapping[str, Any]) -> np.ndarray:
    """(4, 4) from a layer's index (z, y, x, 1) to drawn mm, through *all* of its transforms."""
    from napari.utils.transforms import Affine

    if len(attributes["scale"]) != 3:
        raise UnknownPlaceError(f"the layer has {len(attributes['scale'])} axes; a CT and its labels have three")
    own = Affine(**{key: attributes[key] for key in ("scale", "translate", "rotate", "shear") if key in attributes})
    return np.asarray(attributes.get("affine", np.eye(4))) @ own.affine_matrix


def ct_from_layer(data: Any, attributes: Mapping[str, Any]) -> CTVolume:
    """The CT that :func:`ct_layer` drew. Raises UnknownPlaceError for a layer that is no CT of this plugin."""
    geometry, source = _known(attributes)
    if geometry is None or geometry.shape != np.shape(data):
        raise UnknownPlaceError(
            f"it is not known where the voxels of {attributes['name']!r} lie in the patient; "
            "open the CT's file with napari-tapct"
        )
    return CTVolume(np.asarray(data), geometry, source)


def labels_from_layer(
    data: Any, attributes: Mapping[str, Any], images: Iterable[tuple[Shape, Mapping[str, Any]]] = ()
) -> LabelMap:
    """A labels layer as a LabelMap on the grid of its scan, whatever layer transforms lie between.

    A layer made by :func:`labels_layer` knows its scan; one added by hand is on the scan among
    ``images`` (shape and attributes of the open image layers) whose voxels are drawn where its own
    are. Its axes may run the other way or in another order. Raises UnknownPlaceError when there is
    no such scan, when several with different grids fit, and when the layer was moved away from its scan.
    """
    labels, drawn = np.asarray(data), drawn_affine(attributes)
    own, own_source = _known(attributes)
    scans = [(image, *_known(image), drawn_affine(image)) for shape, image in images if len(shape) == 3]
    scans = [scan for scan in scans if scan[1] is not None]
    if own is not None:
        # Moved together with its scan a layer is still on it, so the scan's own drawing counts too.
        scans = [(image, own, own_source, at) for image, geometry, _, at in scans if geometry.matches(own)]
        scans.insert(0, (attributes, own, own_source, drawn_affine(placement(own))))
    fits = []
    for image, geometry, source, at in scans:
        orientation = _same_voxels(labels.shape, drawn, geometry.shape, at)
        if orientation is not None:
            fits.append((image["name"], orientation, geometry, source))
    _, orientation, geometry, source = _the_one(fits, attributes["name"], moved=own is not None)
    names, colours = _names_and_colours(attributes)
    return LabelMap(np.ascontiguousarray(orientation.apply(labels)), geometry, source, names, colours)


def _known(attributes: Mapping[str, Any]) -> tuple[Geometry | None, Source]:
    metadata = attributes.get("metadata", {})
    return metadata.get(GEOMETRY), metadata.get(SOURCE, Source("array"))


def _same_voxels(shape: Shape, drawn: np.ndarray, scan_shape: Shape, scan_drawn: np.ndarray) -> Orientation | None:
    """How a layer's array becomes the scan's, where both have the same voxels in the same places, else None."""
    if len(shape) != 3 or abs(np.linalg.det(scan_drawn)) < 1e-12:
        return None
    to_scan = np.linalg.inv(scan_drawn) @ drawn  # layer index -> scan index
    turn = np.rint(to_scan[:3, :3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    axes = tuple(int(a) for a in np.abs(turn).argmax(axis=1))  # scan axis -> layer axis
    flips = tuple(bool(turn[a, axes[a]] < 0) for a in range(3))
    if tuple(shape[a] for a in axes) != tuple(scan_shape):
        return None
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[:3, 3] = [n - 1 if flip else 0 for n, flip in zip(scan_shape, flips, strict=True)]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1])).reshape(4, -1)
    return Orientation(axes, flips) if np.abs((to_scan - exact) @ corners).max() < WHOLE_VOXEL else None


def _the_one(fits: list[tuple[str, Orientation, Geometry, Source]], name: str, moved: bool) -> tuple:
    """The scan to write onto: napari names a new labels layer after its image, which decides between several."""
    if not fits:
        reason = "was moved, cropped or scaled away from its CT; undo that" if moved else "lies on no open CT"
        raise UnknownPlaceError(
            f"{name!r} {reason}, or select the CT and press 'New labels layer' to paint on its grid"
        )
    named = [fit for fit in fits if name.startswith(fit[0])]
    chosen = (named or fits)[0]
    for _, _, geometry, source in named or fits:
        if not geometry.matches(chosen[2]) or not _same_file_grid(source, chosen[3]):
            raise UnknownPlaceError(
                f"{name!r} fits {len(named or fits)} open CTs whose files differ; remove all but the one it belongs to"
            )
    return chosen


def _same_file_grid(a: Source, b: Source) -> bool:
    if (a.kind, a.file_shape, a.orientation, a.codes) != (b.kind, b.file_shape, b.orientation, b.codes):
        return False
    return (a.file_affine is None) == (b.file_affine is None) and (
        a.file_affine is None or np.allclose(a.file_affine, b.file_affine, atol=1e-3)
    )


def _names_and_colours(attributes: Mapping[str, Any]) -> tuple[dict[int, str], dict[int, tuple[int, int, int]]]:
    """Names from the layer's features (columns index, name), colours from a direct colour map."""
    features = attributes.get("features")
    names: dict[int, str] = {}
    if features is not None and {"index", "name"} <= set(features):
        names = {int(v): str(n) for v, n in zip(features["index"], features["name"], strict=True) if v != 0}
    table = getattr(attributes.get("colormap"), "color_dict", {})
    colours = {
        int(value): tuple(int(round(float(c) * 255)) for c in rgba[:3])
        for value, rgba in table.items()
        if value  # neither None, the colour of all others, nor the background
    }
    return names, colours
