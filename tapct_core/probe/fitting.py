"""From labelled scans to a LinearProbe, and from new strokes to the next one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import UserError
from ..features import FeatureMap
from ..progress import Cancel, Progress, step
from ..volume import LabelMap
from .channels import columns_at, pooled, standard_of, statistics
from .classes import check_classes, log_frequencies, merged_names
from .discriminant import Moments, choose_penalty, discriminant
from .model import AnyProbe, Memory, Pairs, Probe, Recipe
from .predicting import require_same_features
from .sampling import pick_voxels, zero_is_background

CAP_PER_CLASS, CAP_TOTAL = 2_000, 40_000


def fit_probe(
    cls: type[AnyProbe],
    pairs: Pairs,
    recipe: Recipe,
    zero: str,
    cap: int | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> AnyProbe:
    """See :meth:`LinearProbe.fit`."""
    if not pairs:
        raise UserError("nothing to fit on; give at least one scan with labels")
    first = pairs[0][0]
    if not first.dim and recipe.hu_features is None:
        raise UserError("these features are HU alone and hold no tokens; fit with the HU features token or voxel")
    for features, _ in pairs[1:]:
        require_same_features(first.provenance, first.dim, features)
    background = any(zero_is_background(labels, zero) for _, labels in pairs)
    names, colours = merged_names({}, {}, pairs)
    probe = cls(
        classes=(),
        weights=np.empty((0, 0), np.float32),
        constants=np.empty(0, np.float32),
        standard=pooled([statistics(features, recipe.hu_features, recipe.clip) for features, _ in pairs]),
        recipe=recipe,
        dim=first.dim,
        provenance={key: value for key, value in first.provenance.items() if key not in ("scan", "key")},
        names=names,
        colours=colours,
        facts={"scans": len(pairs), "zero": "background" if background else "unlabelled"},
    )
    if recipe.head == "conv":
        from .conv import fit_conv

        if not background:
            raise UserError("the conv head learns from full masks, and these are strokes; use ridge or logistic")
        return fit_conv(probe, pairs, progress, cancel)
    return _learn(probe, pairs, background, cap, progress, cancel)


def extend_probe(probe: AnyProbe, pairs: Pairs, zero: str, cap: int | None) -> AnyProbe:
    """See :meth:`LinearProbe.extend`."""
    if not pairs:
        return probe
    for features, _ in pairs:
        require_same_features(probe.provenance, probe.dim, features)
    names, colours = merged_names(probe.names, probe.colours, pairs)
    background = any(zero_is_background(labels, zero) for _, labels in pairs)
    probe = replace(probe, names=names, colours=colours)
    return _corrected(probe, pairs, background, cap) if probe.memory is None else _learn(probe, pairs, background, cap)


def _corrected(probe: AnyProbe, pairs: Pairs, background: bool, cap: int | None) -> AnyProbe:
    """A probe whose labels are not here, loaded or trained otherwise: its weights, moved as far as strokes demand."""
    from .heads import fit_from

    x, values, groups = _read_all(probe, pairs, background, cap)
    classes = tuple(int(v) for v in np.union1d(probe.classes, values))
    check_classes(classes, probe.names)
    place = np.searchsorted(classes, probe.classes)
    # A class that is new begins as the mean of the others: no place speaks for it or against it.
    weights = np.repeat(probe.weights.mean(axis=1, keepdims=True), len(classes), axis=1)
    constants = np.full(len(classes), probe.constants.mean())
    weights[:, place], constants[place] = probe.weights, probe.constants
    new = ~np.isin(classes, probe.classes)
    weights, constants = fit_from(x, np.searchsorted(classes, values), groups, weights, constants, new)
    return replace(
        probe,
        classes=classes,
        weights=weights.astype(np.float32),
        constants=constants.astype(np.float32),
        facts={**probe.facts, "corrections": len(x)},
    )


def _learn(
    probe: AnyProbe,
    pairs: Pairs,
    background: bool,
    cap: int | None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> AnyProbe:
    """The probe after it has read ``pairs``, on top of what its memory holds already."""
    x, values, groups = _read_all(probe, pairs, background, cap, progress, cancel)
    classes = tuple(int(v) for v in np.union1d(probe.classes, values))
    check_classes(classes, probe.names)
    index = np.searchsorted(classes, values)
    moments = Moments.of(x, index, len(classes))
    old = probe.memory
    if old is None:
        penalty, scale = choose_penalty(x, index, groups)
    else:
        penalty, scale = old.penalty, old.scale
        place = np.searchsorted(classes, probe.classes)
        moments = moments + old.moments.spread(place, len(classes))
        groups = _distinct([old.groups, groups])
        x, index = np.concatenate([old.x, x]), np.concatenate([place[old.index], index])
    weights, constants = (scale * part for part in discriminant(moments.means, moments.within(), penalty))
    if probe.recipe.head == "logistic":
        from .heads import fit_logistic

        if old is not None:
            weights[:, place], constants[place] = probe.weights, probe.constants - old.shift
        weights, constants = fit_logistic(x, index, groups, weights, constants)
    shift = _frequency_shift(probe, pairs, classes, background, scale if probe.recipe.head == "ridge" else 1.0)
    constants = constants + shift
    return replace(
        probe,
        classes=classes,
        weights=weights.astype(np.float32),
        constants=constants.astype(np.float32),
        facts={**probe.facts, "samples": len(x), "penalty": penalty, "scale": scale},
        memory=Memory(x, index, groups, moments, penalty, scale, shift),
    )


def _frequency_shift(
    probe: Probe, pairs: Pairs, classes: tuple[int, ...], background: bool, scale: float
) -> np.ndarray:
    """What frequencies add to the constants (K,): measured on masks, kept when strokes are added, 0 for strokes alone.

    In units of the scores: where these were scaled down for being unreliable, frequencies must not drown them.
    """
    if probe.memory is not None:
        shift = np.full(len(classes), probe.memory.shift.mean())
        shift[np.searchsorted(classes, probe.classes)] = probe.memory.shift
        return shift
    return probe.recipe.prior * scale * log_frequencies(pairs, classes) if background else np.zeros(len(classes))


def _read_all(
    probe: Probe,
    pairs: Pairs,
    background: bool,
    cap: int | None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised columns (N, D), label values (N,) and groups (N,) of all scans; no group in two of them."""
    parts = []
    cap = cap or _default_cap(pairs)
    for number, (features, labels) in enumerate(pairs):
        step(progress, cancel, number, len(pairs))
        parts.append(_read(probe, features, labels, background, cap))
    step(progress, cancel, len(pairs), len(pairs))
    x, values, groups = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(values), _distinct(list(groups))


def _read(probe: Probe, features: FeatureMap, labels: LabelMap, background: bool, cap: int) -> tuple:
    """Standardised columns (N, D), label values (N,) and groups (N,) of one scan's labelled voxels."""
    voxels = pick_voxels(features, labels, background, cap, np.random.default_rng(probe.recipe.seed))
    standard = standard_of(probe, features)
    x = standard.apply(columns_at(features, voxels.points, probe.recipe.hu_features, standard))
    good = np.isfinite(x).all(axis=1)
    lost = sorted(set(voxels.values.tolist()) - set(voxels.values[good].tolist()))
    if lost:
        raise UserError(f"class {lost[0]} lies only where features are not numbers; embed the scan again")
    return x[good], voxels.values[good], voxels.groups[good]


def _default_cap(pairs: Pairs) -> int:
    most = max(len(set(np.unique(labels.labels[:: max(1, len(labels.labels) // 64)]))) for _, labels in pairs)
    return max(50, min(CAP_PER_CLASS, CAP_TOTAL // max(1, most * len(pairs))))


def _distinct(parts: list[np.ndarray]) -> np.ndarray:
    """Group numbers of several label maps, none shared between two."""
    out, start = [], 0
    for part in parts:
        out.append(part + start)
        start += int(part.max()) + 1 if len(part) else 0
    return np.concatenate(out)
