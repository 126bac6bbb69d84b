"""Clicks on a canvas, told apart from drags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

STILL_PIXELS = 4


def clicker(clicked: Callable[[tuple[float, ...]], Any]) -> Callable:
    """A mouse callback that calls ``clicked`` with the drawn position of a left click that was not dragged."""

    def press(viewer: Any, event: Any) -> Iterator[None]:
        if event.button != 1:
            return
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.array(event.pos) - start).max() < STILL_PIXELS:
            clicked(tuple(event.position))

    return press
