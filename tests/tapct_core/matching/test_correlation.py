"""Weighted normalised correlation against its plain definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from tapct_core.geometry import Geometry
from tapct_core.matching.correlation import MANY, Image, _weighted_ncc, _window, correlate, cube_mm, peaks


def textured(shape=(40, 44, 48), spacing=(2.0, 2.0, 2.0), seed=0) -> Image:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return Image((values / values.std()).astype(np.float32), Geometry.from_spacing(shape, spacing, (-50, 20, 7)))


def test_fft_gives_the_weighted_correlation_coefficient():
    rng = np.random.default_rng(0)
    template, region = rng.standard_normal((1, 5, 5, 5)), rng.standard_normal((1, 9, 9, 9))
    template, region = (torch.tensor(x, dtype=torch.float32) for x in (template, region))
    found = _weighted_ncc(template, region, torch.ones(1, 5, 5, 5, dtype=bool), torch.zeros(1, dtype=int))
    template, region = template.numpy(), region.numpy()
    weights = _window(5).numpy().ravel()
    for z, y, x in [(0, 0, 0), (4, 4, 4), (1, 3, 2)]:
        part = region[0, z : z + 5, y : y + 5, x : x + 5].ravel()
        expected = np.cov(template.ravel(), part, aweights=weights, ddof=0)
        expected = expected[0, 1] / np.sqrt(expected[0, 0] * expected[1, 1])
        assert abs(float(found[0, z, y, x]) - expected) < 1e-3


def test_samples_are_trilinear_in_world_millimetres():
    image = textured(spacing=(3.0, 2.0, 1.5))
    points = image.geometry.to_world(np.random.default_rng(1).uniform(0, 39, (200, 3)))
    expected = ndimage.map_coordinates(image.values, image.geometry.to_index(points).T, order=1)
    assert np.abs(image.sample(points) - expected).max() < 1e-3


def test_many_samples_round_a_point_are_what_few_are():
    """From some number on they are taken from the point's part of the image, and must be the same."""
    image = textured(spacing=(3.0, 2.0, 1.5))
    offsets = np.random.default_rng(3).uniform(-40, 40, (1, 4 * MANY, 3))
    points = image.geometry.to_world(np.random.default_rng(2).uniform(-5, 45, (6, 3)))
    together = image.patches(points, offsets)
    singly = torch.cat([image.patches(points, part) for part in np.split(offsets, 8, axis=1)], dim=1)
    assert float((together - singly).abs().max()) < 1e-3 and float((together - singly).abs().mean()) < 1e-4
    flat = Image(image.values[20:21], image.geometry.cropped((20, 0, 0), (1, 44, 48)))
    assert torch.allclose(flat.patches(points, offsets[:, :MANY]), flat.patches(points, offsets)[:, :MANY], atol=1e-3)


def test_a_patch_that_is_known_in_part_counts_what_is_known():
    rng = np.random.default_rng(5)
    templates, region = (torch.tensor(rng.standard_normal((2, n, n, n)), dtype=torch.float32) for n in (5, 9))
    known = torch.ones(2, 5, 5, 5, dtype=bool)
    known[1, :2] = False
    found = _weighted_ncc(templates, region, known, torch.tensor([1, 0]))
    weights = (_window(5) * known[1]).numpy().ravel()
    part = region[0, 1:6, 2:7, 3:8].numpy().ravel()
    expected = np.cov(templates[1].numpy().ravel(), part, aweights=weights, ddof=0)
    assert abs(float(found[0, 1, 2, 3]) - expected[0, 1] / np.sqrt(expected[0, 0] * expected[1, 1])) < 2e-3


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (3.0, 2.0, 1.5)])
def test_cubes_are_the_samples_one_by_one_also_beyond_the_border(spacing):
    image = textured(spacing=spacing)
    points = image.geometry.to_world(np.random.default_rng(2).uniform(-12, 60, (50, 3)))
    plain = image.patches(points, cube_mm(4, 2.0).reshape(1, -1, 3)).view(50, 9, 9, 9)
    assert float((image.cubes(points, 4, 2.0) - plain).abs().max()) < 1e-4


def test_a_shift_is_measured_to_a_fraction_of_a_sample_whatever_the_contrast():
    image = textured()
    shift = np.array([1.3, -2.4, 3.1])  # LPS mm
    moved = ndimage.shift(image.values, shift[::-1] / 2, order=3, mode="nearest")
    other = Image((3 * moved + 7).astype(np.float32), image.geometry)
    points = image.geometry.to_world(np.array([[20, 22, 24], [15, 25, 30]]))
    found, height = peaks(correlate(image, other, points, points, np.tile(np.eye(3), (2, 1, 1)), 2.0, 20.0, 6.0), 2.0)
    assert np.abs(found - shift).max() < 0.5  # a quarter of a sample
    assert (height > 0.9).all()


def test_the_template_is_warped_by_the_linear_part():
    image = textured()
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # 90 degrees about z
    centre = image.geometry.to_world(np.array([20, 22, 22]))
    grid = image.geometry.to_world(
        np.stack(np.meshgrid(*[np.arange(n) for n in image.values.shape], indexing="ij"), -1)
    )
    turned = Image(image.sample((grid - centre) @ turn + centre), image.geometry)
    right = correlate(image, turned, centre[None], centre[None], turn[None], 2.0, 20.0, 4.0)
    wrong = correlate(image, turned, centre[None], centre[None], np.eye(3)[None], 2.0, 20.0, 4.0)
    assert float(right.max()) > 0.98 and float(wrong.max()) < 0.6
    assert np.abs(peaks(right, 2.0)[0]).max() < 0.2


def test_flat_patches_correlate_with_nothing():
    flat = Image(np.zeros((20, 20, 20), np.float32), Geometry.from_spacing((20, 20, 20), (2, 2, 2)))
    noise = Image(np.random.default_rng(0).normal(0, 1e-3, (20, 20, 20)).astype(np.float32), flat.geometry)
    middle = flat.geometry.to_world(np.array([[10, 10, 10]]))
    assert float(correlate(flat, noise, middle, middle, np.eye(3)[None], 2.0, 12.0, 4.0).abs().max()) < 0.1
