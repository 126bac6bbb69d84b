"""The layers of the second view by time point: made once, shown and hidden as the time point changes."""

from __future__ import annotations

from napari.components import ViewerModel
from napari.layers import Image, Layer

from ...layers import ct_image
from ...scan import Scan

CT = "ct"


class SecondLayers:
    """What the second viewer holds of each scan, by role. Switching hides layers and removes none: it takes no time."""

    def __init__(self, model: ViewerModel) -> None:
        self._model = model
        self._layers: dict[Scan, dict[str, Layer]] = {}
        self._hidden: dict[Scan, set[str]] = {}
        self.scan: Scan | None = None
        """The one whose layers are seen."""

    def part(self, scan: Scan, role: str) -> Layer | None:
        """A scan's layer in a role."""
        return self._layers.get(scan, {}).get(role)

    def ct(self, scan: Scan) -> Image:
        """The scan itself, made on first use; its array is the very one that the first viewer shows."""
        layer = self.part(scan, CT)
        if layer is None:
            layer = ct_image(scan.volume, scan.name, hu_range=scan.layer.contrast_limits_range)
            layer.contrast_limits, layer.colormap = scan.layer.contrast_limits, scan.layer.colormap
            self.add(scan, CT, layer)
            layers = self._model.layers
            layers.move(layers.index(layer), 0)
        return layer

    def add(self, scan: Scan, role: str, layer: Layer) -> Layer:
        """Adds a layer in place of the one that the scan had in that role. Seen only while the scan is."""
        self.remove(scan, role)
        self._layers.setdefault(scan, {})[role] = layer
        if not layer.visible:
            self._hidden.setdefault(scan, set()).add(role)
        layer.visible = layer.visible and scan is self.scan
        selection = self._model.layers.selection
        selected = set(selection)
        self._model.add_layer(layer)
        selection.clear()
        selection.update(selected)
        return layer

    def remove(self, scan: Scan, role: str) -> None:
        """Removes a scan's layer in a role, if it has one."""
        layer = self._layers.get(scan, {}).pop(role, None)
        self._hidden.get(scan, set()).discard(role)
        if layer is not None and layer in self._model.layers:
            self._model.layers.remove(layer)

    def keep(self, scans: list[Scan]) -> None:
        """Removes the layers of all other scans."""
        for scan in [scan for scan in self._layers if scan not in scans]:
            for role in list(self._layers[scan]):
                self.remove(scan, role)
            del self._layers[scan]
            self._hidden.pop(scan, None)

    def conceal(self) -> None:
        """Hides what is seen; which layers were hidden already is remembered."""
        if self.scan in self._layers:
            layers = self._layers[self.scan]
            self._hidden[self.scan] = {role for role, layer in layers.items() if not layer.visible}
            for layer in layers.values():
                layer.visible = False
        self.scan = None

    def reveal(self, scan: Scan) -> None:
        """Shows the layers of a scan that were not hidden when it was concealed."""
        self.scan = scan
        for role, layer in self._layers.get(scan, {}).items():
            layer.visible = role == CT or role not in self._hidden.get(scan, set())


def show_in_window(layer: Image, low: float, high: float) -> None:
    """Draws a CT between two HU; its slider reaches them afterwards."""
    least, most = layer.contrast_limits_range
    layer.contrast_limits_range = (min(low, least), max(high, most))
    layer.contrast_limits = (low, high)
