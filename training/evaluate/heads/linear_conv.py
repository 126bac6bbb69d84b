"""The paper's read-out on a whole data set: the linear convolution of ``tapct_core.probe.conv`` over many scans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe, Recipe
from tapct_core.probe.channels import pooled, statistics
from tapct_core.probe.conv import train_conv
from tapct_core.volume import LabelMap

STEPS = 1500


def fit_linear_conv(
    scans: Iterable[tuple[FeatureMap, LabelMap]],
    count: int,
    classes: tuple[int, ...],
    names: dict[int, str],
    hu_features: str | None = None,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[LinearProbe, list[list[float]]]:
    """The trained head as a LinearProbe, which predicts on any scan's own grid, and its loss curve [[step, loss], ...].

    ``scans`` gives (features, labels) of ``count`` training cases, one at a time. ``classes``: label values, 0 first.
    Deterministic for a seed, on one kind of device. Raises UserError where only one class occurs.
    """
    dim, provenance = 0, {}

    def noted() -> Iterator[tuple[FeatureMap, LabelMap]]:
        nonlocal dim, provenance
        for features, labels in scans:
            if not dim and not provenance:
                dim, provenance = features.dim, features.provenance
            yield features, labels

    learnt = train_conv(
        noted(), count, classes, hu_features, lambda features: statistics(features, hu_features),
        steps=steps, seed=seed, device=device,
    )  # fmt: skip
    probe = LinearProbe(
        classes=classes,
        weights=learnt.weights,
        constants=learnt.constants,
        standard=pooled(learnt.standards),
        recipe=Recipe(head="conv", hu_features=hu_features, seed=seed),
        dim=dim,
        provenance={key: value for key, value in provenance.items() if key not in ("scan", "key")},
        names=names,
        facts={"scans": count, "steps": steps, "blocks": learnt.blocks, "loss": learnt.curve[-1][1]},
    )
    return probe, learnt.curve
