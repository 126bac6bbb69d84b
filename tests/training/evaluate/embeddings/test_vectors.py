"""What heads see of a scan or a point, on features whose tokens say where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from training.evaluate.datasets.labelled import Target
from training.evaluate.embeddings.vectors import AROUND_MM, CHUNK, describe


@pytest.fixture(scope="module")
def places() -> FeatureMap:
    """Tokens every 8 mm that hold their own LPS place; two windows along z, whose class tokens are 0 and 1."""
    hu_geometry = Geometry.from_spacing((24, 48, 48), (4.0, 2.0, 2.0), (-40.0, 10.0, 100.0))
    geometry = hu_geometry.pooled((2, 4, 4))
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    return FeatureMap(
        tokens=geometry.to_world(index).astype(np.float16),
        valid=np.ones(geometry.shape, bool),
        geometry=geometry,
        hu=np.zeros(hu_geometry.shape, np.int16),
        hu_geometry=hu_geometry,
        cls=np.array([[0, 0, 0], [1, 2, 3]], np.float16),
        windows=np.array([[0, 0, 0], [6, 0, 0]], np.int32),
        window_tokens=(6, 12, 12),
    )


def test_a_point_is_described_by_what_lies_there(places):
    points = np.array([[5.0, 60.0, 130.0], [8.0, 55.0, 170.0]])
    found = describe(places, Target(np.array([0, 1]), points))
    assert np.allclose(found["point"], points, atol=0.2) and found["point"].dtype == np.float16
    assert np.allclose(found["mean"], points, atol=0.2)  # the neighbours lie round it evenly
    assert found["sizes"].tolist() == [27, 27] and len(found["instances"]) == 54
    assert np.allclose(np.ptp(found["instances"][:27], axis=0), 2 * AROUND_MM, atol=0.3)
    assert found["cls"].tolist() == [[0, 0, 0], [1, 2, 3]]  # the window below, the window above


def test_at_the_edge_a_bag_is_smaller_and_never_empty(places):
    corner = places.hu_geometry.to_world(np.array([0.0, 0.0, 0.0]))
    found = describe(places, Target(np.array([0]), corner[None]))
    assert found["sizes"].tolist() == [8] and len(found["instances"]) == 8
    assert np.isfinite(found["instances"]).all()


def test_a_point_in_air_that_was_not_embedded_is_one_token_of_zeros(places):
    blind = replace(places, valid=np.zeros_like(places.valid))
    found = describe(blind, Target(np.array([0]), np.array([[5.0, 60.0, 130.0]])))
    assert found["sizes"].tolist() == [1] and not found["instances"].any() and not found["point"].any()


def test_points_are_described_alike_alone_and_among_many(places):
    points = np.random.default_rng(0).uniform((-30, 20, 110), (40, 90, 180), size=(CHUNK + 5, 3))
    whole = describe(places, Target(np.zeros(len(points), int), points))
    alone = describe(places, Target(np.zeros(1, int), points[CHUNK + 2 : CHUNK + 3]))
    assert all(np.allclose(whole[name][CHUNK + 2], alone[name][0], atol=0.07) for name in ("cls", "mean", "point"))


def test_a_point_outside_the_scan_is_refused(places):
    with pytest.raises(UserError, match=r"1 of its 2 points lie outside .*\(500.0, 60.0, 130.0\)"):
        describe(places, Target(np.array([0, 1]), np.array([[5.0, 60.0, 130.0], [500.0, 60.0, 130.0]])))


def test_a_scan_is_described_by_its_windows_and_its_mean(places):
    found = describe(places, Target(np.array([1])))
    assert found["cls"].tolist() == [[0.5, 1.0, 1.5]] and found["sizes"].tolist() == [2]
    assert np.array_equal(found["instances"], places.cls)
    assert np.allclose(found["mean"][0], places.scan_embedding(), atol=1e-3)


def test_features_without_tokens_are_refused(places):
    empty = replace(places, tokens=places.tokens[..., :0], cls=places.cls[:, :0])
    with pytest.raises(UserError, match="untrained:NAME"):
        describe(empty, Target(np.array([0])))
