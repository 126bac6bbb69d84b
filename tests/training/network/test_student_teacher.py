"""The step: equal to a plain two-pass DINOv2 step, the same in parts as in whole, and without side effects."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tapct_core.preprocessing import InputSpec
from tapct_core.vit import ViTConfig
from training.data.augment import AugmentSpec
from training.data.block_masks import block_masks
from training.data.views import ViewSpec, make_views
from training.network.projection_heads import HeadSpec
from training.network.student_teacher import LossSpec, StudentTeacher

VIT = ViTConfig(patch_size=(4, 8, 8), img_size=(8, 32, 32), embed_dim=24, depth=2, num_heads=2, layer_scale_init=1.0)
HEAD = HeadSpec(prototypes=48, hidden=32, bottleneck=12)
INPUT = InputSpec(patch_size=VIT.patch_size, img_size=VIT.img_size)
VIEWS = ViewSpec((8, 32, 32), (4, 16, 16), n_local=3, global_scale=(0.6, 1.0), flip=(0.3, 0.3, 0.3))
ALL = LossSpec(dense=0.5, koleo_group=2, dense_points=8, dense_guard_mm=3.0)


def batch(seeds) -> tuple:
    """Views and masks of samples; each hangs on its seed alone."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    blocks = torch.stack([torch.randint(-1000, 1000, (10, 40, 40), generator=g) for g in generators]).to(torch.int16)
    views = make_views(blocks, seeds, VIEWS, AugmentSpec(), INPUT)
    crops = [2 * s for s in seeds] + [2 * s + 1 for s in seeds]
    return views, block_masks(crops, VIT.grid, (0.2, 0.6), 0.7)


def model(loss: LossSpec = ALL, **kwargs) -> StudentTeacher:
    torch.manual_seed(0)
    made = StudentTeacher(VIT, HEAD, loss, ibot_head=kwargs.pop("ibot_head", HEAD), **kwargs)
    for p in made.teacher.parameters():  # a teacher of its own
        p.add_(0.05 * torch.randn_like(p))
    return made


def gradients(made: StudentTeacher) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in made.student.named_parameters()}


def assert_same(a: dict, b: dict, rtol: float = 1e-3) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name], b[name], rtol=rtol, atol=1e-6 + 1e-4 * float(b[name].abs().max())), name


# ---- against a plain step


def plain_step(made: StudentTeacher, views, mask, temperature: float) -> torch.Tensor:
    """DINOv2's step as its paper has it, with whole tables and one pass a crop size, in float64."""
    from tests.training.losses.test_koleo import plain_koleo
    from tests.training.losses.test_sinkhorn import plain_sinkhorn

    def run(branch, crops, mask=None):
        tokens = branch.backbone(crops.double(), mask if mask is None else [mask])
        return tokens if not isinstance(tokens, list) else tokens[0]

    def logits(head, x):
        x = F.normalize(head.mlp(x), dim=1)
        return x @ F.normalize(head.prototypes.weight, dim=1).T

    student, teacher, b = made.student, made.teacher, views.batch
    with torch.no_grad():
        seen = run(teacher, views.globals)
        dino_targets = plain_sinkhorn(logits(teacher.dino_head, seen.cls), temperature, 3)
        ibot_targets = plain_sinkhorn(logits(teacher.ibot_head, seen.patches[mask]), temperature, 3)
    hidden = student.backbone([views.globals.double()], [mask])[0]
    local = run(student, views.locals)
    says = (logits(student.dino_head, torch.cat([hidden.cls, local.cls])) / 0.1).log_softmax(dim=1).split(b)
    pairs = [(answer, view) for answer in range(2) for view in range(len(says)) if view != answer]
    terms = [-(dino_targets.split(b)[answer] * says[view]).sum(dim=1).mean() for answer, view in pairs]
    patches = (logits(student.ibot_head, hidden.patches[mask]) / 0.1).log_softmax(dim=1)
    weight = (1 / mask.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(mask)[mask]
    ibot = -((ibot_targets * patches).sum(dim=1) * weight).sum() / len(mask)
    koleo = sum(plain_koleo(view) for view in hidden.cls.chunk(2))
    return torch.stack(terms).mean() + ibot + 0.1 * koleo


def test_losses_and_gradients_equal_a_plain_step():
    made = model(LossSpec())
    views, mask = batch([1, 2, 3])
    report = made.step_losses([views], [mask], 0.05)
    got = gradients(made)
    exact = model(LossSpec()).double()
    expected = plain_step(exact, views, mask, 0.05)
    expected.backward()
    assert torch.allclose(report.losses["total"].double(), expected, rtol=1e-4)
    assert_same(got, {name: p.grad.float() for name, p in exact.student.named_parameters()})


# ---- accumulation


@pytest.mark.parametrize("centring", ["sinkhorn", "softmax"])
@pytest.mark.parametrize("shared", [False, True])
def test_accumulated_parts_equal_one_large_batch(centring, shared):
    spec = replace(ALL, centring=centring, entropy_target=0.5, dense=0.0)
    results = []
    for cut in ([[1, 2, 3, 4, 5, 6]], [[1, 2], [3, 4], [5, 6]]):
        made = model(spec, ibot_head=None if shared else HEAD)
        parts = [batch(seeds) for seeds in cut]
        report = made.step_losses([v for v, _ in parts], [m for _, m in parts], 0.06)
        made.update_teacher(0.9)
        results.append((report.losses, gradients(made), dict(made.named_buffers())))
    (losses, grads, buffers), (other_losses, other_grads, other_buffers) = results
    for name in losses:
        assert torch.allclose(losses[name], other_losses[name], rtol=1e-4), name
    assert_same(grads, other_grads)
    assert buffers and all(torch.allclose(buffers[k], other_buffers[k], atol=1e-6) for k in buffers)
    assert any(b.abs().sum() > 0 for b in buffers.values())


def test_sync_is_told_which_part_is_the_last():
    told = []
    made, (views, mask) = model(), batch([1, 2])
    made.step_losses([views, views], [mask, mask], 0.05, sync=lambda last: told.append(last) or nullcontext())
    assert told == [False, True]


def on_one_of_two_ranks(rank: int, folder: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    made = model(replace(ALL, dense=0.0, entropy_target=0.5))
    wrapped = torch.nn.parallel.DistributedDataParallel(made.student)
    parts = [batch(seeds) for seeds in ([[1, 2], [3, 4]], [[5, 6], [7, 8]])[rank]]
    made.step_losses(
        [v for v, _ in parts],
        [m for _, m in parts],
        0.06,
        student=wrapped,
        sync=lambda last: nullcontext() if last else wrapped.no_sync(),
    )
    made.update_teacher(0.9)
    torch.save((gradients(made), dict(made.named_buffers())), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_large_batch(tmp_path):
    torch.multiprocessing.spawn(on_one_of_two_ranks, (str(tmp_path),), nprocs=2)
    made = model(replace(ALL, dense=0.0, entropy_target=0.5))
    views, mask = batch(range(1, 9))
    made.step_losses([views], [mask], 0.06)
    made.update_teacher(0.9)
    for rank in range(2):
        grads, buffers = torch.load(tmp_path / f"{rank}.pt")
        assert_same(grads, gradients(made))
        assert all(torch.allclose(buffers[k], b, atol=1e-6) for k, b in made.named_buffers())


# ---- traps


def test_teacher_stays_in_eval_and_without_graph():
    made = StudentTeacher(replace(VIT, drop_path=0.5), HEAD, LossSpec())
    made.train()
    assert made.student.training and not any(m.training for m in made.teacher.modules())
    views, mask = batch([1, 2])
    made.step_losses([views], [mask], 0.05)
    assert all(p.grad is None and not p.requires_grad for p in made.teacher.parameters())
    assert all(p.grad is not None for p in made.student.parameters())


def test_teacher_and_centres_move_only_when_told():
    made = model(replace(ALL, centring="softmax"))
    before = {k: v.clone() for k, v in made.state_dict().items()}
    views, mask = batch([1, 2])
    for _ in range(3):
        made.step_losses([views], [mask], 0.05)
    assert all(torch.equal(v, before[k]) for k, v in made.state_dict().items())
    made.update_teacher(0.75)
    for name, p in made.student.named_parameters():
        expected = 0.75 * before[f"teacher.{name}"] + 0.25 * p
        assert torch.allclose(made.teacher.get_parameter(name), expected, atol=1e-6)
    assert not torch.equal(made.dino_centre, before["dino_centre"])


def test_state_survives_a_round_trip():
    made = model(replace(ALL, centring="softmax", entropy_target=0.4))
    views, mask = batch([1, 2])
    made.step_losses([views], [mask], 0.05)
    made.update_teacher(0.9)
    other = StudentTeacher(VIT, HEAD, replace(ALL, centring="softmax", entropy_target=0.4), ibot_head=HEAD)
    other.load_state_dict(made.state_dict())
    first, second = (m.step_losses([views], [mask], 0.05).losses for m in (made, other))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_nothing_hidden_and_no_local_crop_still_give_every_gradient():
    """DDP waits for every parameter on every rank."""
    views, mask = batch([1, 2])
    views = replace(views, locals=views.locals[:0])
    made = model()
    report = made.step_losses([views], [torch.zeros_like(mask)], 0.05)
    assert report.losses["ibot"] == 0 and report.losses["total"].isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.student.parameters())


def test_a_batch_of_one_stays_finite():
    views, mask = batch([1])
    report = model(replace(ALL, koleo_group=0)).step_losses([views], [mask], 0.05)
    assert report.losses["koleo"] == 0 and all(v.isfinite() for v in report.losses.values())


@pytest.mark.parametrize("only", ["dino", "ibot", "dense"])
def test_a_loss_can_stand_alone(only):
    weights = {name: float(name == only) for name in ("dino", "ibot", "koleo", "dense")}
    made = StudentTeacher(VIT, HEAD, LossSpec(**weights, dense_points=8))
    views, mask = batch([1, 2])
    report = made.step_losses([views], [mask], 0.05, spacing_mm=torch.tensor([2.0, 1.0, 1.0]))
    assert set(report.losses) == {only, "total"} and report.losses[only] > 0
    assert (report.targets is not None) == (only == "dino")
    if only != "ibot":
        assert not any("ibot" in name for name in made.state_dict())


def test_what_health_needs_comes_along():
    views, mask = batch([1, 2, 3])
    report = model(LossSpec()).step_losses([views], [mask], 0.05, backward=False)
    assert report.targets.shape == (6, 48) and torch.allclose(report.targets.sum(dim=1), torch.ones(6), atol=1e-5)
    assert report.cls.shape == (3, 24) and report.hidden == int(mask.sum())
    assert not report.cls.requires_grad and not any(v.requires_grad for v in report.losses.values())


def test_bf16_autocast_gives_close_losses():
    views, mask = batch([1, 2])
    plain = model().step_losses([views], [mask], 0.05).losses
    made = model(autocast=torch.bfloat16)
    cast = made.step_losses([views], [mask], 0.05).losses
    for name in plain:
        assert torch.allclose(plain[name], cast[name], rtol=0.05, atol=0.05), name
    assert all(p.grad.dtype == torch.float32 for p in made.student.parameters())


# ---- small batches


def toy_entropy(spec: LossSpec, steps: int = 60) -> tuple[float, float]:
    """Train on four samples with far too high a temperature -> teacher entropy and DINO loss, shares of ln K."""
    made = model(spec)
    optimizer = torch.optim.AdamW(made.student.parameters(), lr=2e-3)
    views, mask = batch([1, 2, 3, 4])
    for _ in range(steps):
        optimizer.zero_grad()
        report = made.step_losses([views], [mask], 0.3)
        optimizer.step()
        made.update_teacher(0.9)
    entropy = torch.special.entr(report.targets).sum(dim=1).mean()
    return float(entropy) / math.log(48), float(report.losses["dino"]) / math.log(48)


def test_sharpening_holds_the_entropy_where_the_plain_recipe_goes_uniform():
    plain = LossSpec(centring="softmax", ibot=0.0, koleo=0.0)
    entropy, loss = toy_entropy(plain)
    assert entropy > 0.97 and loss > 0.97  # uniform targets, the loss stands at ln K
    entropy, loss = toy_entropy(replace(plain, entropy_target=0.6, sharpest=0.02))
    assert abs(entropy - 0.6) < 0.1 and loss < 0.9


@pytest.mark.parametrize(
    "wrong", [{"dino": -1.0}, {"dino": 0.0, "ibot": 0.0}, {"centring": "none"}, {"entropy_target": 1.0}]
)
def test_contradictory_losses_are_refused(wrong):
    with pytest.raises(ValueError):
        LossSpec(**wrong)
