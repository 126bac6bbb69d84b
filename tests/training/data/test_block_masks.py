"""Block masks: exact counts, honest ratios, blocks rather than dust, one mask a seed."""

from __future__ import annotations

import pytest
import torch

from training.data.block_masks import block_masks

GRIDS = [(3, 28, 28), (2, 8, 8), (1, 14, 14), (6, 5, 7)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.37, 0.75, 1.0])
def test_the_count_is_exact(grid, ratio):
    count = grid[0] * grid[1] * grid[2]
    masks = block_masks(range(16), grid, (ratio, ratio), probability=1.0)
    assert masks.shape == (16, count) and masks.dtype == torch.bool
    assert (masks.sum(dim=1) == round(ratio * count)).all()


def test_realised_ratios_fill_the_requested_range():
    """Overlaps must count once, and each sample must have a ratio of its own."""
    share = block_masks(range(1000), (3, 14, 14), (0.2, 0.75), probability=0.5).float().mean(dim=1)
    masked = share[share > 0]
    assert abs(len(masked) / 1000 - 0.5) < 0.05
    assert 0.199 < masked.min() < 0.22 and 0.73 < masked.max() < 0.751
    assert abs(float(masked.mean()) - 0.475) < 0.02 and abs(float(masked.var()) - 0.55**2 / 12) < 0.004


def test_hidden_patches_form_blocks():
    """A hidden patch's neighbours are hidden far more often than chance has it."""
    ratio = 0.4
    for grid in ((3, 28, 28), (8, 16, 16)):
        volume = block_masks(range(200), grid, (ratio, ratio), probability=1.0).unflatten(1, grid)
        for axis in (1, 2, 3):
            first, second = volume.narrow(axis, 0, grid[axis - 1] - 1), volume.narrow(axis, 1, grid[axis - 1] - 1)
            together = (first & second).sum() / first.sum()
            assert together > (0.95 if axis == 1 and grid[0] == 3 else 0.75 if axis > 1 else 0.52), (grid, axis)


@pytest.mark.parametrize("grid", [(3, 28, 28), (2, 8, 8), (4, 6, 6)])
def test_flat_grids_are_masked_through_their_depth(grid):
    """No hidden patch has its own column to be read off, but in the one column that the exact count cuts."""
    masks = block_masks(range(200), grid, (0.1, 0.7), probability=1.0).unflatten(1, grid)
    cut = masks.any(dim=1) & ~masks.all(dim=1)
    assert int(cut.flatten(1).sum(dim=1).max()) <= 1


def test_every_patch_is_hidden_about_equally_often():
    share = block_masks(range(4000), (2, 10, 10), (0.3, 0.3), probability=1.0).float().mean(dim=0)
    assert share.min() > 0.24 and share.max() < 0.36


def test_a_seed_gives_one_mask_whatever_the_batch():
    together = block_masks([5, 9, 2**60], (3, 8, 8), probability=0.7)
    for i, seed in enumerate([5, 9, 2**60]):
        assert torch.equal(block_masks([seed], (3, 8, 8), probability=0.7)[0], together[i])


@pytest.mark.parametrize("wrong", [{"ratio_range": (0.5, 0.1)}, {"probability": 1.2}, {"block_share": (0.0, 0.2)}])
def test_wrong_ranges_are_refused(wrong):
    with pytest.raises(ValueError, match="not"):
        block_masks([0], (2, 4, 4), **wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_equal_cpus():
    on_cuda = block_masks(range(32), (3, 28, 28), device="cuda").cpu()
    on_cpu = block_masks(range(32), (3, 28, 28))
    assert torch.equal(on_cuda.sum(1), on_cpu.sum(1)) and (on_cuda == on_cpu).float().mean() > 0.999
