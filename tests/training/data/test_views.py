"""Views: the crops a student and a teacher see, their seeds, and their place in the block."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tapct_core.preprocessing import InputSpec
from training.data.augment import NO_AUGMENT, AugmentSpec
from training.data.views import Placement, ViewSpec, make_views

INPUT = InputSpec(patch_size=(4, 8, 8), img_size=(8, 32, 32))
SPEC = ViewSpec((8, 32, 32), (4, 16, 16), n_local=3, flip=(0.5, 0.5, 0.5))


@pytest.fixture
def blocks() -> torch.Tensor:
    return torch.randint(-1024, 1500, (4, 12, 48, 56), generator=torch.Generator().manual_seed(2)).to(torch.int16)


def test_shapes_types_and_order(blocks):
    views = make_views(blocks, range(4), SPEC, AugmentSpec(), INPUT)
    assert views.globals.shape == (8, 1, 8, 32, 32) and views.locals.shape == (12, 1, 4, 16, 16)
    assert views.globals.dtype == views.locals.dtype == torch.float32
    assert (views.batch, views.n_local) == (4, 3)
    none = make_views(blocks, range(4), replace(SPEC, n_local=0), AugmentSpec(), INPUT)
    assert none.locals.shape == (0, 1, 4, 16, 16) and none.n_local == 0
    assert torch.equal(none.globals, views.globals)  # local crops take no draws from global ones


def test_a_sample_looks_the_same_in_any_batch(blocks):
    """Gradient accumulation, resuming and the number of ranks must not change what is seen."""
    whole = make_views(blocks, [11, 12, 13, 14], SPEC, AugmentSpec(), INPUT)
    part = make_views(blocks[2:3], torch.tensor([13]), SPEC, AugmentSpec(), INPUT)
    for view in range(2):
        assert torch.allclose(whole.globals[view * 4 + 2], part.globals[view], atol=1e-5)
        assert torch.equal(whole.placement.origin[view * 4 + 2], part.placement.origin[view])
    for view in range(3):
        assert torch.allclose(whole.locals[view * 4 + 2], part.locals[view], atol=1e-5)
    other = make_views(blocks[2:3], [14], SPEC, AugmentSpec(), INPUT)
    assert not torch.equal(other.globals, part.globals) and not torch.equal(part.globals[0], part.globals[1])


def test_crops_are_normalised_hu(blocks):
    blocks[:] = 40
    views = make_views(blocks, range(4), SPEC, NO_AUGMENT, INPUT)
    assert torch.allclose(views.globals, INPUT.normalise(torch.tensor(40, dtype=torch.int16)), atol=1e-6)


def test_placement_finds_a_point_of_one_view_in_the_other():
    """Blocks that hold a smooth field of position: the same block point has the same value in both views."""
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in (12, 48, 56)], indexing="ij")
    block = (20 * z + 3 * y + 2 * x).round().to(torch.int16)[None]
    views = make_views(block, [3], replace(SPEC, global_scale=(0.5, 1.0)), NO_AUGMENT, INPUT)
    index = torch.tensor([[[3.0, 12.0, 15.0], [4.0, 18.0, 14.0]]]).expand(2, -1, -1)
    in_block = views.placement.to_block(index)
    expected = (in_block * torch.tensor([20.0, 3.0, 2.0])).sum(-1)
    hu = views.globals[:, 0] * INPUT.std_hu + INPUT.mean_hu
    got = torch.stack([hu[:, 3, 12, 15], hu[:, 4, 18, 14]], dim=1)
    assert torch.allclose(got, expected, atol=1.5)
    assert torch.allclose(views.placement.to_crop(in_block), index, atol=1e-4)


@pytest.mark.parametrize("turn", [(20.0, 0.0, 0.0), (0.0, 15.0, 0.0), (0.0, 0.0, 15.0), (25.0, 10.0, 10.0)])
def test_a_turned_crop_knows_its_place(turn):
    """Every voxel of a turned view holds what the block holds where the placement says it lies."""
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in (30, 90, 90)], indexing="ij")
    block = (10 * z + 2 * y - 3 * x).round().to(torch.int16)[None].expand(3, -1, -1, -1)
    spec = replace(SPEC, turn=turn, global_scale=(0.3, 0.6), depth_scale=(0.9, 1.1))
    views = make_views(block, range(3), spec, NO_AUGMENT, INPUT)
    assert views.globals.shape == (6, 1, 8, 32, 32)
    index = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in (8, 32, 32)], indexing="ij"), -1)
    there = views.placement.to_block(index.reshape(1, -1, 3).expand(6, -1, -1))
    assert there.min() > -0.5 and (there <= torch.tensor([29.5, 89.5, 89.5])).all()  # nothing is read beside the block
    expected = (there * torch.tensor([10.0, 2.0, -3.0])).sum(-1)
    hu = (views.globals * INPUT.std_hu + INPUT.mean_hu).flatten(1)
    assert (hu - expected).abs().max() < 3.5  # rounding, and the rim of what was cut out
    assert (hu - expected).abs().mean() < 0.4
    off_axis = views.placement.matrix - torch.diag_embed(views.placement.matrix.diagonal(dim1=1, dim2=2))
    assert (off_axis.abs().amax((1, 2)) > 0).all()
    assert torch.allclose(views.placement.to_crop(there), index.reshape(1, -1, 3), atol=1e-3)


def test_placement_of_a_mirrored_axis():
    place = Placement(torch.tensor([[9.0, 0.5, 0.0]]), torch.diag(torch.tensor([-1.0, 2.0, 0.5]))[None])
    points = torch.tensor([[[0.0, 1.0, 4.0]]])
    assert torch.equal(place.to_block(points), torch.tensor([[[9.0, 2.5, 2.0]]]))
    assert torch.equal(place.to_crop(place.to_block(points)), points)


def test_wrong_input_is_refused(blocks):
    with pytest.raises(TypeError, match="int16"):
        make_views(blocks.float(), range(4), SPEC, AugmentSpec(), INPUT)
    with pytest.raises(ValueError, match="3 seeds for 4 blocks"):
        make_views(blocks, range(3), SPEC, AugmentSpec(), INPUT)
    with pytest.raises(ValueError, match="deeper blocks"):
        make_views(blocks[:, :6], range(4), SPEC, AugmentSpec(), INPUT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(blocks):
    on_cpu = make_views(blocks, range(4), SPEC, AugmentSpec(), INPUT)
    on_cuda = make_views(blocks.cuda(), range(4), SPEC, AugmentSpec(), INPUT)
    # HU are rounded to whole numbers, so a hair's difference may show as one HU
    assert (on_cuda.globals.cpu() - on_cpu.globals).abs().max() <= 1.01 / INPUT.std_hu
