"""Crops against a slow plain reference, both device paths against each other, and where crops lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tapct_core import crops
from tapct_core.crops import Boxes, CropSpec, crop_resize, sample_boxes, seeded_uniforms
from tapct_core.errors import UserError

PATHS = [crops._crop_each, crops._crop_batched]


def slow_line(values: np.ndarray, size: int, antialias: bool) -> np.ndarray:
    """One axis, voxel by voxel in float64: triangle kernel, widened where the line shrinks if asked."""
    step = len(values) / size
    out = np.zeros(size)
    for i in range(size):
        centre, total = (i + 0.5) * step, 0.0
        for j, value in enumerate(values):
            weight = max(0.0, 1.0 - abs(j + 0.5 - centre) / (max(step, 1.0) if antialias else 1.0))
            out[i] += weight * value
            total += weight
        out[i] /= total
    return out


def slow_crop(block: np.ndarray, start, extent, flip, size, antialias) -> np.ndarray:
    box = block[tuple(slice(a, a + n) for a, n in zip(start, extent, strict=True))].astype(np.float64)
    for axis in range(3):
        box = np.apply_along_axis(slow_line, axis, box, size[axis], antialias)
    return np.flip(box, [axis for axis in range(3) if flip[axis]])


@pytest.fixture
def blocks() -> torch.Tensor:
    return torch.randint(-1024, 3000, (3, 7, 21, 26), generator=torch.Generator().manual_seed(0)).to(torch.int16)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [(4, 9, 8), (4, 16, 12), (4, 26, 30), (6, 10, 24)])
@pytest.mark.parametrize("depth_scale", [(1.0, 1.0), (0.5, 1.1)])
@pytest.mark.parametrize("antialias", [True, False])
def test_crops_equal_the_plain_reference(blocks, path, size, depth_scale, antialias):
    spec = CropSpec(size, area=(0.2, 1.0), depth_scale=depth_scale, flip=(0.5, 0.5, 0.5))
    boxes = sample_boxes(blocks.shape[1:], spec, range(6))
    index = np.array([0, 1, 2, 2, 1, 0])
    got = path(blocks, index, boxes, size, antialias)
    assert got.shape == (6, *size) and got.dtype == torch.float32
    for i in range(6):
        expected = slow_crop(blocks[index[i]].numpy(), boxes.start[i], boxes.extent[i], boxes.flip[i], size, antialias)
        np.testing.assert_allclose(got[i].numpy(), expected, atol=2e-2)  # of values up to 3000 HU


@pytest.mark.parametrize("path", PATHS)
def test_a_crop_of_its_own_size_is_a_slice(blocks, path):
    boxes = Boxes(np.array([[2, 3, 4]]), np.array([[4, 10, 12]]), np.zeros((1, 3), bool))
    got = path(blocks, np.array([1]), boxes, (4, 10, 12))
    assert torch.equal(got[0], blocks[1, 2:6, 3:13, 4:16].float())


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.uint8, torch.float16, torch.float32])
def test_any_dtype_gives_float32(dtype):
    block = (torch.arange(4 * 6 * 6).reshape(1, 4, 6, 6) % 200).to(dtype)
    boxes = Boxes(np.array([[0, 1, 1]]), np.array([[4, 4, 4]]), np.zeros((1, 3), bool))
    got = crop_resize(block, [0], boxes, (4, 8, 8))
    assert got.dtype == torch.float32
    assert torch.allclose(got, crop_resize(block.float(), [0], boxes, (4, 8, 8)))


@pytest.mark.parametrize("path", PATHS)
def test_placement_says_where_each_voxel_came_from(path):
    """Blocks that hold their own coordinate come back as origin + step * index (away from the box's rim)."""
    shape, size = (9, 30, 34), (5, 12, 18)
    spec = CropSpec(size, area=(0.3, 0.9), depth_scale=(0.8, 1.6), flip=(0.5, 0.5, 0.5))
    boxes = sample_boxes(shape, spec, range(12))
    origin, step = boxes.placement(size)
    for axis in range(3):
        ramp = torch.arange(shape[axis], dtype=torch.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        got = path(ramp.expand(1, *shape), np.zeros(12, int), boxes, size)
        for i in range(12):
            line = got[i].movedim(axis, 0)[:, 0, 0].numpy()
            expected = origin[i, axis] + step[i, axis] * np.arange(size[axis])
            np.testing.assert_allclose(line[2:-2], expected[2:-2], atol=0.1)  # a widened triangle ripples on a ramp


def test_boxes_lie_inside_and_cover_the_drawn_area():
    block, spec = (16, 120, 160), CropSpec((12, 64, 64), area=(0.32, 1.0), flip=(0.0, 0.25, 1.0))
    boxes = sample_boxes(block, spec, range(4000))
    assert (boxes.start >= 0).all() and (boxes.start + boxes.extent <= np.array(block)).all()
    assert (boxes.extent[:, 0] == 12).all()
    share = boxes.extent[:, 1] * boxes.extent[:, 2] / (120 * 160)
    assert 0.315 < share.min() < 0.33 and 0.98 < share.max() <= 1.0
    assert abs(share.mean() - 0.66) < 0.01  # uniform: the slice's edge takes from the aspect, not from the area
    assert set(np.unique(boxes.start[:, 0])) == set(range(5))
    assert np.allclose(boxes.flip.mean(axis=0), [0, 0.25, 1.0], atol=0.03)
    square = boxes.extent[share < 0.4]
    assert (square[:, 1] / square[:, 2]).min() > 0.73 and (square[:, 1] / square[:, 2]).max() < 1.37


def test_a_seed_gives_one_box_whatever_the_batch():
    block, spec = (16, 120, 160), CropSpec((12, 64, 64), flip=(0.5, 0.5, 0.5))
    together = sample_boxes(block, spec, [5, 2**62, 7, -3])
    for i, seed in enumerate([5, 2**62, 7, -3]):
        alone = sample_boxes(block, spec, torch.tensor([seed]))
        assert all(np.array_equal(a[0], b[i]) for a, b in zip(alone, together, strict=True))


def test_uniforms_are_uniform_and_independent():
    draws = seeded_uniforms(range(2000), 16)
    assert draws.min() >= 0 and draws.max() < 1
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.03 and np.abs(draws.var(axis=0) - 1 / 12).max() < 0.01
    other = seeded_uniforms(range(2000), 16, stream=1)
    correlation = np.corrcoef(np.concatenate([draws, other], axis=1).T) - np.eye(32)
    assert np.abs(correlation).max() < 0.1
    assert len(np.unique(draws)) == draws.size


@pytest.mark.parametrize("count", [0, 1, 6])
def test_any_number_of_crops(blocks, count, monkeypatch):
    boxes = sample_boxes(blocks.shape[1:], CropSpec((4, 16, 12)), range(count))
    index = np.arange(count) % 3
    whole = crops._crop_batched(blocks, index, boxes, (4, 16, 12))
    monkeypatch.setattr(crops, "_AT_ONCE", 2 * 4 * 21 * 26)  # two crops at a time
    assert torch.allclose(crops._crop_batched(blocks, index, boxes, (4, 16, 12)), whole, atol=1e-3)
    assert crop_resize(blocks, index, boxes, (4, 16, 12)).shape == (count, 4, 16, 12)
    with pytest.raises(ValueError, match="block indices"):
        crop_resize(blocks, np.zeros(count + 1, int), boxes, (4, 16, 12))


def test_autocast_does_not_coarsen_hu(blocks):
    boxes = sample_boxes(blocks.shape[1:], CropSpec((4, 16, 12)), range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for path in PATHS:
            with torch.autocast("cpu", enabled=False):
                expected = path(blocks, np.array([0, 1]), boxes, (4, 16, 12))
            assert torch.allclose(crop_resize(blocks, [0, 1], boxes, (4, 16, 12)), expected, atol=1e-2)


def test_a_shallow_block_is_refused_with_the_remedy():
    with pytest.raises(UserError, match="deeper blocks"):
        sample_boxes((10, 64, 64), CropSpec((12, 32, 32)), [0])


@pytest.mark.parametrize("wrong", [{"area": (0.5, 1.2)}, {"area": (0.6, 0.5)}, {"aspect": (0, 1)}, {"flip": (2, 0, 0)}])
def test_a_contradictory_spec_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CropSpec((4, 8, 8), **wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(blocks):
    boxes = sample_boxes(blocks.shape[1:], CropSpec((4, 16, 12), flip=(0.5, 0.5, 0.5)), range(6))
    index = [0, 1, 2, 0, 1, 2]
    on_cpu = crop_resize(blocks, index, boxes, (4, 16, 12))
    assert torch.allclose(crop_resize(blocks.cuda(), index, boxes, (4, 16, 12)).cpu(), on_cpu, atol=2e-2)
