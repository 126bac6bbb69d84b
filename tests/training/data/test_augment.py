"""Intensity changes: seeded per crop, true to their formulas, and gone when switched off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from training.data.augment import NO_AUGMENT, AugmentSpec, augment, gaussian_blur, hashed_normal

ALWAYS = replace(AugmentSpec(), **{name: 1.0 for name in AugmentSpec.__dataclass_fields__ if name.endswith("_chance")})
ALWAYS = replace(ALWAYS, blur_chance=0.5, sharpen_chance=0.5)


@pytest.fixture
def hu() -> torch.Tensor:
    return torch.rand(6, 6, 20, 24, generator=torch.Generator().manual_seed(1)) * 1500 - 1000


def test_switched_off_changes_nothing(hu):
    assert torch.equal(augment(hu.clone(), range(6), NO_AUGMENT), hu)


@pytest.mark.parametrize("spec", [AugmentSpec(), ALWAYS])
def test_a_crop_is_changed_alike_whatever_its_batch(hu, spec):
    together = augment(hu.clone(), range(6), spec)
    for i in (0, 3, 5):
        assert torch.allclose(augment(hu[i : i + 1].clone(), [i], spec)[0], together[i], atol=1e-3)
    assert not torch.allclose(augment(hu[:1].clone(), [99], ALWAYS), augment(hu[:1].clone(), [98], ALWAYS), atol=1.0)


def test_each_change_follows_its_formula(hu):
    mean = hu.mean(dim=(1, 2, 3), keepdim=True)
    contrast = augment(hu.clone(), range(6), replace(NO_AUGMENT, contrast_chance=1, contrast=(1.2, 1.2)))
    assert torch.allclose(contrast, mean + 1.2 * (hu - mean), atol=1e-2)
    gamma = augment(hu.clone(), range(6), replace(NO_AUGMENT, gamma_chance=1, gamma=(2, 2), span_hu=(-1000, 1000)))
    assert torch.allclose(gamma, -1000 + 2000 * ((hu + 1000) / 2000) ** 2, atol=1e-1)
    shift = augment(hu.clone(), range(6), replace(NO_AUGMENT, shift_chance=1, shift_hu=50)) - hu
    assert (shift.amax(dim=(1, 2, 3)) - shift.amin(dim=(1, 2, 3))).max() < 1e-2 and shift.abs().max() <= 50.01
    assert len(shift[:, 0, 0, 0].unique()) == 6
    noise = augment(hu.clone(), range(6), replace(NO_AUGMENT, noise_chance=1, noise_hu=(20, 20))) - hu
    assert torch.allclose(noise.std(dim=(1, 2, 3)), torch.tensor(20.0), rtol=0.05)
    sharp = augment(hu.clone(), range(6), replace(NO_AUGMENT, sharpen_chance=1, sharpen=(0.5, 0.5)))
    assert torch.allclose(sharp, hu + 0.5 * (hu - gaussian_blur(hu, np.full(6, 0.7))), atol=1e-2)


@pytest.mark.parametrize("width", [0.3, 0.5, 0.7])
def test_blur_is_scipys_gaussian(hu, width):
    got = gaussian_blur(hu.clone(), np.full(6, width))
    expected = gaussian_filter(hu.numpy(), (0, width, width, width), mode="nearest", radius=(0, 2, 2, 2))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-2)


def test_phase_lifts_soft_tissue_and_leaves_the_rest():
    spec = replace(NO_AUGMENT, phase_chance=1, phase_hu=(100, 100))
    tissues = {-1000: False, -100: False, 40: True, 120: True, 700: False}
    for value, moves in tissues.items():
        change = augment(torch.full((4, 6, 16, 16), float(value)), range(4), spec) - value
        assert (change.abs().max() > 20) == moves
        if moves:  # equal HU do not stay equal: the lift wanders over the crop
            assert change.min() >= -1e-3 and change.max() <= 100.1 and change.std(dim=(1, 2, 3)).min() > 2


def test_noise_is_white_and_nearly_normal():
    noise = hashed_normal((4, 40, 50, 50), np.array([1, 2, 3, 2**31 - 1]), "cpu")
    assert noise.mean(dim=(1, 2, 3)).abs().max() < 0.01 and (noise.std(dim=(1, 2, 3)) - 1).abs().max() < 0.01
    assert abs(float((noise**4).mean()) - 2.7) < 0.05
    flat = noise.flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.02
    for lag in (1, 50, 2500):
        assert abs(float((flat[:, lag:] * flat[:, :-lag]).mean())) < 0.02
    assert torch.equal(hashed_normal((1, 40, 50, 50), np.array([3]), "cpu")[0], noise[2])


def test_wrong_use_is_refused(hu):
    with pytest.raises(ValueError, match="float HU"):
        augment(hu.to(torch.int16), range(6), AugmentSpec())
    with pytest.raises(ValueError, match="noise_chance"):
        AugmentSpec(noise_chance=1.5)
    with pytest.raises(ValueError, match="ascending"):
        AugmentSpec(blur=(1.0, 0.5))
    with pytest.raises(ValueError, match="exclude each other"):
        augment(hu, range(6), AugmentSpec(blur_chance=0.8, sharpen_chance=0.8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(hu):
    on_cpu = augment(hu.clone(), range(6), ALWAYS)
    assert torch.allclose(augment(hu.cuda(), range(6), ALWAYS).cpu(), on_cpu, atol=0.1)
