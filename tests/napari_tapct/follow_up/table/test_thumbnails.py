"""Thumbnails as pixmaps: the cross at the place, outline and axes on a lesion, nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtGui import QColor, QImage

from napari_tapct.follow_up.table.thumbnails import (
    CROSS_COLOUR,
    OUTLINE_COLOUR,
    finding_thumbnail,
    pixmap_of,
    thumbnail,
)
from tests.tapct_core.studies import PLACES, study_and_volumes


@pytest.fixture(scope="module")
def made():
    return study_and_volumes()


def pixels(pixmap) -> np.ndarray:
    """(rows, columns, 3) uint8."""
    image = pixmap.toImage().convertToFormat(QImage.Format_RGB888)
    return np.array(
        [[image.pixelColor(x, y).getRgb()[:3] for x in range(image.width())] for y in range(image.height())], np.int16
    )


def close_to(picture: np.ndarray, colour: str) -> np.ndarray:
    return np.abs(picture - QColor(colour).getRgb()[:3]).max(axis=-1) < 60


def test_grey_levels_survive(qapp):
    grey = np.random.default_rng(0).integers(0, 256, (11, 11)).astype(np.uint8)
    assert np.array_equal(pixels(pixmap_of(grey))[..., 1], grey)


def test_a_cross_frames_the_place(qapp, made):
    _, volumes = made
    picture = pixels(thumbnail(volumes["baseline"], PLACES["lung 1"], pixels=96))
    assert picture.shape == (96, 96, 3)
    rows, columns = np.nonzero(close_to(picture, CROSS_COLOUR))
    assert rows.mean() == pytest.approx(47.5, abs=1) and columns.mean() == pytest.approx(47.5, abs=1)
    assert (picture[46:50, 46:50].max(axis=-1) == picture[46:50, 46:50].min(axis=-1)).all()  # what it points at is free


def test_a_measured_finding_has_its_outline(qapp, made):
    study, volumes = made
    finding = study.lesions[0].findings["baseline"]
    picture = pixels(finding_thumbnail(volumes["baseline"], finding, side_mm=48, pixels=96))
    rows, columns = np.nonzero(close_to(picture, OUTLINE_COLOUR))
    assert np.ptp(columns) == pytest.approx(2 * 28 / 1, abs=6)  # 28 mm, two pixels a mm
    finding = study.lesions[1].findings["week 16"]
    assert finding_thumbnail(volumes["week 16"], finding) is None


def test_a_finding_that_is_only_placed_has_a_cross(qapp, made):
    from dataclasses import replace

    study, volumes = made
    finding = replace(study.lesions[0].findings["baseline"], mask=None, measurement=None)
    picture = pixels(finding_thumbnail(volumes["baseline"], finding))
    assert close_to(picture, CROSS_COLOUR).any() and not close_to(picture, OUTLINE_COLOUR).any()
