"""A scan made ready: keys that keep what tokens say, on one grid, in the baseline's language."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tapct_core.embedding import embed
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.matching.points import standing
from tapct_core.matching.prepared import IMAGE_MM, KEY_LENGTH, prepare
from tapct_core.volume import CTVolume


def tissue(shape, seed=0) -> np.ndarray:
    """A box of varied soft tissue in air."""
    hu = np.full(shape, -1000, np.int16)
    inner = tuple(slice(n // 5, n - n // 5) for n in shape)
    hu[inner] = np.random.default_rng(seed).normal(50, 60, hu[inner].shape)
    return hu


def feature_map(dim: int, seed: int = 0, rank: int = 40) -> FeatureMap:
    """Tokens of a given rank on a grid of 8 mm, a quarter of them not valid."""
    grid = Geometry.from_spacing((8, 10, 12), (8, 8, 8), (5, -7, 40))
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((rank, dim))  # one language for all seeds
    tokens = rng.standard_normal((*grid.shape, rank)) @ mixing + 3.0
    valid = np.ones(grid.shape, bool)
    valid[:2] = False
    hu = tissue((32, 40, 48), seed)
    return FeatureMap(
        tokens.astype(np.float16), valid, grid, hu, grid.resized(hu.shape), np.zeros((0, dim), np.float16)
    )


def test_without_an_encoder_there_are_hu_keys_alone():
    hu = tissue((30, 40, 40))
    grid = Geometry.from_spacing((30, 40, 40), (3, 3, 3))
    coarse = grid.resized((10, 10, 10))
    none = FeatureMap(
        np.zeros((10, 10, 10, 0), np.float16),
        np.ones((10, 10, 10), bool),
        coarse,
        hu,
        grid,
        np.zeros((0, 0), np.float16),
    )
    assert list(prepare(none).keys) == ["hu"]
    assert list(prepare(feature_map(64)).keys) == ["tokens", "surroundings", "hu"]


@pytest.mark.parametrize("dim", [64, 300])
def test_short_keys_have_the_cosines_of_centred_tokens(dim):
    features = feature_map(dim)
    keys = prepare(features).keys["tokens"]
    assert keys.vectors.shape[-1] == min(dim, KEY_LENGTH)
    tokens = features.tokens[features.valid].astype(np.float32)
    centred = torch.from_numpy(tokens - tokens.mean(axis=0))
    short = keys.vectors[torch.from_numpy(features.valid)]
    expected = F.normalize(centred, dim=1) @ F.normalize(centred, dim=1).T
    found = F.normalize(short, dim=1) @ F.normalize(short, dim=1).T
    assert (found - expected).abs().max() < 0.02
    assert not keys.vectors[torch.from_numpy(~features.valid)].any()


def test_a_follow_up_is_put_into_its_baseline_s_axes():
    a, b = feature_map(300), feature_map(300, seed=1)
    first = prepare(a)
    second = prepare(b, like=first)
    assert second.projection is first.projection and second.basis is first.basis
    own = prepare(b)
    assert not torch.allclose(own.keys["tokens"].vectors, second.keys["tokens"].vectors, atol=1e-2)


def test_all_evidence_shares_one_grid_and_the_image_keeps_the_box():
    features = feature_map(64)
    ready = prepare(features)
    assert all(keys.grid is ready.grid for keys in ready.keys.values())
    assert ready.scanned is features.hu_geometry
    assert np.allclose(ready.image.geometry.spacing_mm, IMAGE_MM)
    corner = features.hu_geometry.to_world((-0.5, -0.5, -0.5))
    assert np.allclose(ready.image.geometry.to_world((-0.5, -0.5, -0.5)), corner)


def test_the_body_is_told_from_air_and_from_beyond():
    features = feature_map(64)
    ready = prepare(features)
    middle = features.hu_geometry.to_world((16, 20, 24))
    corner = features.hu_geometry.to_world((1, 1, 1))
    assert ready.in_body(np.array([middle, corner, middle + 1e4])).tolist() == [True, False, False]


def test_a_fold_beside_the_coarse_mask_is_the_patient_s_and_the_table_is_not():
    hu = np.full((40, 60, 60), -1000, np.int16)
    hu[:, 15:40, 15:45] = 40
    hu[18:21, 8:10, 30:32] = 40  # a fold of skin, too small for the mask and too far from it
    hu[:, 57:59, 10:50] = 40  # the table, 34 mm behind the back
    geometry = Geometry.from_spacing(hu.shape, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    ready = prepare(embed(CTVolume(hu, geometry), None))
    fold, air, table = (geometry.to_world(index) for index in ((19, 8.5, 30.5), (19, 4, 30), (19, 57.5, 30)))
    assert ready.in_body(np.array([fold, air, table])).tolist() == [True, False, False]


def test_what_may_be_the_patient_is_in_doubt_and_room_air_is_not():
    hu = np.full((40, 60, 60), -1000, np.int16)
    hu[:, 15:40, 15:45] = 40
    hu[:, 57:59, 10:50] = 40  # the table
    geometry = Geometry.from_spacing(hu.shape, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    ready = prepare(embed(CTVolume(hu, geometry), None))
    rows = (11, 3, 57.5, 90)  # beside the patient, in the air, in the table, beyond the scan
    points = geometry.to_world(np.array([(19, row, 30) for row in rows]))
    assert ready.may_be_body(points).tolist() == [True, False, True, False]
    said = standing(ready, np.concatenate([points, geometry.to_world((19, 25, 30))[None]]))
    assert [good for good, _ in said] == [True, False, True, False, True]
    expected = ("may lie beside", "in the air", "may lie beside", "outside the")
    assert all(words in reason for (_, reason), words in zip(said, expected, strict=False))
    assert said[-1] == (True, "")
