"""Diameters against ellipses whose axes are known and against scikit-image, and the response rules one by one."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import regionprops

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions.recist import Target, axial_outline, check_targets, measure, respond


def ellipsoid(half_mm, degrees, spacing=(2.0, 0.8, 0.8), size=(12, 96, 96)):
    """A mask of half axes (x, y, z) mm turned in the axial plane, and its grid."""
    grid = Geometry.from_spacing(size, spacing, origin_mm=(-31.0, 17.0, 5.0))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    offset = grid.to_world(index) - grid.to_world((np.array(size) - 1) / 2 + 0.13)
    turn = np.radians(degrees)
    x = offset[..., 0] * np.cos(turn) + offset[..., 1] * np.sin(turn)
    y = -offset[..., 0] * np.sin(turn) + offset[..., 1] * np.cos(turn)
    return (x / half_mm[0]) ** 2 + (y / half_mm[1]) ** 2 + (offset[..., 2] / half_mm[2]) ** 2 <= 1, grid


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133])
@pytest.mark.parametrize("spacing", [(2.0, 0.8, 0.8), (2.0, 0.7, 1.1)])
def test_axes_of_an_ellipse_are_found_to_a_pixel(degrees, spacing):
    mask, grid = ellipsoid((20.0, 11.0, 9.0), degrees, spacing)
    found = measure(mask, grid, np.full(mask.shape, 40, np.int16))
    assert found.long_axis_mm == pytest.approx(40, abs=max(spacing[1:]))
    assert found.short_axis_mm == pytest.approx(22, abs=max(spacing[1:]))
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * 20 * 11 * 9 / 1000, rel=0.02)
    long_axis, short_axis = (np.diff(ends, axis=0)[0] for ends in (found.long_axis_ends, found.short_axis_ends))
    assert np.linalg.norm(long_axis) == pytest.approx(found.long_axis_mm)
    assert abs(long_axis @ short_axis) < 1e-6 * found.long_axis_mm * found.short_axis_mm
    assert long_axis[2] == pytest.approx(0, abs=1e-9)
    assert grid.to_index(np.array(found.long_axis_ends))[:, 0] == pytest.approx(found.slice_index)


def test_errors_average_out():
    """Half-way contours are unbiased: over many directions the mean error is a fraction of a pixel."""
    errors = []
    for degrees in range(0, 180, 15):
        mask, grid = ellipsoid((15.0, 8.0, 4.0), degrees)
        errors.append(measure(mask, grid, np.zeros(mask.shape, np.int16)).long_axis_mm - 30)
    assert abs(np.mean(errors)) < 0.4


def test_agrees_with_scikit_image():
    rng = np.random.default_rng(3)
    for _ in range(8):
        mask, grid = ellipsoid(rng.uniform(6, 25, 3), rng.uniform(0, 180), spacing=(2.0, 1.0, 1.0), size=(1, 64, 64))
        found = measure(mask, grid, np.zeros(mask.shape, np.int16))
        region = regionprops(mask[0].astype(np.uint8))[0]
        assert found.long_axis_mm == pytest.approx(region.feret_diameter_max, abs=0.75)
        assert found.short_axis_mm == pytest.approx(region.axis_minor_length, abs=1.5)


def test_a_single_voxel_measures_its_own_size():
    mask = np.zeros((3, 5, 5), bool)
    mask[1, 2, 2] = True
    found = measure(mask, Geometry.from_spacing(mask.shape, (3, 0.5, 0.5)), np.full(mask.shape, 7, np.int16))
    assert found.long_axis_mm == pytest.approx(0.5)
    assert (found.volume_ml, found.mean_hu, found.sd_hu) == (pytest.approx(0.75 / 1000), 7, 0)


def test_parts_that_do_not_touch_are_not_spanned():
    mask = np.zeros((2, 20, 40), bool)
    mask[0, 5:9, 2:10] = mask[0, 5:9, 30:38] = True
    found = measure(mask, Geometry.from_spacing(mask.shape, (3, 1, 1)), np.zeros(mask.shape, np.int16))
    assert found.long_axis_mm < 10
    outline = axial_outline(mask, Geometry.from_spacing(mask.shape, (3, 1, 1)), 0)
    assert np.array_equal(outline[0], outline[-1])


def test_an_oblique_scan_measures_the_same():
    mask, grid = ellipsoid((20.0, 11.0, 9.0), 30)
    turn = np.radians(12)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    tilted = Geometry(grid.shape, rotation @ grid.affine)
    hu = np.zeros(mask.shape, np.int16)
    straight, oblique = measure(mask, grid, hu), measure(mask, tilted, hu)
    assert oblique.long_axis_mm == pytest.approx(straight.long_axis_mm)
    assert oblique.volume_ml == pytest.approx(straight.volume_ml)


def test_empty_or_foreign_masks_are_refused():
    grid = Geometry.from_spacing((3, 4, 5), (1, 1, 1))
    hu = np.zeros((3, 4, 5), np.int16)
    with pytest.raises(UserError, match="empty"):
        measure(np.zeros((3, 4, 5), bool), grid, hu)
    with pytest.raises(UserError, match="the scan"):
        measure(np.ones((3, 4, 6), bool), grid, hu)


def targets(*diameters, node=False):
    return [Target(d, node) for d in diameters]


@pytest.mark.parametrize(
    ("before", "earlier", "now", "category"),
    [
        ((30, 20), [], (0, 0), "CR"),
        ((30, 20), [], (20, 15), "PR"),  # exactly -30 %
        ((30, 20), [], (20, 15.1), "SD"),
        ((30, 20), [], (35, 25), "PD"),  # exactly +20 %, +10 mm
        ((30, 20), [], (34.9, 25), "SD"),
        ((30, 20), [30], (20, 16), "PD"),  # +20 % and +6 mm over the nadir, though -28 % from baseline
        ((30, 20), [20], (14.0, 10.0), "PR"),  # +20 % but only +4 mm over the nadir, -52 % from baseline
        ((15,), [], (19.9,), "SD"),  # +33 % but less than 5 mm
        ((15,), [0], (6,), "PD"),  # came back
        ((30, 20), [], (30, None), "NE"),
        ((30, 20), [], (60, None), "PD"),  # what was measured has already progressed
        ((30, None), [], (10, 10), "NE"),
    ],
)
def test_response_of_targets(before, earlier, now, category):
    assert respond(targets(*before), earlier, targets(*now)).category == category


def test_response_of_nodes_new_lesions_and_non_targets():
    nodes = targets(18.0, node=True)
    assert respond(nodes, [], targets(9.9, node=True)).category == "CR"
    assert respond(nodes, [], targets(10.0, node=True)).category == "PR"
    assert respond(targets(30.0), [], targets(0.0), new_lesions=["liver 3"]).category == "PD"
    assert respond(targets(30.0), [], targets(0.0), non_targets_gone=False).category == "PR"
    assert respond(targets(30.0), [], targets(30.0), non_target_progress=True).category == "PD"
    assert respond([], [], [], non_targets_gone=False).category == "Non-CR/Non-PD"
    assert respond([], [], []).category == "NE"
    response = respond(targets(40.0), [20.0], targets(30.0))
    assert response.change_from_baseline == pytest.approx(-25)
    assert response.change_from_nadir == pytest.approx(50)
    assert "nadir of 20.0 mm" in response.rule


def test_choice_of_targets_is_checked():
    mask, grid = ellipsoid((4.0, 3.0, 4.0), 0)
    small = measure(mask, grid, np.zeros(mask.shape, np.int16))
    fine = [("a", "liver", False, None)] * 2
    assert check_targets(fine, 2.0) == []
    assert "3 targets in liver" in check_targets([*fine, ("c", "liver", False, None)], 2.0)[0]
    assert "lymph nodes" in check_targets([("n", organ, True, None) for organ in ("neck", "groin", "axilla")], 2.0)[0]
    assert "6 targets" in check_targets([(str(i), f"organ {i}", False, None) for i in range(6)], 2.0)[0]
    assert "needs 10 mm" in check_targets([("s", "lung", False, small)], 2.0)[0]
    assert "needs 14 mm" in check_targets([("s", "lung", False, small)], 7.0)[0]
    assert "needs 15 mm" in check_targets([("s", "lung", True, small)], 2.0)[0]
