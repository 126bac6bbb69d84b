"""Parameter groups: every parameter once, the right factor and decay; freezing by rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tapct_core.vit import ViTConfig
from training.network.optim import clip_gradients, parameter_groups, set_rates
from training.network.projection_heads import HeadSpec
from training.network.student_teacher import Branch

HEAD = HeadSpec(prototypes=6, hidden=8, bottleneck=4)


@pytest.fixture
def branch() -> Branch:
    config = ViTConfig(patch_size=(2, 4, 4), img_size=(4, 8, 8), embed_dim=8, depth=3, num_heads=2)
    return Branch(config, HEAD, HEAD, shared=False)


def settings(branch, groups) -> dict[str, dict]:
    by_id = {id(p): group for group in groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in branch.named_parameters()}


def test_every_parameter_is_in_one_group(branch):
    groups = parameter_groups(branch, 3)
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(branch.parameters()))
    assert len({group["name"] for group in groups}) == len(groups)


def test_rates_fall_towards_the_patches(branch):
    by_name = settings(branch, parameter_groups(branch, 3, layer_decay=0.5, patch_embed_lr=0.2))
    expected = {
        "dino_head.mlp.0.weight": 1.0,
        "ibot_head.prototypes.weight": 1.0,
        "backbone.norm.weight": 1.0,
        "backbone.blocks.2.mlp.fc1.weight": 0.5,
        "backbone.blocks.0.attn.qkv.weight": 0.125,
        "backbone.pos_embed": 0.0625,
        "backbone.mask_token": 0.0625,
        "backbone.patch_embed.proj.weight": 0.0125,
        "backbone.patch_embed.proj.bias": 0.0125,
    }
    assert {name: by_name[name]["lr_factor"] for name in expected} == pytest.approx(expected)


def test_only_matrices_decay(branch):
    by_name = settings(branch, parameter_groups(branch, 3))
    for name, group in by_name.items():
        plain = name.endswith("bias") or "norm" in name or "gamma" in name or "token" in name or "pos_embed" in name
        assert group["decays"] == (not plain), name


def test_names_of_wrappers_change_nothing(branch):
    plain = settings(branch, parameter_groups(branch, 3))
    wrapped = torch.nn.Module()
    wrapped.module = branch  # as DDP names it
    inner, branch.backbone.blocks[1] = branch.backbone.blocks[1], torch.nn.Module()
    branch.backbone.blocks[1]._orig_mod = inner  # as torch.compile names it
    got = settings(wrapped, parameter_groups(wrapped, 3))
    got = {name.removeprefix("module.").replace("_orig_mod.", ""): group for name, group in got.items()}
    assert {n: (g["lr_factor"], g["decays"], g["part"]) for n, g in got.items()} == {
        n: (g["lr_factor"], g["decays"], g["part"]) for n, g in plain.items()
    }


def test_freezing_is_a_rate_of_zero_and_moments_still_follow(branch):
    optimizer = torch.optim.AdamW(parameter_groups(branch, 3), lr=1e-2)
    for p in branch.parameters():
        p.grad = torch.ones_like(p)
    before = {name: p.detach().clone() for name, p in branch.named_parameters()}

    set_rates(optimizer, 1e-2, 0.1, prototypes_lr=0.0)
    optimizer.step()
    moved = {name for name, p in branch.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "prototypes" not in name}
    assert optimizer.state[branch.dino_head.prototypes.weight]["exp_avg"].abs().sum() > 0

    before = {name: p.detach().clone() for name, p in branch.named_parameters()}
    set_rates(optimizer, 1e-2, 0.1, head_only=True)
    optimizer.step()
    moved = {name for name, p in branch.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "head" in name}


def test_set_rates_writes_factor_and_decay(branch):
    optimizer = torch.optim.AdamW(parameter_groups(branch, 3, layer_decay=0.5), lr=1.0)
    set_rates(optimizer, 2e-3, 0.3)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(2e-3 * group["lr_factor"])
        assert group["weight_decay"] == (0.3 if group["decays"] else 0.0)


def test_each_part_is_clipped_by_its_own_norm():
    student = nn.ModuleDict({"backbone": nn.Linear(3, 1, bias=False), "dino_head": nn.Linear(4, 1, bias=False)})
    student["unused"] = nn.Linear(2, 2)
    body, head = (student[name].weight for name in ("backbone", "dino_head"))
    body.grad, head.grad = torch.full((1, 3), 200.0), torch.full((1, 4), -1.0)
    norms = clip_gradients(student, 0)
    assert norms["backbone"] == pytest.approx(346.41, rel=1e-4) and norms["dino_head"] == pytest.approx(2.0)
    assert norms["all"] == pytest.approx((3 * 200**2 + 4) ** 0.5) and body.grad[0, 0] == 200 and set(norms) == {
        "backbone", "dino_head", "all"
    }  # fmt: skip
    clip_gradients(student, 3.0)
    assert float(body.grad.norm()) == pytest.approx(3.0, rel=1e-4)
    assert torch.equal(head.grad, torch.full((1, 4), -1.0))  # under the limit by itself, whatever the encoder's is
    head.grad[0, 0] = float("nan")
    kept = body.grad.clone()
    assert not torch.isfinite(clip_gradients(student, 1e-3)["all"]) and torch.equal(body.grad, kept)
