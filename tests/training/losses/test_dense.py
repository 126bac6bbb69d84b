"""The dense loss: places found again exactly, InfoNCE against a float64 loop, and its guard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tapct_core.preprocessing import InputSpec
from training.data.augment import NO_AUGMENT
from training.data.views import ViewSpec, make_views
from training.losses.dense import Correspondences, dense_loss, find_correspondences, sample_tokens

GRID, PATCH = (2, 5, 6), (4, 8, 8)
INPUT = InputSpec(patch_size=PATCH, img_size=(8, 40, 48))
SPEC = ViewSpec((8, 40, 48), (4, 8, 8), n_local=0, global_scale=(0.5, 1.0), flip=(0.5, 0.5, 0.5))


def coordinate_views(axis: int, seeds):
    """Views of blocks that hold one of their own coordinates, times 20."""
    ramp = (20 * torch.arange((11, 52, 60)[axis])).to(torch.int16)
    ramp = ramp.reshape([-1 if a == axis else 1 for a in range(3)]).expand(len(seeds), 11, 52, 60)
    return make_views(ramp, seeds, SPEC, NO_AUGMENT, InputSpec(PATCH, INPUT.img_size, clip_hu=(-1024, 3071)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_places_show_the_same_anatomy_in_both_views(axis):
    """The mean coordinate in a query's patch is what the partner's map of patch means holds at the positive."""
    seeds = np.arange(6)
    views = coordinate_views(axis, seeds)
    hu = (views.globals[:, 0] * INPUT.std_hu + INPUT.mean_hu) / 20
    maps = F.avg_pool3d(hu[:, None], PATCH).movedim(1, -1)
    places = find_correspondences(views.placement, seeds, GRID, PATCH, points=24)
    here = maps.flatten(1, 3).gather(1, places.query[..., None])[..., 0]
    there = sample_tokens(maps.roll(6, 0), places.positive)[..., 0]
    assert places.valid.sum() > 100
    rim = 0.25 * 4 if axis == 0 else 0.25 * 8  # positives just outside the outermost centres are read there
    assert (here - there)[places.valid].abs().max() < rim + 0.2
    inner = places.valid & ((places.positive >= 0) & (places.positive <= torch.tensor(GRID) - 1)).all(dim=-1)
    assert (here - there)[inner].abs().max() < 0.15
    assert (here - places.block[..., axis])[places.valid].abs().max() < 0.15


def test_queries_are_distinct_seen_and_seeded():
    seeds = np.array([3, 4])
    views = coordinate_views(1, seeds)
    hidden = torch.rand(4, 60) < 0.5
    places = find_correspondences(views.placement, seeds, GRID, PATCH, 20, hidden)
    for crop in range(4):
        used = places.query[crop][places.valid[crop]]
        assert len(used.unique()) == len(used) and not hidden[crop][used].any()
    alone = coordinate_views(1, seeds[1:])
    part = find_correspondences(alone.placement, seeds[1:], GRID, PATCH, 20, hidden[[1, 3]])
    assert torch.equal(part.query[0][part.valid[0]], places.query[1][places.valid[1]])


def test_sampling_is_trilinear_and_holds_the_rim():
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in (3, 4, 5)], indexing="ij")
    maps = torch.stack([z, y, x, z * y * x], dim=-1)[None].requires_grad_()
    where = torch.tensor([[[0.5, 1.25, 3.75], [2, 3, 4], [-0.2, 3.2, 2.0]]])
    got = sample_tokens(maps, where)
    assert torch.allclose(got[0, :2, :3], where[0, :2]) and torch.allclose(got[0, 2, :3], torch.tensor([0.0, 3, 2]))
    assert torch.allclose(got[0, 0, 3], torch.tensor(0.5 * 1.25 * 3.75), atol=1e-5)
    got.sum().backward()
    assert maps.grad.sum() == pytest.approx(3 * 4, abs=1e-4)
    flat = torch.randn(1, 1, 4, 4, 2)  # one token thick
    assert torch.allclose(sample_tokens(flat, torch.tensor([[[0.0, 2, 1]]]))[0, 0], flat[0, 0, 2, 1], atol=1e-6)


def plain_dense(maps, partner, places, spacing, guard, temperature):
    """Query by query, negative by negative."""
    crops, points = places.query.shape
    half, terms = crops // 2, []
    positives = F.normalize(sample_tokens(partner.float(), places.positive).double(), dim=-1)
    for i in range(crops):
        for p in range(points):
            if not places.valid[i, p]:
                continue
            query = F.normalize(maps[i].flatten(0, 2)[places.query[i, p]].double(), dim=0)
            logits = [query @ positives[i, p] / temperature]
            for j in range(crops):
                for q in range(points):
                    if (i, p) == (j, q) or not places.valid[j, q]:
                        continue
                    apart = ((places.block[i, p] - places.block[j, q]) * spacing).norm()
                    if i % half == j % half and apart < guard:
                        continue
                    logits.append(query @ positives[j, q] / temperature)
            terms.append(torch.logsumexp(torch.stack(logits), 0) - logits[0])
    return torch.stack(terms).mean()


@pytest.mark.parametrize("guard", [0.0, 12.0, 1e6])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_value_and_gradient_equal_the_plain_form(guard, temperature):
    seeds = np.array([1, 2])
    views = coordinate_views(0, seeds)
    generator = torch.Generator().manual_seed(0)
    maps, partner = (torch.randn(4, *GRID, 7, generator=generator) for _ in range(2))
    maps.requires_grad_()
    places = find_correspondences(views.placement, seeds, GRID, PATCH, 10)
    places.valid[1, 3] = False
    spacing = torch.tensor([2.5, 1.0, 1.0])
    loss = dense_loss(maps, partner, places, spacing, guard, temperature)
    loss.backward()
    exact = maps.detach().double().requires_grad_()
    expected = plain_dense(exact, partner, places, spacing, guard, temperature)
    expected.backward()
    assert torch.allclose(loss.double(), expected, rtol=1e-5)
    assert torch.allclose(maps.grad.double(), exact.grad, atol=1e-6)


def test_each_sample_has_its_own_spacing():
    seeds = np.array([1, 2])
    views = coordinate_views(0, seeds)
    maps = torch.randn(4, *GRID, 7)
    places = find_correspondences(views.placement, seeds, GRID, PATCH, 10)
    one = dense_loss(maps, maps.roll(2, 0), places, torch.ones(3), 12.0)
    assert torch.equal(one, dense_loss(maps, maps.roll(2, 0), places, torch.ones(2, 3), 12.0))
    fine = dense_loss(maps, maps.roll(2, 0), places, torch.tensor([[1.0, 1, 1], [0.1, 0.1, 0.1]]), 12.0)
    assert fine < one  # in the finely sampled scan all places are near each other: fewer negatives


def test_no_common_place_gives_zero_with_a_gradient():
    places = Correspondences(
        torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4, 3), torch.zeros(2, 4, 3), torch.zeros(2, 4).bool()
    )
    maps = torch.randn(2, *GRID, 7, requires_grad=True)
    loss = dense_loss(maps, maps.detach(), places, torch.ones(3), 5.0)
    loss.backward()
    assert loss == 0 and maps.grad.abs().sum() == 0


def test_equal_and_zero_tokens_stay_finite():
    seeds = np.array([1])
    places = find_correspondences(coordinate_views(0, seeds).placement, seeds, GRID, PATCH, 10)
    for maps in (torch.zeros(2, *GRID, 7), torch.ones(2, *GRID, 7)):
        maps.requires_grad_()
        loss = dense_loss(maps, maps.roll(1, 0), places, torch.ones(3), 5.0)
        loss.backward()
        assert loss.isfinite() and maps.grad.isfinite().all()
