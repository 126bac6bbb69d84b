"""A probe's scores on the scan's own grid: labels, probabilities, uncertainty, whole or by parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..geometry import Geometry
from ..volume import CTVolume, LabelMap, Source
from .channels import score_fields, statistics
from .cleanup import keep_components, paint_strokes
from .guided import GuidedScores
from .upsample import ScoreField, running_argmax, softmax, summed_plane

if TYPE_CHECKING:
    from .linear import LinearProbe

Region = tuple[slice, slice, slice]
Like = CTVolume | LabelMap | Geometry | None
Progress = Callable[[int, int], None]
Cancel = Callable[[], bool]

SLAB = 16
_IDENTITY = ("weights", "patch_size", "clip_hu", "mean_hu", "std_hu", "plan", "spacing_mm")


class ProbeCancelled(Exception):
    """The cancel callback said so. Nothing is left behind."""


def predict(
    probe: LinearProbe,
    features: FeatureMap,
    like: Like,
    region: Region | None,
    guided: bool,
    keep: str | None,
    strokes: LabelMap | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> LabelMap:
    """See :meth:`LinearProbe.predict`."""
    if keep not in (None, "strokes", "largest"):
        raise ValueError(f"keep must be None, strokes or largest, not {keep!r}")
    if keep == "strokes" and strokes is None:
        raise UserError("keeping the pieces that touch a stroke needs the strokes; give them, or keep the largest")
    target, source = _target(features, like, region)
    fields = _fields(probe, features, target)
    covering = fields[0]
    if guided:
        fields = [GuidedScores.on(fields, features, target)]
    values = np.array(probe.classes)
    lookup = values.astype(np.uint8 if max(values[-1], probe.background) < 256 else np.uint16)
    out = np.empty(target.shape, lookup.dtype)
    for z in range(target.shape[0]):
        step(progress, cancel, z, target.shape[0])
        out[z] = lookup[running_argmax(summed_plane(fields, z), target.shape[1:])]
        holes = covering.holes(z)
        if holes is not None:
            out[z][holes] = probe.background
    step(progress, cancel, target.shape[0], target.shape[0])
    if strokes is not None:
        paint_strokes(out, target, strokes)
    if keep is not None:
        keep_components(out, target, probe.classes, probe.background, strokes if keep == "strokes" else None)
    return LabelMap(out, target, source, dict(probe.names), dict(probe.colours))


def predict_slabs(
    probe: LinearProbe,
    features: FeatureMap,
    like: Like,
    first: int | None,
    guided: bool,
    strokes: LabelMap | None,
    cancel: Cancel | None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """See :meth:`LinearProbe.predict_slabs`."""
    target, _ = _target(features, like, None)
    depth, *plane = target.shape
    first = depth // 2 if first is None else int(np.clip(first, 0, depth - 1))
    above = [slice(z, min(z + SLAB, depth)) for z in range(first + 1, depth, SLAB)]
    below = [slice(max(0, z - SLAB), z) for z in range(first, 0, -SLAB)]
    spans = [slice(first, first + 1)]
    for number in range(max(len(above), len(below))):
        spans += above[number : number + 1] + below[number : number + 1]
    for span in spans:
        region = (span, *(slice(0, n) for n in plane))
        yield span, predict(probe, features, target, region, guided, None, strokes, None, cancel).labels


def probability_map(
    probe: LinearProbe,
    features: FeatureMap,
    like: Like,
    region: Region | None,
    read: Callable[[np.ndarray], np.ndarray],
    empty: float,
) -> np.ndarray:
    """``read`` of each slice's probabilities (K, ny, nx), float16 (z, y, x); ``empty`` where no token is near."""
    target, _ = _target(features, like, region)
    fields = _fields(probe, features, target)
    out = np.empty(target.shape, np.float16)
    for z in range(target.shape[0]):
        out[z] = read(softmax(summed_plane(fields, z)))
        holes = fields[0].holes(z)
        if holes is not None:
            out[z][holes] = empty
    return out


def margin(probabilities: np.ndarray) -> np.ndarray:
    """1 - (best - second best) of (K, ny, nx)."""
    top = np.partition(probabilities, len(probabilities) - 2, axis=0)
    return 1 - (top[-1] - top[-2])


def require_same_features(provenance: dict[str, str], dim: int, features: FeatureMap) -> None:
    """Raises UserError unless ``features`` are of the encoder, the weights and the input plan of ``provenance``."""
    for word in _IDENTITY:
        ours, theirs = provenance.get(word), features.provenance.get(word)
        if ours is None or theirs is None or ours == theirs:
            continue
        if word in ("plan", "spacing_mm"):
            raise UserError(
                f"the probe was fitted with {word} {ours} and these features have {theirs}; "
                f"embed the scan with {word} {ours}, or fit the probe again"
            )
        raise UserError(
            f"the probe was fitted on features of {provenance.get('encoder', 'another encoder')}, and these are of "
            f"{features.provenance.get('encoder', 'another one')} ({word} differ); "
            "embed the scan with the probe's encoder"
        )
    if dim != features.dim:
        raise UserError(
            f"the probe was fitted on tokens of {dim} numbers and these have {features.dim}; "
            "embed the scan with the probe's encoder"
        )


def step(progress: Progress | None, cancel: Cancel | None, done: int, total: int) -> None:
    """Reports, and stops when asked to."""
    if progress is not None:
        progress(done, total)
    if cancel is not None and done < total and cancel():
        raise ProbeCancelled("the probe was cancelled")


def _fields(probe: LinearProbe, features: FeatureMap, target: Geometry) -> list[ScoreField]:
    """The probe's scores, its standardisation folded into weights and constants of raw columns."""
    require_same_features(probe.provenance, probe.dim, features)
    scan = probe.recipe.standardise == "scan"
    standard = statistics(features, probe.recipe.hu_features) if scan else probe.standard
    weights = probe.weights.astype(np.float64) / standard.std[:, None]
    constants = probe.constants - standard.mean @ weights
    return score_fields(features, probe.recipe.hu_features, weights, constants, target)


def _target(features: FeatureMap, like: Like, region: Region | None) -> tuple[Geometry, Source]:
    """The grid to predict on, cut to ``region``, and the Source that lets it be written back."""
    if like is None:
        grid, source = features.hu_geometry, Source("array")
    elif isinstance(like, Geometry):
        grid, source = like, Source("array")
    else:
        grid, source = like.geometry, like.source
    if region is None:
        return grid, source
    bounds = [part.indices(size) for part, size in zip(region, grid.shape, strict=True)]
    shape = tuple(stop - start for start, stop, _ in bounds)
    if min(shape) < 1 or any(stride != 1 for _, _, stride in bounds):
        raise UserError(f"the region {region} holds no voxel of a grid of {grid.shape}; choose slices inside it")
    return grid.cropped(tuple(start for start, _, _ in bounds), shape), Source("array")
