"""Layers without a viewer: where a scan is drawn, and that labels always find back to its grid."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels, Points
from scipy.spatial.transform import Rotation

from napari_tapct.layers import (
    GEOMETRY,
    UnknownPlaceError,
    ct_from_layer,
    ct_layer,
    drawn_affine,
    labels_from_layer,
    labels_layer,
    placement,
    points_layer,
)
from tapct_core.geometry import Geometry
from tapct_core.volume import CTVolume, LabelMap, Source

SHAPE = (5, 6, 7)


def scan(angles=(0.0, 0.0, 0.0), shape=SHAPE, spacing=(2.5, 0.8, 0.7), window=None) -> CTVolume:
    affine = Geometry.from_spacing(shape, spacing, (-30.0, 40.0, 500.0)).affine.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ affine[:3, :3]
    hu = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    return CTVolume(hu, Geometry(shape, affine), Source("array", window=window))


def image_of(volume: CTVolume, name="ct") -> Image:
    data, attributes, _ = ct_layer(volume, name)
    return Image(data, **attributes)


def state(layer) -> dict:
    return layer.as_layer_data_tuple()[1]


def shown(image: Image) -> list:
    return [(image.data.shape, state(image))]


def test_drawn_coordinates_are_inferior_posterior_left():
    geometry = scan().geometry
    affine = drawn_affine(placement(geometry))
    for index in product(*[(0, n - 1) for n in SHAPE]):
        x, y, z = geometry.to_world(index)
        np.testing.assert_allclose((affine @ (*index, 1))[:3], (-z, y, x), atol=1e-3)


def test_patient_right_is_left_head_is_up_and_space_is_not_mirrored():
    """napari draws the second-last axis downwards and the last to the right; in 3D the first comes towards the eye."""
    columns = drawn_affine(placement(scan().geometry))[:3, :3] @ np.linalg.inv(scan().geometry.affine[:3, :3])
    left, posterior, superior = columns.T  # how a step in the patient is drawn
    assert left[2] > 0 and posterior[1] > 0 and superior[0] < 0
    towards, down, right = np.eye(3)
    drawn_to_screen = np.stack([right, -down, towards])  # rows: screen x, y (up), z (towards the eye), right-handed
    assert np.linalg.det(drawn_to_screen @ columns) > 0


@given(st.tuples(*[st.floats(-40, 40)] * 3))
@settings(max_examples=30, deadline=None)
def test_oblique_scan_is_drawn_upright_with_its_centre_in_place(angles):
    geometry = scan(angles).geometry
    affine = drawn_affine(placement(geometry))
    assert np.count_nonzero(affine[:3, :3]) == 3
    middle = (np.array(SHAPE) - 1) / 2
    x, y, z = geometry.to_world(middle)
    np.testing.assert_allclose((affine @ (*middle, 1))[:3], (-z, y, x), atol=1e-3)


@given(
    st.tuples(*[st.integers(1, 700)] * 3),
    st.tuples(*[st.floats(0.2, 7)] * 3),
    st.tuples(*[st.floats(-2000, 2000)] * 3),
)
@settings(max_examples=200, deadline=None)
def test_slider_reaches_every_slice(shape, spacing, origin):
    """napari's count of steps, in plain float64, must not lose the last slice to rounding."""
    drawn = placement(Geometry.from_spacing(shape, spacing, origin))
    first = np.array(drawn["translate"])
    last = first + (np.array(shape) - 1) * drawn["scale"]
    assert (np.floor(np.abs(last - first) / np.abs(drawn["scale"])) + 1 == shape).all()


def test_ct_comes_back_from_its_layer():
    volume = scan((3, 5, 7))
    again = ct_from_layer(*image_of(volume).as_layer_data_tuple()[:2])
    assert again.content_hash == volume.content_hash and again.source is volume.source


def test_layer_of_another_plugin_is_not_placed():
    with pytest.raises(UnknownPlaceError, match="open the CT's file"):
        ct_from_layer(*Image(np.zeros(SHAPE), name="x").as_layer_data_tuple()[:2])


@pytest.mark.parametrize(
    ("window", "limits"), [(None, (-160, 240)), ((1500.0, -600.0), (-1350, 150))], ids=["soft tissue", "the file's"]
)
def test_window(window, limits):
    assert tuple(image_of(scan(window=window)).contrast_limits) == limits


def test_labels_layer_keeps_names_colours_and_can_be_painted():
    volume = scan()
    values = np.zeros(SHAPE, np.uint8)
    values[1, 2, 3] = 4
    labels = LabelMap(values, volume.geometry, volume.source, {4: "spleen", 9: "liver"}, {4: (255, 0, 51)})
    data, attributes, kind = labels_layer(labels, "organs")
    layer = Labels(data, **attributes)
    layer.data_setitem(tuple(np.array([0]) for _ in SHAPE), np.array([9]))
    again = labels_from_layer(*layer.as_layer_data_tuple()[:2])
    assert kind == "labels" and again.labels[0, 0, 0] == 9 and labels.labels[0, 0, 0] == 0
    assert again.names == labels.names and again.colours == labels.colours
    assert again.geometry is volume.geometry and again.source is volume.source


@pytest.mark.parametrize("angles", [(0, 0, 0), (4, -7, 11)], ids=["straight", "oblique"])
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("flips", list(product([False, True], repeat=3)), ids=lambda f: "".join("+-"[x] for x in f))
def test_bare_labels_find_their_scan_in_all_48_orders(angles, order, flips):
    """A layer whose array runs otherwise, but whose voxels are drawn where the scan's are, is on the scan's grid."""
    volume = scan(angles)
    truth = np.random.default_rng(1).integers(0, 5, SHAPE).astype(np.uint8)
    turned = np.transpose(truth, order)[tuple(slice(None, None, -1) if f else slice(None) for f in flips)]
    # index of the turned array -> index of the scan
    to_scan = np.eye(4)
    to_scan[:3, :3] = 0
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        to_scan[source, axis] = -1 if flip else 1
        to_scan[source, 3] = SHAPE[source] - 1 if flip else 0
    layer = Labels(turned, name="bare", affine=drawn_affine(placement(volume.geometry)) @ to_scan)
    again = labels_from_layer(*layer.as_layer_data_tuple()[:2], images=shown(image_of(volume)))
    np.testing.assert_array_equal(again.labels, truth)
    assert again.geometry is volume.geometry


def bare(image: Image, name="labels", **changes) -> Labels:
    attributes = {key: getattr(image, key) for key in ("scale", "translate", "rotate", "shear", "affine")} | changes
    return Labels(np.ones(image.data.shape, np.uint8), name=name, **attributes)


@pytest.mark.parametrize(
    "changes",
    [
        {"translate": (1.0, 2.0, 3.0)},
        {"scale": (1.0, 1.0, 1.0)},
        {"rotate": (10, 0, 0)},
        {"shear": (0.1, 0, 0)},
        {"affine": np.diag([1.1, 1, 1, 1])},
    ],
    ids=lambda c: next(iter(c)),
)
def test_every_transform_of_a_layer_counts(changes):
    image = image_of(scan())
    fits = bare(image)
    assert labels_from_layer(*fits.as_layer_data_tuple()[:2], images=shown(image)).labels.all()
    with pytest.raises(UnknownPlaceError, match="no open CT"):
        labels_from_layer(*bare(image, **changes).as_layer_data_tuple()[:2], images=shown(image))


def test_transform_may_be_split_otherwise_between_affine_and_scale():
    image = image_of(scan())
    layer = Labels(np.ones(SHAPE, np.uint8), affine=drawn_affine(state(image)))
    assert labels_from_layer(*layer.as_layer_data_tuple()[:2], images=shown(image)).labels.all()


def test_labels_moved_together_with_their_scan_are_still_on_it_and_moved_alone_are_not():
    volume = scan()
    image = image_of(volume)
    data, attributes, _ = labels_layer(LabelMap(np.ones(SHAPE, np.uint8), volume.geometry, volume.source), "l")
    layer = Labels(data, **attributes)
    layer.translate = layer.translate + (10, 0, 0)
    with pytest.raises(UnknownPlaceError, match="moved"):
        labels_from_layer(*layer.as_layer_data_tuple()[:2], images=shown(image))
    image.translate = image.translate + (10, 0, 0)
    assert labels_from_layer(*layer.as_layer_data_tuple()[:2], images=shown(image)).source is volume.source


def test_cropped_labels_and_labels_without_scan_are_refused():
    volume = scan()
    data, attributes, _ = labels_layer(LabelMap(np.ones(SHAPE, np.uint8), volume.geometry), "l")
    with pytest.raises(UnknownPlaceError):
        labels_from_layer(data[1:], state(Labels(data, **attributes)))
    with pytest.raises(UnknownPlaceError, match="no open CT"):
        labels_from_layer(data, state(Labels(data, name="l")))
    flat = Labels(np.zeros((4, 4), np.uint8), name="flat")
    with pytest.raises(UnknownPlaceError, match="2 axes"):
        labels_from_layer(*flat.as_layer_data_tuple()[:2])


def test_labels_that_fit_two_files_are_refused_unless_named_after_one():
    """One grid, two axis orders of the file: labels written onto the wrong one look right until they are read."""
    a = scan()
    b = CTVolume(a.hu, a.geometry, Source("nifti", file_shape=(7, 6, 5), file_affine=np.eye(4), codes=(1, 1)))
    first, second = image_of(a, "baseline"), image_of(b, "other")
    images = shown(first) + shown(second)
    with pytest.raises(UnknownPlaceError, match="fits 2 open CTs"):
        labels_from_layer(*bare(first).as_layer_data_tuple()[:2], images=images)
    named = bare(first, name="other - Labels")
    assert labels_from_layer(*named.as_layer_data_tuple()[:2], images=images).source is b.source


def test_points_are_drawn_where_the_scan_has_them():
    volume = scan((4, -7, 11))
    index = np.array([[0, 0, 0], [4, 2, 6]])
    data, attributes, kind = points_layer(volume.geometry, volume.geometry.to_world(index), name="p")
    assert kind == "points" and attributes["metadata"][GEOMETRY] is volume.geometry
    points, image = Points(data, **attributes), image_of(volume)
    drawn = [points.data_to_world(point) for point in points.data]
    np.testing.assert_allclose([image.world_to_data(point) for point in drawn], index, atol=1e-9)
