"""Thumbnails: what lies where on them, outlines against scikit-image, and the PNG against another reader."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.measure import find_contours

from tapct_core.geometry import Geometry
from tapct_core.lesions import Mask
from tapct_core.thumbnails import contours, mask_lines, png, thumbnail
from tapct_core.volume import CTVolume

SPACING = (2.5, 0.8, 1.1)


def scan(tilt=0.0) -> CTVolume:
    """Air with one bright voxel at (z, y, x) = (5, 30, 20)."""
    hu = np.full((12, 60, 50), -1000, np.int16)
    hu[5, 30, 20] = 3000
    straight = Geometry.from_spacing(hu.shape, SPACING, origin_mm=(-20.0, 31.0, 7.0))
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (tilt, -tilt, tilt / 2), degrees=True).as_matrix()
    return CTVolume(hu, Geometry(hu.shape, turn @ straight.affine))


@pytest.mark.parametrize("tilt", [0.0, 9.0])
def test_a_place_is_drawn_where_place_says(tilt):
    volume = scan(tilt)
    bright = volume.geometry.to_world(np.array([5, 30, 20]))
    for away in ((0, 0), (4, -7), (-10, 3)):  # rows and columns from the bright voxel
        centre = volume.geometry.to_world(np.array([5, 30 + away[0], 20 + away[1]]))
        picture = thumbnail(volume, centre, side_mm=40, pixels=80, window=(4000, 1000))
        assert picture.slice_index == 5
        peak = np.array(ndimage.center_of_mass(np.where(picture.grey > 64, picture.grey, 0)))[::-1] + 0.5
        assert picture.place(bright) == pytest.approx(peak, abs=0.6)
        assert picture.of_index(np.array([30.0, 20.0])) == pytest.approx(picture.place(bright))
        assert picture.place(centre) == pytest.approx((40, 40))
    # Radiological: the patient's left is on the right, posterior is down.
    left_behind = volume.geometry.to_world(np.array([5, 40, 26]))
    assert (picture.place(left_behind) > picture.place(bright)).all()


def test_one_pixel_a_voxel_repeats_the_scan():
    rng = np.random.default_rng(0)
    volume = CTVolume(rng.integers(-100, 200, (3, 40, 40)), Geometry.from_spacing((3, 40, 40), (3, 1, 1)))
    picture = thumbnail(volume, volume.geometry.to_world(np.array([1, 19.5, 19.5])), 20, 20, window=(400, 40))
    expected = np.clip((volume.hu[1, 10:30, 10:30] + 160.0) / 400 * 255, 0, 255)
    assert np.abs(picture.grey - expected).max() <= 1


def test_beyond_the_scan_it_is_black():
    volume = scan()
    assert not thumbnail(volume, (500.0, 500.0, 500.0), window=(400, 40)).grey.any()
    corner = thumbnail(volume, volume.geometry.to_world(np.array([5, 0, 0])), 30, 60, window=(4000, 1000))
    assert corner.grey.shape == (60, 60)


def test_a_window_is_chosen_by_what_lies_there():
    volume = scan()
    lung = thumbnail(volume, volume.geometry.to_world(np.array([2, 30, 20])))
    assert 50 < lung.grey[48, 48] < 70  # -1000 HU is grey in the lung window, black in soft tissue


def test_contours_are_scikit_images():
    rng = np.random.default_rng(1)
    for _ in range(12):
        flat = ndimage.gaussian_filter(rng.normal(size=(24, 31)), 1.6) > 0.05
        lines = contours(flat)
        theirs = find_contours(np.pad(flat, 1).astype(float), 0.5)
        assert {tuple(p) for line in lines for p in line} == {tuple(p - 1) for line in theirs for p in line}
        assert len(lines) == len(theirs)
        for line in lines:  # one step leads from point to point, and from the last to the first
            assert np.abs(line - np.roll(line, 1, axis=0)).sum(axis=1).max() <= 1


def test_pixels_that_touch_at_a_corner_have_lines_of_their_own():
    flat = np.array([[1, 0], [0, 1]], bool)
    assert sorted(len(line) for line in contours(flat)) == [4, 4]
    assert contours(np.zeros((3, 3), bool)) == []


def test_lines_of_a_mask_lie_on_its_scan():
    array = np.zeros((6, 20, 20), bool)
    array[3, 7:10, 11:15] = True
    mask = Mask.from_array(array)
    (line,) = mask_lines(mask, 3)
    assert (line.min(axis=0).tolist(), line.max(axis=0).tolist()) == ([6.5, 10.5], [9.5, 14.5])
    assert mask_lines(mask, 2) == mask_lines(mask, 4) == []


def test_png_is_read_back_by_another_program():
    grey = np.random.default_rng(2).integers(0, 256, (7, 13)).astype(np.uint8)
    assert np.array_equal(np.rint(imread(BytesIO(png(grey)), format="png") * 255), grey)
