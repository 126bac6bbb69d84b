"""The HU's own description of a place."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core import load_ct
from tapct_core.geometry import Geometry
from tapct_core.matching.descriptors import LENGTH, HuSampler, base_image, contrast_curve


@pytest.fixture(scope="module")
def sampler(data_dir):
    volume = load_ct(data_dir / "ct" / "crlm_ct_1006_ct.nii.gz")
    return HuSampler(volume.hu, volume.geometry)


def test_base_image_keeps_a_ramp_and_averages_detail():
    z, y, x = np.meshgrid(*[np.arange(n) for n in (20, 30, 32)], indexing="ij")
    geometry = Geometry.from_spacing((20, 30, 32), (5.0, 1.0, 1.0), (3.0, -4.0, 9.0))
    world = geometry.to_world(np.stack([z, y, x], axis=-1))
    ramp = (world @ [1.0, 2.0, -3.0]).astype(np.float32)
    image, grid = base_image(ramp, geometry, 2.5)
    inner = (slice(2, -2),) * 3
    where = grid.to_world(np.stack(np.meshgrid(*[np.arange(n) for n in image.shape], indexing="ij"), axis=-1))
    assert np.abs(image - where @ [1.0, 2.0, -3.0])[inner].max() < 0.05
    checks = np.where((y + x) % 2, 500.0, -500.0).astype(np.float32)
    assert np.abs(base_image(checks, geometry, 4.0)[0][inner]).max() < 60


def test_contrast_curve_is_monotonic_and_favours_soft_tissue():
    hu = np.arange(-1024, 1500, 4)
    levels = contrast_curve(hu)
    assert (np.diff(levels) >= 0).all()
    assert contrast_curve(100) - contrast_curve(0) > 2 * (contrast_curve(-600) - contrast_curve(-700))


def test_samples_are_what_lies_at_the_offsets(sampler):
    """The middle of each scale's 125 samples is the smoothed image at the lattice point itself."""
    flat = np.flatnonzero(sampler.valid)[::997]
    samples = sampler.samples(flat)
    assert samples.shape == (len(flat), 375)
    at = np.stack(np.unravel_index(flat, sampler.geometry.shape), axis=1)
    index = np.rint(sampler.base.to_index(sampler.geometry.to_world(at))).astype(int) + sampler._reach
    for scale, image in enumerate(sampler.images):
        assert np.array_equal(samples[:, 125 * scale + 62], image[tuple(index.T)])
        right = samples[:, 125 * scale + 63]  # one step along x
        step = sampler.steps[scale]
        assert np.array_equal(right, image[index[:, 0], index[:, 1], index[:, 2] + step])


def test_description_keeps_most_of_the_samples_variance(sampler):
    basis = sampler.basis()
    described = sampler.describe(basis)
    assert described.vectors.shape == (*sampler.geometry.shape, LENGTH)
    assert not described.vectors[~described.valid].any()
    flat = np.flatnonzero(sampler.valid)[::53]
    centred = sampler.samples(flat) - basis.mean
    kept = described.vectors.reshape(-1, LENGTH)[flat]
    assert (kept**2).sum() / (centred**2).sum() > 0.9
    assert np.allclose(kept @ basis.axes.T @ basis.axes, kept, atol=1e-3)
