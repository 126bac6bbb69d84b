"""A probe's scores on the scan's own grid: labels, probabilities, uncertainty, whole or by parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..geometry import Geometry
from ..progress import Cancel, Progress, step
from ..provenance import difference
from ..volume import CTVolume, LabelMap, Source
from .channels import score_fields, standard_of
from .cleanup import keep_components, paint_strokes
from .guided import GuidedScores, filter_radius
from .model import Probe
from .upsample import ScoreField, running_argmax, softmax, summed_plane

Region = tuple[slice, slice, slice]
Like = CTVolume | LabelMap | Geometry | None

SLAB, GUIDED_SLAB = 16, 48
"""Slices that are handed over together; more with the guided filter, which also reads what lies round them."""
FILTER_BYTES = 500_000_000


def predict(
    probe: Probe,
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
    whole = _target(features, like, None)[0]
    values = np.array(probe.classes)
    lookup = values.astype(np.uint8 if max(values[-1], probe.background) < 256 else np.uint16)
    out = np.empty(target.shape, lookup.dtype)
    bands = _bands(features, target, len(values)) if guided else [slice(0, target.shape[1])]
    total = len(bands) * target.shape[0]
    for number, band in enumerate(bands):
        part = target.cropped((0, band.start, 0), (target.shape[0], band.stop - band.start, target.shape[2]))
        for z, (scores, holes) in enumerate(_planes(probe, features, part, whole if guided else None)):
            step(progress, cancel, number * target.shape[0] + z, total)
            labels = lookup[running_argmax(scores, part.shape[1:])]
            if holes is not None:
                labels[holes] = probe.background
            out[z, band] = labels
    step(progress, cancel, total, total)
    if strokes is not None:
        paint_strokes(out, target, strokes)
    if keep is not None:
        keep_components(out, target, probe.classes, probe.background, strokes if keep == "strokes" else None)
    return LabelMap(out, target, source, dict(probe.names), dict(probe.colours))


def predict_slabs(
    probe: Probe,
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
    size = GUIDED_SLAB if guided else SLAB
    above = [slice(z, min(z + size, depth)) for z in range(first + 1, depth, size)]
    below = [slice(max(0, z - size), z) for z in range(first, 0, -size)]
    spans = [slice(first, first + 1)]
    for number in range(max(len(above), len(below))):
        spans += above[number : number + 1] + below[number : number + 1]
    for span in spans:
        region = (span, *(slice(0, n) for n in plane))
        yield span, predict(probe, features, target, region, guided, None, strokes, None, cancel).labels


def probability_map(
    probe: Probe,
    features: FeatureMap,
    like: Like,
    region: Region | None,
    read: Callable[[np.ndarray], np.ndarray],
    empty: float,
) -> np.ndarray:
    """``read`` of each slice's probabilities (K, ny, nx), float16 (z, y, x); ``empty`` where no token is near."""
    target, _ = _target(features, like, region)
    out = np.empty(target.shape, np.float16)
    for z, (probabilities, holes) in enumerate(probability_planes(probe, features, target)):
        out[z] = read(probabilities)
        if holes is not None:
            out[z][holes] = empty
    return out


def probability_planes(
    probe: Probe, features: FeatureMap, target: Geometry
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Probabilities (K, ny, nx) of each slice of ``target``, and the voxels (ny, nx) that no token is near, or None."""
    fields = _fields(probe, features, target)
    for z in range(target.shape[0]):
        yield softmax(summed_plane(fields, z)), fields[0].holes(z)


def margin(probabilities: np.ndarray) -> np.ndarray:
    """1 - (best - second best) of (K, ny, nx)."""
    top = np.partition(probabilities, len(probabilities) - 2, axis=0)
    return 1 - (top[-1] - top[-2])


def require_same_features(provenance: dict[str, str], dim: int, features: FeatureMap) -> None:
    """Raises UserError unless ``features`` are of the encoder, the weights and the input plan of ``provenance``."""
    word = difference(provenance, features.provenance, (dim, features.dim))
    if word == "dim":
        raise UserError(
            f"the probe was fitted on tokens of {dim} numbers and these have {features.dim}; "
            "embed the scan with the probe's encoder"
        )
    if word in ("plan", "spacing_mm"):
        ours, theirs = provenance[word], features.provenance[word]
        raise UserError(
            f"the probe was fitted with {word} {ours} and these features have {theirs}; "
            f"embed the scan with {word} {ours}, or fit the probe again"
        )
    if word:
        raise UserError(
            f"the probe was fitted on features of {provenance.get('encoder', 'another encoder')}, and these are of "
            f"{features.provenance.get('encoder', 'another one')} ({word} differ); "
            "embed the scan with the probe's encoder"
        )


def _planes(
    probe: Probe, features: FeatureMap, target: Geometry, whole: Geometry | None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Scores (K, ny, nx) and holes (ny, nx) or None of each slice of ``target``; filtered if ``whole`` is given.

    The filter reads the scores as far round ``target`` as its boxes reach within the grid ``whole``, so that a part of
    the scan, such as the slice on screen, looks as it will when all of it is done.
    """
    if whole is None:
        fields = covering = _fields(probe, features, target)
        inner = tuple(slice(0, n) for n in target.shape)
    else:
        grown, inner = _grown(target, whole, filter_radius(features, target))
        covering = _fields(probe, features, grown)
        fields = [GuidedScores.on(covering, features, grown)]
    for z in range(inner[0].start, inner[0].stop):
        scores, holes = summed_plane(fields, z), covering[0].holes(z)
        yield scores[:, inner[1], inner[2]], None if holes is None else holes[inner[1], inner[2]]


def _grown(
    target: Geometry, whole: Geometry, radius: tuple[int, int, int]
) -> tuple[Geometry, tuple[slice, slice, slice]]:
    """``target`` and twice ``radius`` round it, as far as ``whole`` goes; and where ``target`` lies in that."""
    first = np.rint(whole.to_index(target.to_world(np.zeros(3)))).astype(int)
    start = np.maximum(first - 2 * np.array(radius), 0)
    stop = np.minimum(first + target.shape + 2 * np.array(radius), whole.shape)
    inner = tuple(slice(int(a), int(a + n)) for a, n in zip(first - start, target.shape, strict=True))
    return whole.cropped(tuple(start.tolist()), tuple((stop - start).tolist())), inner


def _bands(features: FeatureMap, target: Geometry, classes: int) -> list[slice]:
    """Rows of ``target`` to filter at a time: the filter holds 4 planes a class for each slice under its box."""
    radius = filter_radius(features, target)
    row = 4 * 4 * classes * (2 * radius[0] + 2) * target.shape[2]
    rows = max(4 * radius[1], FILTER_BYTES // row)
    return [slice(y, min(y + rows, target.shape[1])) for y in range(0, target.shape[1], rows)]


def _fields(probe: Probe, features: FeatureMap, target: Geometry) -> list[ScoreField]:
    """The probe's scores, to be read on ``target``."""
    require_same_features(probe.provenance, probe.dim, features)
    standard = standard_of(probe, features)
    return score_fields(features, probe.recipe.hu_features, probe.weights, probe.constants, standard, target)


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
