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
    for features, _ in pairs[1:]:
        require_same_features(first.provenance, first.dim, features)
    background = any(zero_is_background(labels, zero) for _, labels in pairs)
    names, colours = merged_names({}, {}, pairs)
    probe = cls(
        classes=(),
        weights=np.empty((0, 0), np.float32),
        constants=np.empty(0, np.float32),
        standard=pooled([statistics(features, recipe.hu_features) for features, _ in pairs]),
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
    if probe.memory is None:
        raise UserError("this probe keeps no labels to add to; fit it again with the old and the new strokes")
    for features, _ in pairs:
        require_same_features(probe.provenance, probe.dim, features)
    names, colours = merged_names(probe.names, probe.colours, pairs)
    background = any(zero_is_background(labels, zero) for _, labels in pairs)
    return _learn(replace(probe, names=names, colours=colours), pairs, background, cap)


def _learn(
    probe: AnyProbe,
    pairs: Pairs,
    background: bool,
    cap: int | None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> AnyProbe:
    """The probe after it has read ``pairs``, on top of what its memory holds already."""
    parts = []
    cap = cap or _default_cap(pairs)
    for number, (features, labels) in enumerate(pairs):
        step(progress, cancel, number, len(pairs))
        parts.append(_read(probe, features, labels, background, cap))
    step(progress, cancel, len(pairs), len(pairs))
    x, values = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    groups = _distinct([p[2] for p in parts])
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


def _read(probe: Probe, features: FeatureMap, labels: LabelMap, background: bool, cap: int) -> tuple:
    """Standardised columns (N, D), label values (N,) and groups (N,) of one scan's labelled voxels."""
    voxels = pick_voxels(features, labels, background, cap, np.random.default_rng(probe.recipe.seed))
    x = standard_of(probe, features).apply(columns_at(features, voxels.points, probe.recipe.hu_features))
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
