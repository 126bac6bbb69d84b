"""One self-supervised step: what the student is asked, what the teacher answers, and the sum of the losses.

DINOv2's step (Oquab et al. 2023, arXiv 2304.07193) on 3D crops, with an optional dense correspondence loss.

* The teacher goes first, over all micro-batches, and leaves only unit vectors of its head behind. So Sinkhorn
  and the centres see the whole batch (of all ranks), and accumulating gradients gives the losses of one
  large batch.
* The student sees global and local crops in one pass. Its loss is backpropagated micro-batch by micro-batch.
* Centres and the teacher's sharpness are written when :meth:`StudentTeacher.update_teacher` is called, after an
  optimiser step: a step that is skipped leaves no trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tapct_core.vit import VisionTransformer3D, ViTConfig

from ..data.views import Views
from ..losses.dense import dense_loss, find_correspondences
from ..losses.dino import Rows, dino_loss
from ..losses.ibot import ibot_loss
from ..losses.koleo import koleo_loss
from ..losses.sinkhorn import KEEP, MIN_TEMPERATURE, CentredTargets, SinkhornTargets
from ..run.distributed import all_reduce_mean
from ..run.limit import TEMPERATURE, WEIGHT, Limit, limited
from .ema import update_average
from .projection_heads import HeadSpec, ProjectionHead


@dataclass(frozen=True)
class LossSpec:
    """Weights of the losses (0 leaves one out) and how targets are made."""

    dino: float = limited(1.0, WEIGHT)
    ibot: float = limited(1.0, WEIGHT)
    koleo: float = limited(0.1, WEIGHT)
    dense: float = limited(0.0, WEIGHT)
    centring: Literal["sinkhorn", "softmax"] = "sinkhorn"
    student_temperature: float = limited(0.1, TEMPERATURE)
    centre_momentum: float = limited(0.9, Limit(0, 1, below=True))
    entropy_target: float = limited(0.0, Limit(0, 1, below=True))
    """Share of ln K that the teacher's mean entropy is steered to by sharpening it; 0 leaves the schedule alone."""
    sharpest: float = limited(0.25, Limit(0, 1, above=True))
    """The steered temperature is never under this part of the schedule's."""
    koleo_group: int = limited(0, Limit(0, 10**6))
    """Crops among which KoLeo looks for neighbours; 0: the micro-batch. Fix it to compare batch sizes."""
    dense_points: int = limited(128, Limit(1, 10**6))
    dense_temperature: float = limited(0.1, TEMPERATURE)
    dense_guard_mm: float = limited(10.0, Limit(0, 1000))
    dense_positives: Literal["teacher", "student"] = "teacher"

    def __post_init__(self) -> None:
        if min(self.dino, self.ibot, self.koleo, self.dense) < 0 or self.dino + self.ibot + self.dense <= 0:
            raise ValueError("loss weights are not negative, and one of dino, ibot and dense is positive")
        if self.centring not in ("sinkhorn", "softmax"):
            raise ValueError(f"centring is sinkhorn or softmax, not {self.centring!r}")
        if not 0 <= self.entropy_target < 1 or not 0 < self.sharpest <= 1:
            raise ValueError("entropy_target lies in [0, 1) and sharpest in (0, 1]")
        if min(self.student_temperature, self.dense_temperature) < MIN_TEMPERATURE:
            raise ValueError(f"temperatures are at least {MIN_TEMPERATURE}")

    @property
    def asks_teacher(self) -> bool:
        """Some loss needs the teacher's word; otherwise it is only the student's average, and costs no forward."""
        return self.dino > 0 or self.ibot > 0 or (self.dense > 0 and self.dense_positives == "teacher")


class BranchOutput(NamedTuple):
    """What a student or a teacher says of its crops; a head that is not there gives None."""

    cls: Tensor  # (2B, C) class tokens of the global crops, before the head
    patches: Tensor  # (2B, Z, Y, X, C) patch tokens of the global crops
    dino: Tensor | None  # (V B, b) unit rows, all crops, the global ones first
    ibot: Tensor | None  # (M, b) unit rows, hidden patches
    dino_prototypes: Tensor | None  # (K, b) unit rows
    ibot_prototypes: Tensor | None


class Branch(nn.Module):
    """Encoder and heads. Prototypes leave through ``forward`` too, so that DDP and FSDP see all that is used."""

    def __init__(self, config: ViTConfig, dino: HeadSpec | None, ibot: HeadSpec | None, shared: bool) -> None:
        """``shared``: iBOT uses DINO's head. A head given as None is not made."""
        super().__init__()
        self.backbone = VisionTransformer3D(config)
        self.dino_head = ProjectionHead(config.embed_dim, dino) if dino else None
        self.ibot_head = ProjectionHead(config.embed_dim, ibot) if ibot and not shared else None
        self.shared = shared

    def forward(self, crops: Sequence[Tensor], mask: Tensor | None, hidden: Tensor) -> BranchOutput:
        """Global crops, then local ones if any; ``mask`` (2B, N) or None; ``hidden`` (M,) flat indices into 2B N."""
        tokens = self.backbone(list(crops), [mask] + [None] * (len(crops) - 1))
        patches = tokens[0].patches
        dino = self.dino_head(torch.cat([t.cls for t in tokens])) if self.dino_head else None
        head = self.dino_head if self.shared else self.ibot_head
        ibot = head(patches.flatten(0, 1)[hidden]) if head else None
        dino_prototypes = self.dino_head.unit_prototypes() if self.dino_head else None
        ibot_prototypes = dino_prototypes if self.shared else head.unit_prototypes() if head else None
        return BranchOutput(tokens[0].cls, tokens[0].map(), dino, ibot, dino_prototypes, ibot_prototypes)


@dataclass
class LossReport:
    """One step's losses and what health is measured on; tensors are detached, this rank's, and not yet read."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """Unweighted, by name: dino, ibot, koleo, dense, those that are in use; and ``total``, weighted."""
    targets: Tensor | None = None
    """(2B, K) the teacher's targets of all global crops; None without DINO."""
    cls: Tensor | None = None
    """(B, C) the class tokens of the first global crop of every sample: the teacher's, where it is asked at all."""
    temperatures: dict[str, Tensor] = field(default_factory=dict)
    """The teacher temperature that was used, by loss."""
    hidden: int = 0
    """Patches hidden from the student."""


@dataclass
class _Step:
    """What the micro-batches of one step share: the targets of all their rows, and how far they are used."""

    samples: int
    targets: dict[str, SinkhornTargets | CentredTargets] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    tables: list[Tensor] = field(default_factory=list)

    def next_rows(self, name: str, count: int) -> Rows:
        """The targets of the next micro-batch's ``count`` rows, addressed from 0."""
        start = self.used.get(name, 0)
        self.used[name] = start + count
        return lambda part: self.targets[name].rows(slice(start + part.start, start + part.stop))


class StudentTeacher(nn.Module):
    """Student, teacher, and the state of the losses. Wrap or shard ``student`` as you like and pass its callable."""

    def __init__(
        self,
        config: ViTConfig,
        dino_head: HeadSpec,
        loss: LossSpec,
        ibot_head: HeadSpec | None = None,
        autocast: torch.dtype | None = None,
        keep_logits: int = KEEP,
    ) -> None:
        """``ibot_head``: a head of its own for iBOT; None shares DINO's. ``autocast``: the forward passes' type.

        ``keep_logits``: teacher logits held between Sinkhorn's passes up to this count; more are made again.
        """
        super().__init__()
        self.spec, self.autocast, self.keep_logits = loss, autocast, keep_logits
        shared = bool(loss.ibot and loss.dino and ibot_head is None)
        dino = dino_head if loss.dino else None
        ibot = (ibot_head or dino_head) if loss.ibot else None
        self.student = Branch(config, dino, ibot, shared)
        self.teacher = deepcopy(self.student).requires_grad_(False)
        for module in self.teacher.modules():
            if hasattr(module, "drop_path"):
                module.drop_path = 0.0
        for name, head in (("dino", dino), ("ibot", ibot)):
            if head:
                self.register_buffer(f"{name}_centre", torch.zeros(head.prototypes))
                self.register_buffer(f"{name}_sharpness", torch.zeros(()))  # log of the factor on the temperature
        self._pending: dict[str, Tensor] = {}
        self.train()

    def train(self, mode: bool = True) -> StudentTeacher:
        """The teacher never trains: no drop path, whatever the student does."""
        super().train(mode)
        self.teacher.eval()
        return self

    def step_losses(
        self,
        micro_batches: Sequence[Views],
        masks: Sequence[Tensor],
        teacher_temperature: float,
        *,
        spacing_mm: Tensor | None = None,
        student: Callable[..., BranchOutput] | None = None,
        sync: Callable[[bool], AbstractContextManager] | None = None,
        backward: bool = True,
    ) -> LossReport:
        """Losses of one optimiser step and, into ``.grad``, their gradient.

        ``masks``       per micro-batch bool (2B, N), True where the student sees nothing.
        ``spacing_mm``  (3,) or a list of (B, 3): mm between a block's voxels (z, y, x), for the dense loss.
        ``student``     the wrapped student (DDP); default: :attr:`student` itself.
        ``sync(last)``  context for a micro-batch's forward and backward; hand DDP's ``no_sync`` unless last.
        """
        student = student or self.student
        hidden = [mask.flatten().nonzero()[:, 0] for mask in masks]
        asked = self.spec.asks_teacher
        answers = self._ask_teacher(micro_batches, hidden) if asked else []
        report = LossReport(hidden=sum(len(where) for where in hidden))
        cls = [answer.cls for answer in answers]
        step = _Step(sum(views.batch for views in micro_batches))
        for name in ("dino", "ibot"):
            if self._uses(name):
                step.targets[name] = self._targets(name, answers, teacher_temperature, report)
        answers = [answer._replace(dino_prototypes=None, ibot_prototypes=None) for answer in answers]
        for i, (views, mask) in enumerate(zip(micro_batches, masks, strict=True)):
            spacing = spacing_mm[i] if isinstance(spacing_mm, Sequence) else spacing_mm
            last = i == len(micro_batches) - 1
            with sync(last) if sync else nullcontext():
                crops = [views.globals, views.locals] if len(views.locals) else [views.globals]
                with self._precision(views.globals):
                    output = student(crops, mask, hidden[i])
                losses = self._losses(step, views, mask, output, answers[i] if asked else None, spacing)
                total = sum(getattr(self.spec, name) * loss for name, loss in losses.items())
                if last:
                    step.targets.clear()  # kept teacher logits need not outlive their use
                if backward:
                    total.backward()
            for name, loss in [*losses.items(), ("total", total)]:
                report.losses[name] = report.losses.get(name, 0) + loss.detach()
            if not asked:
                cls.append(output.cls.detach())
        report.cls = torch.cat([tokens.chunk(2)[0] for tokens in cls]).float()
        report.targets = torch.cat(step.tables) if step.tables else None
        return report

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """After an optimiser step: move the teacher towards the student, and take over centres and sharpness."""
        update_average(self.teacher, self.student, momentum)
        for name, value in self._pending.items():
            getattr(self, name).copy_(value)
        self._pending = {}

    # ---- parts of a step

    def _uses(self, name: str) -> bool:
        return getattr(self.spec, name) > 0

    def _losses(
        self,
        step: _Step,
        views: Views,
        mask: Tensor,
        output: BranchOutput,
        answer: BranchOutput | None,
        spacing: Tensor | None,
    ) -> dict[str, Tensor]:
        """The unweighted losses of one micro-batch, each its share of the whole step's."""
        losses = {}
        share = views.batch / step.samples
        how = {"temperature": self.spec.student_temperature, "dtype": self._product_dtype}
        if self._uses("dino"):
            table = step.next_rows("dino", 2 * views.batch)(slice(0, 2 * views.batch))
            step.tables.append(table)
            losses["dino"] = dino_loss(output.dino, output.dino_prototypes, table, views.batch, share, **how)
        if self._uses("ibot"):
            rows = step.next_rows("ibot", len(output.ibot))
            losses["ibot"] = ibot_loss(output.ibot, output.ibot_prototypes, rows, mask, 2 * step.samples, **how)
        if self._uses("koleo"):
            # summed over the two views, as DINOv2 does: neighbours are looked for within a view
            group = self.spec.koleo_group or None
            losses["koleo"] = sum(koleo_loss(view, group) for view in output.cls.chunk(2)) * share
        if self._uses("dense"):
            losses["dense"] = self._dense(views, mask, output, answer, spacing) * share
        return losses

    def _precision(self, like: Tensor) -> AbstractContextManager:
        return torch.autocast(like.device.type, self.autocast) if self.autocast else nullcontext()

    @property
    def _product_dtype(self) -> torch.dtype:
        return self.autocast or torch.float32

    @torch.no_grad()
    def _ask_teacher(self, micro_batches: Sequence[Views], hidden: Sequence[Tensor]) -> list[BranchOutput]:
        """The teacher on whole global crops; patch maps are kept only where the dense loss reads them."""
        answers = []
        wants_maps = self.spec.dense and self.spec.dense_positives == "teacher"
        for views, where in zip(micro_batches, hidden, strict=True):
            with self._precision(views.globals):
                answer = self.teacher([views.globals], None, where)
            # the same prototypes come with every micro-batch; one copy (K x b) will do
            spare = {"dino_prototypes": None, "ibot_prototypes": None} if answers else {}
            answers.append(answer._replace(**spare, patches=answer.patches if wants_maps else answer.patches[:0]))
        return answers

    @torch.no_grad()
    def _targets(
        self, name: str, answers: Sequence[BranchOutput], temperature: float, report: LossReport
    ) -> SinkhornTargets | CentredTargets:
        """Targets over the rows of all micro-batches; the next centre and sharpness wait in ``_pending``."""
        features = torch.cat([getattr(answer, name) for answer in answers])
        prototypes = getattr(answers[0], f"{name}_prototypes")
        sharpness: Tensor = getattr(self, f"{name}_sharpness")
        used = (temperature * sharpness.exp()).clamp(min=MIN_TEMPERATURE if self.spec.centring == "sinkhorn" else 1e-3)
        report.temperatures[name] = used
        if self.spec.centring == "sinkhorn":
            targets = SinkhornTargets(features, prototypes, used, dtype=self._product_dtype, keep=self.keep_logits)
        else:
            targets = CentredTargets(features, prototypes, used, getattr(self, f"{name}_centre"), self._product_dtype)
            self._pending[f"{name}_centre"] = targets.next_centre(self.spec.centre_momentum)
        if self.spec.entropy_target:
            self._pending[f"{name}_sharpness"] = self._steer(targets, sharpness)
        return targets

    def _steer(self, targets: SinkhornTargets | CentredTargets, sharpness: Tensor) -> Tensor:
        """The next sharpness: towards the wanted entropy by at most 5 % a step, within its bounds.

        Entropy is that of the first 256 rows, averaged over ranks: steering needs no more.
        """
        rows = targets.rows(slice(0, min(256, len(targets))))
        most = math.log(rows.shape[1])
        entropy = torch.special.entr(rows).sum(dim=1)
        entropy = entropy.mean() if len(rows) else entropy.new_tensor(self.spec.entropy_target * most)
        error = self.spec.entropy_target - all_reduce_mean(entropy) / most
        return (sharpness + error.clamp(-0.05, 0.05)).clamp(math.log(self.spec.sharpest), 0.0)

    def _dense(
        self, views: Views, mask: Tensor, output: BranchOutput, answer: BranchOutput | None, spacing: Tensor | None
    ) -> Tensor:
        grid = tuple(output.patches.shape[1:4])
        patch = tuple(size // n for size, n in zip(views.globals.shape[2:], grid, strict=True))
        # air looks the same everywhere: to ask where it is only teaches noise
        left_out = mask | views.air
        places = find_correspondences(views.placement, views.seeds, grid, patch, self.spec.dense_points, left_out)
        maps = answer.patches if self.spec.dense_positives == "teacher" else output.patches
        spacing = torch.ones(3) if spacing is None else spacing
        return dense_loss(
            output.patches,
            maps.roll(views.batch, 0),
            places,
            spacing,
            self.spec.dense_guard_mm,
            self.spec.dense_temperature,
        )
