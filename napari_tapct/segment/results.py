"""The result layers of a session: a segmentation put in part by part, and which of it is older than the strokes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Labels

from ..painting import painting_of

if TYPE_CHECKING:
    from ..scan import Scan
    from ..session import Session
    from .live import Part

FRESH, STALE = 0.6, 0.25
"""Opacity of the result."""
VALUES = 256


@dataclass
class _State:
    """Which slices along z follow the strokes, at least as a preview; which for good, and the voxels of each label in
    those."""

    fresh: np.ndarray
    final: np.ndarray
    counts: np.ndarray = field(default_factory=lambda: np.zeros(VALUES, np.int64))


class Results:
    """Result layers by scan. Whoever paints spoils them all, as one probe learns from every scan."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._states: WeakKeyDictionary[Labels, _State] = WeakKeyDictionary()

    def slice_shown(self, scan: Scan) -> int | None:
        """The slice along z that is on screen; None where other planes, or 3D, are."""
        viewer = self._session.viewer
        if 0 not in viewer.dims.not_displayed:
            return None
        here = int(np.rint(scan.layer.world_to_data(viewer.dims.point))[0])
        return int(np.clip(here, 0, scan.volume.hu.shape[0] - 1))

    def spoil(self) -> None:
        """What is drawn is older than the strokes now."""
        for state in self._states.values():
            state.fresh[:] = state.final[:] = False
            state.counts[:] = 0

    def put(self, scan: Scan, part: Part) -> bool:
        """Draws a part of a segmentation; whether with it what is on screen has come to follow the strokes."""
        layer = self._layer(scan)
        state, seen, span = self._states[layer], self._seen(scan), part.region[0]
        before = bool(state.fresh[seen].all())
        layer.data[part.region] = part.labels
        state.fresh[span] = True
        if part.final:
            state.final[span] = True
            state.counts += part.counts
        if span.start < seen.stop and seen.start < span.stop:
            layer.refresh(extent=False, thumbnail=False)
        return not before and bool(state.fresh[seen].all())

    def complete(self, scan: Scan) -> None:
        """All parts of a segmentation are there."""
        layer = self._layer(scan)
        state = self._states[layer]
        state.fresh[:] = state.final[:] = True
        layer.refresh()

    def replace(self, scan: Scan, part: Part) -> None:
        """A whole segmentation at once."""
        self._states[self._layer(scan)].counts[:] = 0
        self.put(scan, part)
        self.complete(scan)

    def is_fresh(self, scan: Scan) -> bool:
        """Whether the whole result of a scan follows the last stroke."""
        state = self._states.get(scan.parts.get("result"))
        return state is not None and bool(state.final.all())

    def fade(self, scan: Scan, just_drawn: bool = False) -> str:
        """Fades the result where the slice on screen is older than the strokes; says so in words, "" without a result.

        ``just_drawn``: that slice was computed a moment ago, along whatever axis.
        """
        layer = scan.parts.get("result")
        state = self._states.get(layer) if layer is not None else None
        if state is None:
            return ""
        good = just_drawn or bool(state.fresh[self._seen(scan)].all())
        if layer.opacity != (FRESH if good else STALE):
            if good:
                layer.refresh(extent=False, thumbnail=False)
            layer.opacity = FRESH if good else STALE
        if state.final.all():
            return "Up to date: " + self._shares(scan, state.counts)
        shown_slice = "this slice is up to date" if good else "this slice is OLDER than your strokes"
        return f"Following the strokes: {shown_slice}, {state.final.mean():.0%} of the scan done."

    def _seen(self, scan: Scan) -> slice:
        """The slices along z that the view shows a part of."""
        here = self.slice_shown(scan)
        return slice(0, scan.volume.hu.shape[0]) if here is None else slice(here, here + 1)

    def _layer(self, scan: Scan) -> Labels:
        layer = scan.parts.get("result")
        if layer is None:
            layer = painting_of(self._session).layer(scan, "segmentation", opacity=FRESH)
            self._session.add_part(scan, "result", layer)
            painting_of(self._session).watch_result(layer)
            self._below_strokes(scan)
        if layer not in self._states:
            self._states[layer] = _State(*np.zeros((2, len(layer.data)), bool))
        return layer

    def _below_strokes(self, scan: Scan) -> None:
        layers = self._session.viewer.layers
        strokes = scan.parts.get("strokes")
        if strokes is not None and layers.index(scan.parts["result"]) > layers.index(strokes):
            layers.move(layers.index(scan.parts["result"]), layers.index(strokes))

    def _shares(self, scan: Scan, counts: np.ndarray) -> str:
        """How much of each class there is, in ml."""
        millilitres = float(np.prod(scan.volume.geometry.spacing_mm)) / 1000
        classes = painting_of(self._session).classes
        parts = [f"{one.name} {counts[one.value] * millilitres:.0f} ml" for one in classes if counts[one.value]]
        return ", ".join(parts) or "no class but background."
