"""From strokes and probabilities to labels on the scan's own voxels. ``Delineation`` is the way in, live and in parts;
``tapct_core.segment`` is one call of it."""

from __future__ import annotations

from typing import Any

from ..lazy import fetch

_HOME = {"Answer": "engine", "Delineation": "engine", "Part": "engine", "WalkCancelled": "multigrid"}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    return fetch(__name__, _HOME, name)
