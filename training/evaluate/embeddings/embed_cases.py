"""Frozen embeddings, made once: every case of a data set under one row of the table, in the FeatureStore.

    embedded = embed_cases(run, row, dataset.by_id(), store)
    for id in embedded.outcome.results:
        features = embedded.features(id)      # a FeatureMap, read from the store

Features are found by what they were made from, so runs that share a store (--features) share them, and a second
head on the same encoder embeds nothing.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from tapct_core.embedding import embed, kept_geometry, peak_bytes
from tapct_core.encoders import Encoder
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.io import load_ct, load_labels
from tapct_core.preprocessing import plan_geometry
from tapct_core.provenance import CODE_VERSION, feature_key
from tapct_core.store import FeatureStore
from tapct_core.volume import CTVolume, LabelMap

from ...run.log import forward_flops
from ..datasets.cases import Case, stamp
from ..runs.run_folder import Outcome, RunFolder, each, reason, say
from .rows import LoadedRow

GRID_TOLERANCE_MM = 0.1
"""Labels whose corners lie further from the scan's are on another grid; headers are often rounded to less."""
LOOKED_AT = 3
"""Scans that are read to say what a run will need: the smallest, the middle one and the largest by their files."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """The features of one row. ``outcome.results[id]`` says of a case:

    ``store`` (its key), ``tokens`` [Z, Y, X], ``dim``, ``windows``, ``gflop``, ``megabytes``, ``shape`` and
    ``spacing_mm`` of the scan, ``seconds`` (None where the store had it), ``labels`` {value: voxels} where it has any
    and ``label_names`` {value: name} as its file gives them, ``scan_header``: its own header was wrong.
    """

    row: LoadedRow
    cases: Mapping[str, Case]
    store: FeatureStore
    outcome: Outcome

    def features(self, id: str) -> FeatureMap:
        """The case's FeatureMap; embedded again should it have gone from the store. Raises UserError."""
        key = self.outcome.results[id]["store"]
        found = self.store.get(key)
        if found is None:
            found = _embed(load_ct(self.cases[id].ct), self.row, self.store)[0]
        if self.row.row.in_plane is not None:
            # The spacing follows from each scan's field of view; what scans have in common is the size in pixels.
            size = f"{self.row.row.in_plane} pixels a side"
            found = replace(found, provenance={**found.provenance, "plan": "release", "spacing_mm": size})
        return found

    def key(self, id: str) -> str:
        """Changes whenever the case's features or files would."""
        return f"{self.outcome.results[id]['store']} {stamp(self.cases[id].files())}"


def open_store(folder: Path) -> FeatureStore:
    """The evaluation's own store: without a limit, since what is evicted would be embedded again and again."""
    return FeatureStore(folder, limit_gb=math.inf)


def embed_cases(run: RunFolder, row: LoadedRow, cases: Mapping[str, Case], store: FeatureStore) -> Embedded:
    """Embeds what is not there yet, over all ranks; cases whose scan or labels cannot be used are broken ones.

    Labels are looked at before the scan is embedded: they must exist and lie on the scan's grid.
    """
    weights = "none" if row.encoder is None else row.encoder.weights_hash
    made_of = f"{weights} {row.spec} {row.row.in_plane} {row.row.overlap} {CODE_VERSION}"

    def work(case: Case) -> dict:
        volume = load_ct(case.ct)
        labels = read_labels(case, volume) if case.labels is not None else None
        features, seconds = _embed(volume, row, store)
        return {
            "store": features.provenance["key"],
            "tokens": features.geometry.shape,
            "dim": features.dim,
            "windows": len(features.windows),
            "gflop": gflop(row, features),
            "megabytes": (features.tokens.nbytes + features.hu.nbytes) / 1e6,
            "shape": volume.geometry.shape,
            "spacing_mm": volume.geometry.spacing_mm,
            "seconds": seconds,
            "labels": None if labels is None else label_counts(labels),
            "label_names": {} if labels is None else labels.names,
            "scan_header": labels is not None and labels.geometry is volume.geometry,
        }

    outcome = each(
        run,
        run.part(row.name, "embed"),
        dict(cases),
        work,
        key=lambda id: f"{made_of} {stamp(cases[id].files())}",
        what=f"embedding with {row.name}",
    )
    return Embedded(row, cases, store, outcome)


def read_labels(case: Case, volume: CTVolume) -> LabelMap:
    """The case's label map, on the scan's grid. Raises UserError naming what is wrong."""
    if case.labels is None or not case.labels.exists():
        raise UserError(f"its label map {case.labels.name if case.labels else ''} is not there")
    labels = load_labels(case.labels)
    if labels.geometry.matches(volume.geometry, tolerance_mm=GRID_TOLERANCE_MM):
        return labels
    if case.scan_header and labels.source.file_shape == volume.source.file_shape:
        return _on_grid_of(labels, volume)
    what = "has another shape" if labels.geometry.shape != volume.geometry.shape else "lies elsewhere"
    raise UserError(
        f"its label map {what}: {labels.geometry.shape} at {_mm(labels.geometry.spacing_mm)}, the scan is "
        f"{volume.geometry.shape} at {_mm(volume.geometry.spacing_mm)}; resample the labels onto the scan"
    )


def labels_of(case: Case) -> LabelMap:
    """The case's label map once more, after :func:`read_labels` has found it good; the scan is read if need be."""
    return read_labels(case, load_ct(case.ct)) if case.scan_header else load_labels(case.labels)


def _on_grid_of(labels: LabelMap, volume: CTVolume) -> LabelMap:
    """The label map with the scan's header: voxel by voxel in the order in which both files hold them."""
    stored = labels.source.orientation.undo(labels.labels)
    turned = np.ascontiguousarray(volume.source.orientation.apply(stored))
    return LabelMap(turned, volume.geometry, volume.source, labels.names)


def label_counts(labels: LabelMap) -> dict[int, int]:
    """Voxels of each label value that occurs."""
    values, counts = np.unique(labels.labels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def gflop(row: LoadedRow, features: FeatureMap) -> float:
    """Floating-point operations of embedding one scan, in 10^9: by a ViT's shape, counted for other networks; 0 without
    an encoder."""
    if row.encoder is None:
        return 0.0
    window = tuple(t * p for t, p in zip(features.window_tokens, row.spec.patch_size, strict=True))
    if row.encoder.depth is None:
        return len(features.windows) * _counted_flops(row.encoder, window) / 1e9
    return len(features.windows) * forward_flops(row.encoder.vit.config, window) / 1e9


@lru_cache(maxsize=8)
def _counted_flops(encoder: Encoder, window: tuple[int, int, int]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        encoder.encode(torch.zeros(1, *window, dtype=torch.int16))
    return counter.get_total_flops()


def announce_needs(
    rows: Sequence[LoadedRow],
    cases: Mapping[str, Case],
    run: RunFolder,
    store: FeatureStore,
    head_bytes: Callable[[LoadedRow], float] = lambda row: 0.0,
) -> None:
    """Says what the run will take on disk and in memory, from a look at three scans.

    ``head_bytes``: what fitting a row's head takes, where that is much. Says nothing where everything is embedded
    already. Raises UserError where the disk has not the space.
    """
    left = {row.name: [id for id in cases if run.record(run.part(row.name, "embed"), id) is None] for row in rows}
    if not any(left.values()):
        return
    volumes = _look_at(cases)
    if not volumes:
        return  # every one of them is broken, and embedding will name them
    disk = memory = 0.0
    for row in rows:
        needs = [_needs(row, volume) for volume in volumes]
        disk += len(left[row.name]) * sum(stored for stored, _ in needs) / len(needs)
        memory = max(memory, head_bytes(row), *(peak for _, peak in needs))
    place = next(folder for folder in (store.folder, *store.folder.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    say(
        f"{len(cases)} cases, {len(rows)} row{'s' * (len(rows) != 1)}: about {disk / 1e9:.2g} GB of features in "
        f"{store.folder} ({free / 1e9:.3g} GB are free), and up to {memory / 1e9:.2g} GB of memory a process"
    )
    if disk > free:
        raise UserError(
            f"{store.folder} has {free / 1e9:.3g} GB free and the features need about {disk / 1e9:.3g} GB; "
            "name a larger disk with --features"
        )


def _embed(volume: CTVolume, row: LoadedRow, store: FeatureStore) -> tuple[FeatureMap, float | None]:
    """From the store, or made and kept -> (features, seconds or None). Raises DiskFullError when it is full."""
    spec = row.spec_for(volume.geometry)
    key = feature_key(volume, row.encoder, spec, row.row.overlap)
    found = store.get(key)
    if found is not None:
        return found, None
    began = time.perf_counter()
    spacing = spec.spacing_mm if spec.plan == "spacing" else None
    checkpoint = store.folder / f".{key[:20]}.checkpoint" if row.encoder is not None else None
    store.folder.mkdir(parents=True, exist_ok=True)
    features = embed(volume, row.encoder, spec.plan, spacing, row.row.overlap, checkpoint=checkpoint)
    seconds = time.perf_counter() - began
    store.put(key, features)
    return features, seconds


def _needs(row: LoadedRow, volume: CTVolume) -> tuple[float, float]:
    """Bytes that one scan's features take on disk, and bytes of memory at the peak of embedding it."""
    spec = row.spec_for(volume.geometry)
    plan = plan_geometry(volume.geometry, spec)
    grid = tuple(-(-n // p) for n, p in zip(plan.shape, spec.patch_size, strict=True))
    dim = 0 if row.encoder is None else row.encoder.embed_dim
    network = 0 if row.encoder is None else 4 * sum(t.numel() for t in row.encoder.network.parameters())
    resampled = not plan.matches(volume.geometry)
    kept = plan if row.encoder is None else kept_geometry(volume.geometry, plan)
    finer = 0 if kept is plan else 2 * math.prod(kept.shape)
    peak = peak_bytes(
        volume.geometry.shape, plan.shape, grid, dim, row.row.overlap, resampled=resampled, checkpoint=True
    )
    return 2.0 * math.prod(grid) * dim + 1.2 * math.prod(kept.shape), float(peak + finer + volume.hu.nbytes + network)


def _look_at(cases: Mapping[str, Case]) -> list[CTVolume]:
    """The smallest, the middle and the largest scan that can be read, by the size of their files."""
    sized = sorted((_size(case.ct), id) for id, case in cases.items())
    chosen = sorted({0, len(sized) // 2, len(sized) - 1})[:LOOKED_AT]
    volumes = []
    for number in chosen:
        id = sized[number][1]
        try:
            volumes.append(load_ct(cases[id].ct))
        except UserError as error:
            say(f"{id} cannot be read: {reason(error)}")
    return volumes


def _size(path: Path) -> int:
    try:
        return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _mm(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing) + " mm"
