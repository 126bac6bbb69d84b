"""Figures that others published, for orientation. They stand in a table of their own and never among measured ones.

Taken from public pages about the papers, none checked against the papers' own tables; protocols differ, and a
fine-tuned network or a trained decoder is not comparable with a linear layer on frozen features.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .tables import Table

SECONDARY = "a published summary of the paper, not checked against its tables"


@dataclass(frozen=True)
class Published:
    """One figure. ``dataset`` as Dataset.name; ``figure`` in the words of its source."""

    task: str
    dataset: str
    model: str
    figure: str
    protocol: str
    source: str


LINEAR = "one linear convolution on frozen features"
DECODER = "trained decoder on frozen features"

FIGURES = (
    Published("segmentation", "AMOS22", "TAP-CT-B-3D", "Dice 72.4 %", LINEAR, f"arXiv 2512.00872; {SECONDARY}"),
    Published(
        "segmentation", "AMOS22", "TAP-CT-B-3D", "Dice 58.2 % (mean over all its data sets)", LINEAR,
        f"arXiv 2512.00872; {SECONDARY}",
    ),
    Published(
        "segmentation", "LiTS17", "TAP-CT-B-3D", "Dice 58.2 % (mean over all its data sets)", LINEAR,
        f"arXiv 2512.00872; {SECONDARY}",
    ),
    Published(
        "segmentation", "AMOS22", "MedDINOv3", "Dice 78.39 to 85.51 %", "fine-tuned nnU-Net form", "arXiv 2509.02379"
    ),
    Published("segmentation", "LiTS17", "VoCo-B", "Dice 0.816", DECODER, "github.com/kaiko-ai/eva, 1.5 mm, 30 k steps"),
    Published("segmentation", "LiTS17", "VoCo-H", "Dice 0.818", DECODER, "github.com/kaiko-ai/eva, 1.5 mm, 30 k steps"),
    Published("segmentation", "LiTS17", "DINO ViT-B, 2D", "Dice 0.677", DECODER, "github.com/kaiko-ai/eva"),
)  # fmt: skip


def published_table(tasks: Collection[str], datasets: Collection[str]) -> Table | None:
    """What is known of these data sets, or None where nothing is."""
    known = [
        [one.dataset, one.model, one.figure, one.protocol, one.source]
        for one in FIGURES
        if one.task in tasks and one.dataset in datasets
    ]
    if not known:
        return None
    caption = (
        "Nothing in this table was measured here. Splits, classes, resolutions and heads differ from the tables above; "
        "the figures say where the field stands, not which row is better."
    )
    columns = ["data set", "model", "published figure", "protocol", "source"]
    return Table("Published figures, for orientation", columns, known, caption)
