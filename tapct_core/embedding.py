"""embed(): one CT and a frozen encoder in, a FeatureMap out.

The road: resample to the plan's grid, lay token-aligned windows over it, skip those that hold only air,
encode the rest in batches, put their tokens together. What comes out does not depend on the order in
which windows are taken, and on the batch size only within float rounding: batches are cut from one
fixed list, each token is written by the one window that owns it, and overlapped tokens are summed on a
fixed-point grid, where addition has no rounding.

Memory besides the scan is the HU of the plan's grid plus the token grid: float16 without overlap, float32
and once more float16 with it (:func:`peak_bytes`).
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .embedding_state import Canvas, EmbeddingState
from .encoders import Encoder
from .errors import UserError
from .features import FeatureMap
from .geometry import Geometry, Shape
from .preprocessing import InputSpec, plan_geometry, resample_hu
from .progress import Cancel, EmbeddingCancelled, Progress
from .provenance import feature_key, provenance
from .sliding_windows import OVERLAP, fitted_window, plan_windows
from .store import FeatureStore
from .volume import AIR_HU, CTVolume

log = logging.getLogger(__name__)

AIR_LIMIT_HU = -950.0
"""A window is air when each of its patches averages at most this. Averages, because scanner noise lifts single
voxels of air above any limit that lung tissue would pass; -950 HU is the usual border of emphysema, and a body
surface that fills 5 % of one patch with soft tissue is already above it."""

HU_ALONE = InputSpec(patch_size=(4, 4, 4), img_size=(12, 48, 48), plan="spacing", spacing_mm=(2.5, 2.0, 2.0))
"""The grid of a map without an encoder: for matching by HU."""

CHECKPOINT_SECONDS = 60.0
SAVING_SHARE = 0.1
"""A big map takes seconds to write: saving never takes more than this share of the time."""
TOKENS_PER_BATCH = {"cpu": 2400, "cuda": 40_000}
"""Default batch: windows up to this many tokens in all. On a CPU a whole TAP-CT window already fills the cores."""

LARGEST_GRID = 2**32
"""Voxels; a plan that asks for more is a slip of the spacing."""


def embed(
    volume: CTVolume,
    encoder: Encoder | None,
    plan: str | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    overlap: float = OVERLAP,
    batch_size: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    focus_lps_mm: tuple[float, float, float] | None = None,
    checkpoint: Path | None = None,
) -> FeatureMap:
    """Features of a CT.

    ``encoder``      an Encoder, or None: then tokens have no channels and the map carries HU alone.
    ``plan``, ``spacing_mm`` (z, y, x) override the encoder's own; a spacing alone means the spacing plan.
    ``overlap``      share of a window that the next one repeats; 0.75 costs 4 to 64 times the time.
    ``batch_size``   windows a batch; default by device.
    ``progress``     called with (windows done, windows in all), at the start and after every batch.
    ``cancel``       asked before every batch; True raises EmbeddingCancelled.
    ``focus_lps_mm`` a point in LPS mm: windows nearest to it go first. The result is the same.
    ``checkpoint``   a file that gets the state every minute and when the run is broken off. A run that
                     finds it continues there and ends with the same bytes; it is gone when embed returns.

    Raises UserError for a scan of air, a plan that does not fit, or a checkpoint of another scan.
    """
    layout = _lay_out(volume, effective_spec(encoder, plan, spacing_mm), overlap)
    facts = provenance(volume, encoder, layout.spec, overlap)
    dim = 0 if encoder is None else encoder.embed_dim
    canvas = Canvas(layout.geometry.shape, dim, layout.starts, layout.window, blend=overlap > 0)
    if encoder is not None:
        batches = _batches(layout, batch_size or _default_batch(encoder, layout.window), focus_lps_mm)
        state = EmbeddingState(canvas, checkpoint, facts["key"])
        _encode_all(layout, batches, encoder, state, progress, cancel)
    hu, hu_geometry = layout.hu, layout.hu_geometry
    if encoder is not None and (kept := kept_geometry(volume.geometry, hu_geometry)) is not hu_geometry:
        hu, hu_geometry = resample_hu(volume, kept), kept
    return FeatureMap(
        tokens=canvas.finished(),
        valid=canvas.valid,
        geometry=layout.geometry,
        hu=hu,
        hu_geometry=hu_geometry,
        cls=canvas.cls,
        provenance=facts,
        windows=layout.starts,
        window_tokens=layout.window,
        overlap=float(overlap),
    )


def embed_cached(
    volume: CTVolume,
    encoder: Encoder | None,
    plan: str | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    overlap: float = OVERLAP,
    *,
    store: FeatureStore | None = None,
    rebuild: bool = False,
    **options,
) -> FeatureMap:
    """:func:`embed`, unless the store has these features already; what is new goes into the store.

    ``rebuild`` embeds anew and replaces a stored map, a damaged one too. A store that cannot be written
    (disk full) is logged and costs nothing but the next run's time. ``options`` go to :func:`embed`.
    """
    store = store or FeatureStore()
    spec = effective_spec(encoder, plan, spacing_mm)
    key = feature_key(volume, encoder, spec, overlap)
    found = None if rebuild else store.get(key)
    if found is not None:
        return found
    features = embed(volume, encoder, plan, spacing_mm, overlap, **options)
    try:
        store.put(key, features, replace=rebuild)
    except UserError as error:
        log.warning("features are not kept: %s", error)
    return features


def effective_spec(
    encoder: Encoder | None, plan: str | None, spacing_mm: tuple[float, float, float] | None
) -> InputSpec:
    """The encoder's InputSpec (or that of HU alone) with a person's choices. Raises UserError if they do not fit."""
    if encoder is None and plan == "release":
        raise UserError("without an encoder there is only the spacing plan; leave --plan out or choose an encoder")
    spacing_mm = None if spacing_mm is None else tuple(float(s) for s in spacing_mm)
    return (HU_ALONE if encoder is None else encoder.spec).with_plan(plan, spacing_mm)


def peak_bytes(
    source: Shape, plan: Shape, grid: Shape, dim: int, overlap: float, *, resampled: bool, checkpoint: bool
) -> int:
    """Memory that embed needs at its peak besides the volume and the encoder, in bytes.

    ``source`` is the scan's shape, ``plan`` that of the plan's grid, both (z, y, x) in voxels, ``grid`` that
    of the tokens, ``dim`` their channels. A scan on the plan's grid already is not copied; another is resampled
    in float32, axis by axis (z, x, y), before any token exists. Without overlap float16 tokens are written in
    place; with it float32 sums are kept and turned to float16 at the end. Saving a checkpoint copies them once.
    """
    values = math.prod(grid) * dim
    hu = 2 * math.prod(plan) if resampled else 0
    each = 4 if overlap else 2
    painting = values * each * (2 if checkpoint else 1)
    finishing = values * (4 + 2 if overlap else 2)
    stages = [(plan[0], source[1], source[2]), (plan[0], source[1], plan[2]), plan]
    resampling = 4 * max(math.prod(a) + math.prod(b) for a, b in zip(stages, stages[1:], strict=False))
    return max(resampling if resampled else 0, hu + max(painting, finishing))


@dataclass(frozen=True)
class _Layout:
    """Where everything lies: HU on the plan's grid, the token grid, and the windows that are not air."""

    spec: InputSpec
    hu: np.ndarray
    hu_geometry: Geometry
    geometry: Geometry  # of the tokens
    window: Shape  # tokens
    starts: np.ndarray  # (n, 3) first tokens of the windows that are embedded

    def voxels(self, start: np.ndarray) -> np.ndarray:
        """HU of one window, int16; beyond the scan's far end it is air, in HU, so before any scaling."""
        patch = self.spec.patch_size
        low = [int(s) * p for s, p in zip(start, patch, strict=True)]
        shape = [w * p for w, p in zip(self.window, patch, strict=True)]
        part = self.hu[tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))]
        return np.pad(part, [(0, n - have) for n, have in zip(shape, part.shape, strict=True)], constant_values=AIR_HU)


def _lay_out(volume: CTVolume, spec: InputSpec, overlap: float) -> _Layout:
    hu_geometry = plan_geometry(volume.geometry, spec)
    if math.prod(hu_geometry.shape) > LARGEST_GRID:
        raise UserError(f"a spacing of {spec.spacing_mm} mm makes {hu_geometry.shape} voxels; choose a coarser one")
    hu = resample_hu(volume, hu_geometry)
    grid = tuple(-(-n // p) for n, p in zip(hu.shape, spec.patch_size, strict=True))
    padded = tuple(n * p for n, p in zip(grid, spec.patch_size, strict=True))
    geometry = hu_geometry.cropped((0, 0, 0), padded).pooled(spec.patch_size)
    window = fitted_window(grid, spec.window_tokens)
    starts = plan_windows(grid, window, overlap)
    body = patch_means(hu, spec.patch_size) > AIR_LIMIT_HU
    kept = [body[tuple(slice(s, s + w) for s, w in zip(start, window, strict=True))].any() for start in starts]
    if not any(kept):
        raise UserError("this scan holds nothing but air: check that it shows a patient and that its values are HU")
    return _Layout(spec, hu, hu_geometry, geometry, window, starts[np.array(kept)])


def kept_geometry(scan: Geometry, plan: Geometry) -> Geometry:
    """The grid of the HU that go with tokens: the plan's, or a finer one where that leaves out what a scan shows.

    Tokens every 12 mm do without it, the millimetre of a match and the edge of an organ do not. Never finer than the
    scan itself, nor than the grid for matching by HU alone.
    """
    best = zip(plan.spacing_mm, scan.spacing_mm, HU_ALONE.spacing_mm, strict=True)
    wanted = tuple(min(p, max(own, finest)) for p, own, finest in best)
    if all(w > 0.9 * p for w, p in zip(wanted, plan.spacing_mm, strict=True)):
        return plan
    return scan.respaced(wanted)


def patch_means(hu: np.ndarray, patch: Shape) -> np.ndarray:
    """Mean HU of each patch, (Z, Y, X) float32; the last patch of an axis averages the voxels that it has."""
    sums = hu
    for axis, size in enumerate(patch):
        sums = np.add.reduceat(sums, np.arange(0, hu.shape[axis], size), axis=axis, dtype=np.int32)
    counts = [np.minimum(size, n - np.arange(0, n, size)) for n, size in zip(hu.shape, patch, strict=True)]
    return (sums / (counts[0][:, None, None] * counts[1][:, None] * counts[2])).astype(np.float32)


def _encode_all(
    layout: _Layout,
    batches: list[np.ndarray],
    encoder: Encoder,
    state: EmbeddingState,
    progress: Progress | None,
    cancel: Cancel | None,
) -> None:
    """Paints all windows into the state's canvas; on cancel and Ctrl-C the state is saved and the exception goes on."""
    total = len(layout.starts)
    report = progress or (lambda done, total: None)
    report(state.done_count, total)
    runner = _Runner(encoder)
    saved, save_seconds = time.monotonic(), 0.0
    try:
        for batch in batches:
            if cancel is not None and cancel():
                raise EmbeddingCancelled(f"embedding was cancelled after {state.done_count} of {total} windows")
            for indices, tokens, cls in runner.run(layout, batch[~state.done[batch]]):
                state.put(indices, tokens, cls)
            report(state.done_count, total)
            waited = time.monotonic() - saved
            if waited > max(CHECKPOINT_SECONDS, save_seconds / SAVING_SHARE) and state.done_count < total:
                began = time.monotonic()
                state.save()
                saved = time.monotonic()
                save_seconds = saved - began
    except (EmbeddingCancelled, KeyboardInterrupt):
        state.save()
        raise
    state.discard()


def _default_batch(encoder: Encoder, window: Shape) -> int:
    kind = "cuda" if encoder.device.type == "cuda" else "cpu"
    return max(1, TOKENS_PER_BATCH[kind] // math.prod(window))


def _batches(layout: _Layout, size: int, focus: tuple[float, float, float] | None) -> list[np.ndarray]:
    """Window numbers, cut from one fixed list; a focus changes the order of the batches, never their content."""
    total = len(layout.starts)
    batches = [np.arange(first, min(first + size, total)) for first in range(0, total, size)]
    if focus is not None:
        centres = layout.geometry.to_world(layout.starts + (np.array(layout.window) - 1) / 2)
        distance = np.linalg.norm(centres - np.asarray(focus, dtype=float), axis=1)
        batches.sort(key=lambda batch: distance[batch].min())
    return batches


class _Runner:
    """Encodes batches and survives a full GPU: half the batch, then one window, then that window on the CPU."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._limit = sys.maxsize  # windows that have fitted so far
        self._on_cpu: Encoder | None = None

    def run(self, layout: _Layout, batch: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Window numbers -> (numbers, tokens (b, z, y, x, C) float32, cls (b, C) float32), in one or more parts."""
        rest = batch
        while len(rest):
            part = rest[: self._limit]
            voxels = torch.from_numpy(np.stack([layout.voxels(layout.starts[i]) for i in part]))
            result = self._try(voxels)
            if result is None and len(part) > 1:
                self._limit = len(part) // 2
                log.warning("the GPU is full; going on with %d windows a batch", self._limit)
                continue
            if result is None:
                log.warning("the GPU is full even for one window; this one goes to the CPU")
                # A copy in main memory: the network on the GPU stays, for the windows that do fit.
                self._on_cpu = self._on_cpu or self.encoder.to("cpu")
                result = _encode(self._on_cpu, voxels)
            yield part, *result
            rest = rest[len(part) :]

    def _try(self, voxels: torch.Tensor) -> tuple[np.ndarray, np.ndarray] | None:
        """None when the device's memory is full."""
        # The exception holds tensors, so memory is freed only after the except block has let it go.
        try:
            return _encode(self.encoder, voxels)
        except torch.OutOfMemoryError:
            pass
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def _encode(encoder: Encoder, voxels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        out = encoder.encode(voxels.to(encoder.device))
        tokens = out.map().float().cpu().numpy()
        cls = out.cls.float().cpu().numpy()
    if not (np.isfinite(tokens).all() and np.isfinite(cls).all()):
        raise UserError(f"encoder {encoder.name} gave tokens that are no numbers; check its weights or use the CPU")
    return tokens, cls
