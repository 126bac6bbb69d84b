"""Which crop comes when: a pure function of (seed, step, place in the global batch), and its prefetching.

Nothing here has a state to save. The position in the data *is* the step, so a run resumes at any step, on
any number of ranks, and sees what it would have seen; how many threads read makes no difference. The
global batch of a step is the same for 1 rank x 2 B, 2 ranks x B, and 1 rank x B accumulated twice.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tapct_core.geometry import Shape

from .crop_store import CorruptScan, CropStore
from .hu_checks import not_hu

_ORDER, _PLACE, _VIEWS = 1, 2, 3
"""Streams of random numbers drawn from one seed, kept apart."""


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is cut: ``per_rank`` samples in each of ``accumulate`` micro-batches on ``world`` ranks."""

    per_rank: int
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    @property
    def size(self) -> int:
        """Samples in the global batch, which is one optimiser step."""
        return self.per_rank * self.accumulate * self.world

    def places(self, micro: int) -> range:
        """Places in the global batch of this rank's micro-batch ``micro``."""
        first = (self.rank * self.accumulate + micro) * self.per_rank
        return range(first, first + self.per_rank)


@dataclass(frozen=True)
class Sample:
    """One draw: which scan, where the block starts (z, y, x), and the seed of its views."""

    number: int
    scan_id: str
    start: Shape
    seed: int


class Sampler:
    """Draws samples of ``block`` voxels (z, y, x) from a store.

    ``sample_by`` "scan": epochs in which every scan comes once, in a new order each time; "body": scans in
    proportion to how much body they show, so that a whole trunk comes more often than a knee.
    """

    def __init__(self, store: CropStore, block: Shape, seed: int, sample_by: str = "scan") -> None:
        self.store, self.block, self.seed, self.sample_by = store, block, seed, sample_by
        amount = np.array([max(1, scan.body_cells) for scan in store.scans], dtype=np.float64)
        self._cumulative = np.cumsum(amount / amount.sum())

    def draw(
        self, step: int, place: int, batch_size: int, skipped: Callable[[CorruptScan], None] | None = None
    ) -> Sample:
        """The sample at ``place`` (0 to ``batch_size``) of the global batch of ``step``.

        A damaged scan is replaced by another draw from the same stream and handed to ``skipped``.
        Raises CorruptScan after 20 damaged scans running.
        """
        return self._attempts(step * batch_size + place, lambda sample: sample, skipped)

    def read(
        self, step: int, place: int, batch_size: int, skipped: Callable[[CorruptScan], None] | None = None
    ) -> tuple[Sample, np.ndarray]:
        """As :meth:`draw`, with the block itself, int16 HU; one whose numbers are no HU counts as damaged."""
        return self._attempts(step * batch_size + place, self._block, skipped)

    def _block(self, sample: Sample) -> tuple[Sample, np.ndarray]:
        block = self.store.read_block(sample.scan_id, sample.start, self.block)
        wrong = not_hu(block, block=True)
        if wrong:
            raise CorruptScan(sample.scan_id, wrong)
        return sample, block

    def _attempts(self, number: int, use: Callable, skipped: Callable[[CorruptScan], None] | None):
        for attempt in range(20):
            try:
                return use(self._sample(number, attempt))
            except CorruptScan as damage:
                if skipped is not None:
                    skipped(damage)
                last = damage
        raise last

    def _sample(self, number: int, attempt: int) -> Sample:
        rng = np.random.default_rng([self.seed, _PLACE, number, attempt])
        if attempt or self.sample_by == "body":
            scan = int(np.searchsorted(self._cumulative, rng.random()).clip(0, len(self.store) - 1))
        else:
            epoch, within = divmod(number, len(self.store))
            scan = int(_epoch_order(self.seed, epoch, len(self.store))[within])
        scan_id = self.store.scans[scan].scan_id
        start = self.store.place_block(scan_id, self.block, rng)
        seed = int(np.random.SeedSequence([self.seed, _VIEWS, number]).generate_state(1, np.uint64)[0] >> 1)
        return Sample(number, scan_id, start, seed)


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


@dataclass(frozen=True)
class MicroBatch:
    """What a rank computes at once: B blocks and where they came from."""

    blocks: Tensor
    """(B, D, H, W) int16 HU."""
    seeds: np.ndarray
    """(B,) int64, of the samples' views."""
    spacing_mm: Tensor
    """(B, 3) mm between voxels, (z, y, x)."""
    samples: tuple[Sample, ...]


class Prefetcher:
    """Reads the micro-batches of the coming steps in threads while the current one is computed.

    Threads, not worker processes: decompression releases the interpreter lock, and no volume is copied
    through a pipe. Use as a context manager; iterating gives (step, [MicroBatch, ...]) from ``first_step`` on.
    """

    def __init__(
        self, sampler: Sampler, plan: BatchPlan, first_step: int, ahead: int = 2, threads: int = 2, pin: bool = False
    ):
        self.sampler, self.plan, self.next_step, self.ahead, self.pin = sampler, plan, first_step, max(1, ahead), pin
        self._skipped: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="crops")
        self._waiting: dict[int, list[list[Future]]] = {}

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> tuple[int, list[MicroBatch]]:
        step = self.next_step
        for coming in range(step, step + self.ahead + 1):
            if coming not in self._waiting:
                self._waiting[coming] = [
                    [self._pool.submit(self._read, coming, place) for place in self.plan.places(micro)]
                    for micro in range(self.plan.accumulate)
                ]
        self.next_step += 1
        return step, [self._collate([future.result() for future in micro]) for micro in self._waiting.pop(step)]

    def skipped(self) -> set[str]:
        """What was said of damaged scans met so far; each begins with ``scan`` and the scan's id."""
        return set(self._skipped.copy().values())  # a copy first: threads may add

    def _read(self, step: int, place: int) -> tuple[Sample, np.ndarray]:
        return self.sampler.read(step, place, self.plan.size, self._note)

    def _note(self, damage: CorruptScan) -> None:
        self._skipped.setdefault(damage.scan_id, str(damage))

    def _collate(self, parts: list[tuple[Sample, np.ndarray]]) -> MicroBatch:
        blocks = torch.from_numpy(np.stack([block for _, block in parts]))
        samples = tuple(sample for sample, _ in parts)
        return MicroBatch(
            blocks.pin_memory() if self.pin else blocks,
            np.array([sample.seed for sample in samples], dtype=np.int64),
            torch.tensor([self.sampler.store.spacing_mm(sample.scan_id) for sample in samples]),
            samples,
        )
