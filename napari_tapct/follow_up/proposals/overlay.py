"""What the computer suggests, drawn over the follow-up: the heat map and the ranked candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer, Points

from ...features.views import HEAT
from ...layers import placement_on
from ..views.marks import METRE, marks_layer, to_data
from ..views.second_layers import CT
from .sentences import BAND_COLOURS, band_of, chance

if TYPE_CHECKING:
    from tapct_core.lesions import Finding

    from ...scan import Scan
    from ..views.linked import LinkedView
    from .finder import Found

HEAT_MAP, RINGS = "heat", "candidates"
"""Roles of the layers."""
RING_MM, NEAR_MM = 18.0, 6.0
"""Diameter of a ring, and how far from its slice it is seen."""
CHOSEN, OTHERS = 0.1, 0.05
"""Width of a ring's line as a share of its size: the chosen candidate's, the others'."""


class ProposalOverlay:
    """The two layers of a follow-up in the second view. They come and go with what is shown."""

    def __init__(self, linked: LinkedView) -> None:
        self._linked = linked
        self.heat_on = True
        self.threshold = 98.0
        """Per cent of the scan that the heat map leaves clear."""
        self._places = np.zeros((0, 3))
        linked.viewer_model.dims.events.point.connect(self._on_slice)

    @property
    def heat(self) -> Image | None:
        """The heat map's layer."""
        return self._part(HEAT_MAP)

    @property
    def rings(self) -> Points | None:
        """The candidates' layer."""
        return self._part(RINGS)

    def show_heat(self, scan: Scan | None, found: Found | None) -> None:
        """The heat map of what was found in a scan; none for None."""
        if scan is None:
            return
        if found is None or not np.isfinite(found.heat).any():
            if self.heat is not None:
                self.heat.visible = False  # not removed: the next one takes its place
            return
        limits, layer = heat_limits(found.heat, self.threshold), self._linked.part(scan, HEAT_MAP)
        if layer is not None and layer.data.shape == found.heat.shape:
            layer.data, layer.contrast_limits = found.heat, limits
            layer.visible = self.heat_on
            return
        layer = Image(
            found.heat,
            name="how alike it is",
            colormap=HEAT,
            contrast_limits=limits,
            blending="additive",
            interpolation2d="linear",
            opacity=0.5,
            visible=self.heat_on,
            **placement_on(scan.volume.geometry, found.heat_geometry),
        )
        self._linked.add_part(scan, HEAT_MAP, layer)
        layers = self._linked.viewer_model.layers
        # Right above its own scan: below all that is drawn on it, and under no scan of another time point.
        layers.move(layers.index(layer), layers.index(self._linked.part(scan, CT)) + 1)

    def set_heat(self, on: bool, threshold: float) -> None:
        """Shows or hides the heat map, and sets what share of the scan (per cent) it leaves clear."""
        self.heat_on, self.threshold = on, threshold
        if self.heat is not None:
            self.heat.visible = on
            self.heat.contrast_limits = heat_limits(self.heat.data, threshold)

    def show_candidates(self, scan: Scan | None, finding: Finding | None, chosen: int | None) -> None:
        """Numbered rings round the candidates, coloured by their band; the chosen one's is thick."""
        if scan is None or scan is not self._linked.scan:
            return
        candidates = finding.candidates[:3] if finding is not None else ()
        layer = self._linked.part(scan, RINGS)
        if layer is None and not candidates:
            return
        if layer is None:
            text = {"string": "{rank}", "size": 11, "color": "white", "anchor": "upper_left"}
            layer = marks_layer("candidates", features={"rank": np.zeros(0, dtype=object)}, text=text)
            self._linked.add_part(scan, RINGS, layer)
        self._places = np.array([self._linked.second.drawn(one.point_lps_mm) for one in candidates]).reshape(-1, 3)
        layer.data = to_data(self._places)
        if candidates:
            layer.features = {"rank": [str(i + 1) for i in range(len(candidates))]}
            layer.size = RING_MM / METRE
            layer.face_color = "transparent"
            layer.border_color = [BAND_COLOURS[band_of(chance(one, finding))] for one in candidates]
            layer.border_width = [CHOSEN if i == chosen else OTHERS for i in range(len(candidates))]
            self._on_slice()

    def _on_slice(self, event: Any = None) -> None:
        """A ring is seen near its slice only."""
        layer, viewer = self.rings, self._linked.viewer_model
        if layer is None or not len(self._places) or len(layer.data) != len(self._places):
            return
        hidden = list(viewer.dims.not_displayed)
        away = np.abs(self._places - np.array(viewer.dims.point))[:, hidden].max(axis=1, initial=0.0)
        near = away <= NEAR_MM
        if (near != layer.shown).any():
            layer.shown = near

    def _part(self, role: str) -> Layer | None:
        return self._linked.part(self._linked.scan, role) if self._linked.scan is not None else None


def heat_limits(heat: np.ndarray, threshold: float) -> tuple[float, float]:
    """From the similarity that ``threshold`` per cent of the scan stay below, which is drawn clear, to the best."""
    known = heat[np.isfinite(heat)]
    if known.size > 200_000:
        known = known[:: known.size // 100_000]  # a percentile needs no more
    low, high = float(np.percentile(known, threshold)), float(heat[np.isfinite(heat)].max())
    return low, max(high, low + 1e-3)
