"""The classes of a probe: how many there may be, what they are called, how frequent they are."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .model import Pairs

MOST_CLASSES = 255


def check_classes(classes: tuple[int, ...], names: dict[int, str]) -> None:
    """Raises UserError unless there are 2 to 255 classes."""
    if len(classes) == 1:
        called = names.get(classes[0], f"class {classes[0]}")
        raise UserError(
            f"only {called} is labelled; paint a second class, such as background, or say that 0 is background"
        )
    if len(classes) > MOST_CLASSES:
        raise UserError(f"there are {len(classes)} classes and a probe takes {MOST_CLASSES}; merge some")


def merged_names(names: dict, colours: dict, pairs: Pairs) -> tuple[dict, dict]:
    """Class names and colours of all label maps; the first to name a value wins. Raises UserError if two disagree."""
    names, colours = dict(names), dict(colours)
    for _, labels in pairs:
        for value, name in labels.names.items():
            if names.setdefault(value, name) != name:
                raise UserError(
                    f"label {value} is called {names[value]} in one scan and {name} in another; give both the same name"
                )
        for value, colour in labels.colours.items():
            colours.setdefault(value, colour)
    return names, colours


def log_frequencies(pairs: Pairs, classes: tuple[int, ...]) -> np.ndarray:
    """Log share (K,) of each class among the voxels of the masks, a voxel being added to each."""
    top = max(classes) + 1
    counts = sum(np.bincount(labels.labels.reshape(-1), minlength=top)[:top] for _, labels in pairs)
    counts = counts[list(classes)] + 1.0
    return np.log(counts / counts.sum())
