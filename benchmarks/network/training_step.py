"""One training step's time and memory against a plain two-pass DINOv2 step with the same weights and crops.

    python -m benchmarks.training_step          measures and prints the tables (about 5 minutes)
    python -m benchmarks.training_step --out docs/results/training_step.md

First both steps are run on one small case and every gradient is compared. Then each case runs in a process of
its own, forward and backward with 65,536 prototypes for DINO and as many for iBOT; the peak is the kernel's
high-water mark of resident memory, libraries included (on CUDA: of the allocator). The plain step is DINOv2's
as its paper has it: the student sees global and local crops in two passes, the teacher has no graph, only hidden
patches meet the prototypes, and each loss holds its whole table of logits. Steps are timed by turns: one step of
each case, then the next turn, all processes but one asleep.

Each saving is taken away alone, to show its size: from the plain step where DINOv2 has it already (no teacher
graph, prototypes only where needed), from ours where DINOv2's paper step has it not.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import machine_line, markdown_table, write_page
from tapct_core.preprocessing import InputSpec
from tapct_core.vit import ViTConfig
from training.data.augment import NO_AUGMENT
from training.data.block_masks import block_masks
from training.data.views import Views, ViewSpec, make_views
from training.losses import dino, sinkhorn
from training.losses.koleo import koleo_loss
from training.network.projection_heads import HeadSpec, unit
from training.network.student_teacher import LossSpec, StudentTeacher

TEMPERATURE = 0.05
CASES = {
    "ours": "",
    "plain two-pass DINOv2 step": "",
    "ours, teacher logits made again in each Sinkhorn pass": "(as ours does beyond 1 GiB of them)",
    "ours, without chunks": "chunking: one chunk takes all rows",
    "ours, in two passes": "concatenated linears: local crops in a pass of their own",
    "plain, with a teacher graph": "no teacher graph: the teacher's activations are kept",
    "plain, prototypes on all patches": "prototypes only where needed: all patches pass iBOT's head",
}


def make_case(small: bool, device: str) -> tuple[StudentTeacher, Views, Tensor]:
    """Model, views and mask; ``small`` for the comparison of gradients."""
    size = (8, 32, 32) if small else (12, 160, 160)
    vit = ViTConfig(
        img_size=size, embed_dim=48 if small else 192, depth=2 if small else 6, num_heads=3, layer_scale_init=1.0
    )
    head = HeadSpec(512, 128, 64) if small else HeadSpec(65536, 1024, 256)
    torch.manual_seed(0)
    model = StudentTeacher(vit, head, LossSpec(), ibot_head=head).to(device)
    spec = ViewSpec(size, (4, 16, 16) if small else (8, 64, 64), n_local=4)
    blocks = torch.randint(-1000, 1000, (2, size[0], size[1] + 8, size[2] + 8), dtype=torch.int16).to(device)
    views = make_views(blocks, range(2), spec, NO_AUGMENT, InputSpec(vit.patch_size, size))
    return model, views, block_masks(range(4), vit.grid, (0.5, 0.5), 1.0, device=device)


# ---- the plain step


def logits_of(head: torch.nn.Module, x: Tensor) -> Tensor:
    """Cosines with all prototypes, one table."""
    return head(x) @ head.unit_prototypes().T


def plain_sinkhorn(logits: Tensor, temperature: float) -> Tensor:
    """DINOv2's Sinkhorn-Knopp on one table."""
    q = torch.exp(logits / temperature).T
    prototypes, samples = q.shape
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(dim=1, keepdim=True)
        q /= prototypes
        q /= q.sum(dim=0, keepdim=True)
        q /= samples
    return (q * samples).T


def plain_step(
    model: StudentTeacher, views: Views, mask: Tensor, teacher_graph: bool = False, all_patches: bool = False
) -> Tensor:
    """Forward and backward; returns the loss."""
    student, teacher, batch = model.student, model.teacher, views.batch
    if teacher_graph:
        teacher.requires_grad_(True)
    with torch.set_grad_enabled(teacher_graph):
        seen = teacher.backbone(views.globals)
        answers = logits_of(teacher.dino_head, seen.cls)
        patches = logits_of(teacher.ibot_head, seen.patches.flatten(0, 1) if all_patches else seen.patches[mask])
    with torch.no_grad():
        answers = plain_sinkhorn(answers, TEMPERATURE)
        patches = plain_sinkhorn(patches[mask.flatten()] if all_patches else patches, TEMPERATURE)
    hidden = student.backbone([views.globals], [mask])[0]
    local = student.backbone(views.locals)
    says = F.log_softmax(logits_of(student.dino_head, torch.cat([hidden.cls, local.cls])) / 0.1, dim=1).split(batch)
    pairs = [(t, v) for t in range(2) for v in range(len(says)) if t != v]
    dino_loss = sum(-(answers.split(batch)[t] * says[v]).sum(dim=1).mean() for t, v in pairs) / len(pairs)
    told = logits_of(student.ibot_head, hidden.patches.flatten(0, 1) if all_patches else hidden.patches[mask])
    told = F.log_softmax(told / 0.1, dim=1)
    told = told[mask.flatten()] if all_patches else told
    weight = (1 / mask.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(mask)[mask]
    ibot_loss = -((patches * told).sum(dim=1) * weight).sum() / len(mask)
    loss = dino_loss + ibot_loss + 0.1 * sum(koleo_loss(view) for view in hidden.cls.chunk(2))
    loss.backward()
    return loss


def our_step(model: StudentTeacher, views: Views, mask: Tensor, two_passes: bool = False) -> Tensor:
    """Forward and backward; returns the loss."""
    student = model.student

    def in_two_passes(crops: list[Tensor], mask: Tensor, where: Tensor):
        output = student(crops[:1], mask, where)
        local = unit(student.dino_head.mlp(student.backbone(crops[1]).cls))
        return output._replace(dino=torch.cat([output.dino, local]))

    return model.step_losses([views], [mask], TEMPERATURE, student=in_two_passes if two_passes else None).losses[
        "total"
    ]


def compare_gradients() -> str:
    """Both steps on a small case: largest difference over all parameters, relative to each one's largest gradient."""
    grads = []
    for step in (our_step, plain_step):
        model, views, mask = make_case(True, "cpu")
        loss = step(model, views, mask)
        grads.append({"loss": loss.detach(), **{n: p.grad for n, p in model.student.named_parameters()}})
    ours, plain = grads
    worst = max(float((ours[n] - plain[n]).abs().max() / plain[n].abs().max().clamp(min=1e-8)) for n in plain)
    if worst > 1e-3:
        raise SystemExit(f"the steps differ: a gradient is off by {worst:.2e} of its largest entry")
    return (
        f"Loss and all {len(plain) - 1} gradients of the two steps agree to {worst:.1e} of each gradient's largest "
        "entry (float32, a small case)."
    )


# ---- measuring, a process a case


def serve(name: str, device: str, threads: int) -> None:
    """One case: a line on stdin is one step, its seconds and the peak so far come back."""
    torch.set_num_threads(threads)
    if name == "ours, without chunks":
        for module in (dino, sinkhorn):
            module.chunks = lambda rows, prototypes, size=0: [slice(0, rows)] if rows else []
    model, views, mask = make_case(False, device)
    if name.startswith("ours, teacher logits"):
        model.keep_logits = 0
    if name.startswith("ours"):
        work = lambda: our_step(model, views, mask, "two passes" in name)  # noqa: E731
    else:
        work = lambda: plain_step(model, views, mask, "graph" in name, "all patches" in name)  # noqa: E731
    for _ in sys.stdin:
        model.zero_grad(set_to_none=True)
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - begin
        peak = (
            torch.cuda.max_memory_allocated()
            if device == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        print(json.dumps([taken, peak]), flush=True)


def measure(device: str, turns: int, threads: int) -> str:
    """The table of all cases."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.training_step",
        "--threads",
        str(threads),
        "--device",
        device,
        "--serve",
    ]
    servers = {
        n: subprocess.Popen([*command, n], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for n in CASES
    }
    times: dict[str, list[float]] = {name: [] for name in CASES}
    peaks = {}
    for turn in range(turns + 1):  # the first does not count
        for name, server in servers.items():
            server.stdin.write("step\n")
            server.stdin.flush()
            taken, peaks[name] = json.loads(server.stdout.readline())
            if turn:
                times[name].append(taken)
    for server in servers.values():
        server.communicate()
    plain = "plain two-pass DINOv2 step"
    rows = [
        [
            name,
            CASES[name],
            statistics.median(taken),
            statistics.median(a / b for a, b in zip(taken, times[plain], strict=True)),
            peaks[name] / 1e9,
            peaks[name] / peaks[plain],
        ]
        for name, taken in times.items()
    ]
    return markdown_table(
        ["case", "the saving that it lacks", "s a step", "time / plain", "peak GB", "peak / plain"], rows
    )


def main() -> None:
    """Compares both steps in time, memory and gradients and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--serve", metavar="CASE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.device, args.threads)
        return
    torch.set_num_threads(args.threads)
    model, views, mask = make_case(False, "cpu")
    setting = (
        f"ViT 192 x 6, {len(views.globals)} global crops {tuple(views.globals.shape[2:])} and {len(views.locals)} "
        f"local {tuple(views.locals.shape[2:])}, {int(mask.sum())} hidden patches, 2 x 65,536 prototypes, float32."
    )
    del model, views, mask
    parts = [compare_gradients(), setting, measure(args.device, args.turns, args.threads)]
    print(machine_line(), *parts, sep="\n\n")
    if args.out:
        notes = __doc__.split("\n\n", 2)[2].strip()
        write_page(args.out, "A training step", "python -m benchmarks.training_step", [notes, *parts])


if __name__ == "__main__":
    main()
