"""The sampler is a pure function of (seed, step, place): threads, ranks and accumulation cannot change it."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.volume import to_int16_hu
from training.data.crop_store import CropStore, create_store, write_scan
from training.data.hu_checks import not_hu
from training.data.sampler import BatchPlan, Prefetcher, Sampler

BLOCK = (8, 24, 24)


def seen(store, plan: BatchPlan, steps: int, threads: int, first: int = 0, seed: int = 5) -> list:
    """(scan, start, seed, first voxels) of every sample of some steps on one rank."""
    with Prefetcher(Sampler(CropStore(store), BLOCK, seed), plan, first, ahead=2, threads=threads) as batches:
        out = []
        for _ in range(steps):
            _, micro_batches = next(batches)
            out.append([
                (s.scan_id, s.start, s.seed, block.numpy().tobytes())
                for micro in micro_batches for s, block in zip(micro.samples, micro.blocks, strict=True)
            ])  # fmt: skip
        return out


def test_threads_do_not_matter(store):
    assert seen(store, BatchPlan(4), 5, threads=1) == seen(store, BatchPlan(4), 5, threads=7)


def test_a_later_start_sees_the_same_steps(store):
    assert seen(store, BatchPlan(4), 6, 2)[3:] == seen(store, BatchPlan(4), 3, 2, first=3)


def test_ranks_and_accumulation_cut_the_same_global_batch(store):
    whole = seen(store, BatchPlan(8), 3, 2)
    ranks = [seen(store, BatchPlan(4, rank=rank, world=2), 3, 2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole
    assert seen(store, BatchPlan(2, accumulate=4), 3, 2) == whole
    both = [seen(store, BatchPlan(2, accumulate=2, rank=rank, world=2), 3, 2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*both, strict=True)] == whole


def test_another_seed_sees_other_crops(store):
    assert seen(store, BatchPlan(4), 1, 1, seed=5) != seen(store, BatchPlan(4), 1, 1, seed=6)


def test_an_epoch_takes_every_scan_once(store):
    sampler = Sampler(CropStore(store), BLOCK, seed=0)
    count = len(sampler.store)
    for epoch in range(3):
        ids = [sampler.draw(step, 0, 1).scan_id for step in range(epoch * count, (epoch + 1) * count)]
        assert sorted(ids) == [scan.scan_id for scan in sampler.store.scans]
    seeds = {sampler.draw(step, place, 4).seed for step in range(20) for place in range(4)}
    assert len(seeds) == 80 and min(seeds) >= 0


def test_by_body_scans_come_in_proportion(store):
    crops = CropStore(store)
    sampler = Sampler(crops, BLOCK, seed=0, sample_by="body")
    drawn = [sampler.draw(step, 0, 1).scan_id for step in range(600)]
    total = sum(scan.body_cells for scan in crops.scans)
    for scan in crops.scans:
        expected = scan.body_cells / total
        assert drawn.count(scan.scan_id) / 600 == pytest.approx(expected, abs=4 * np.sqrt(expected / 600))


def test_micro_batches_carry_what_the_losses_need(store):
    with Prefetcher(Sampler(CropStore(store), BLOCK, 0), BatchPlan(3), 0) as batches:
        _, (micro,) = next(batches)
    assert micro.blocks.shape == (3, *BLOCK) and str(micro.blocks.dtype) == "torch.int16"
    assert micro.seeds.shape == (3,) and micro.seeds.dtype == np.int64
    assert micro.spacing_mm.tolist() == [[4.0, 4.0, 4.0]] * 3


def test_a_block_that_is_not_in_hu_counts_as_damaged_and_is_named(store, tmp_path):
    """A store made before ingest looked at the scale: what is drawn from a scan of it is replaced."""
    crops = CropStore(store)
    create_store(tmp_path / "store", {"spacing_mm": None, "crop_body": False})
    for number, scan in enumerate(crops.scans):
        hu = to_int16_hu((3.0 if number else 1.0) * crops.read_scan(scan.scan_id))
        write_scan(tmp_path / "store", scan.scan_id, hu, crops.geometry(scan.scan_id), {})
    sampler = Sampler(CropStore(tmp_path / "store"), BLOCK, seed=0)
    skipped = []
    drawn = [sampler.read(step, 0, 1, skipped.append) for step in range(120)]
    assert skipped and crops.scans[0].scan_id not in {damage.scan_id for damage in skipped}
    assert all("scaled" in str(damage) for damage in skipped)
    assert all(not not_hu(block, block=True) for _, block in drawn)
