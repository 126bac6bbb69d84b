"""The study's masks as labels layers: one array a scan, which the layers of both views share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from tapct_core.lesions import Mask

from ...layers import GEOMETRY, SOURCE, placement
from ...scan import Scan
from ...session import Session
from ..table.palette import Palette

if TYPE_CHECKING:
    from ..study.editor import StudyEditor
    from ..views.linked import LinkedView

ROLE = "masks"
OPACITY = 0.75
DRESS = "tapct_dress"
"""In a layer's metadata: the colours and names that it has."""
Box = tuple[slice, slice, slice]


class MaskLayers:
    """Outlines of all lesions on the scans that are shown. A label value is a lesion's for as long as the viewer lives.

    Of masks that overlap, the selected lesion's is on top. ``held`` are scans that are being painted on: they are
    not drawn anew.
    """

    made = Signal(object)
    """A layer that was not there before."""

    def __init__(self, session: Session, editor: StudyEditor, linked: LinkedView) -> None:
        self.session, self.editor, self.linked = session, editor, linked
        self.held: set[Scan] = set()
        self._arrays: dict[Scan, np.ndarray] = {}
        self._drawn: dict[Scan, dict[str, Mask]] = {}
        self._values: dict[str, int] = {}

    @property
    def scans(self) -> list[Scan]:
        """Those that are shown in one of the two views."""
        shown = [scan for scan in (self.session.active, self.linked.scan) if scan is not None]
        return list(dict.fromkeys(shown))

    def value(self, uid: str) -> int:
        """The label value of a lesion."""
        return self._values.setdefault(uid, len(self._values) + 1)

    def array(self, scan: Scan) -> np.ndarray:
        """What is painted on, uint16 (z, y, x). Pages of it that nothing is drawn on take no memory."""
        return self._arrays.setdefault(scan, np.zeros(scan.volume.hu.shape, np.uint16))

    def mask_of(self, scan: Scan, uid: str) -> Mask | None:
        """A lesion's mask at a scan as the study has it; None if there is none, or one of another grid."""
        lesion = next((one for one in self.editor.study.lesions if one.uid == uid), None)
        finding = lesion.findings.get(self.editor.timepoint_of(scan) or "") if lesion is not None else None
        mask = finding.mask if finding is not None else None
        return mask if mask is not None and mask.grid == scan.volume.hu.shape else None

    def layers(self, scan: Scan) -> list[tuple[ViewerModel, Labels]]:
        """A scan's layers, with the viewer that each is in."""
        found = (
            (self.session.viewer, scan.parts.get(ROLE)),
            (self.linked.viewer_model, self.linked.part(scan, ROLE)),
        )
        return [(viewer, layer) for viewer, layer in found if layer is not None]

    def require(self, scan: Scan) -> list[tuple[ViewerModel, Labels]]:
        """A scan's layers in the views that show it, made where there are none yet."""
        if scan is self.session.active and ROLE not in scan.parts:
            self.made.emit(self.session.add_part(scan, ROLE, self._layer(scan)))
        if scan is self.linked.scan and self.linked.part(scan, ROLE) is None:
            self.made.emit(self.linked.add_part(scan, ROLE, self._layer(scan)))
        return self.layers(scan)

    def get_ready(self) -> None:
        """Makes one layer for a time point that is not shown yet and has masks."""
        for scan in self.session.scans:
            bare = scan is not self.session.active and self.linked.part(scan, ROLE) is None
            if bare and any(self.mask_of(scan, lesion.uid) is not None for lesion in self.editor.study.lesions):
                self.made.emit(self.linked.add_part(scan, ROLE, self._layer(scan)))
                return

    def refresh(self) -> None:
        """Draws what the study says, as far as it is not drawn already."""
        for scan in [scan for scan in self._arrays if scan not in self.session.scans]:
            del self._arrays[scan]
            self._drawn.pop(scan, None)
        for scan in self.scans:
            if scan not in self.held:
                self._draw(scan)

    def remove(self) -> None:
        """Takes all layers away; the study keeps its masks."""
        for scan in self.session.scans:
            self.session.remove_part(scan, ROLE)
            self.linked.remove_part(scan, ROLE)
        self._arrays, self._drawn = {}, {}

    def restore(self, scan: Scan, box: Box) -> None:
        """Draws a scan's masks anew after somebody has painted inside ``box``."""
        self.array(scan)[box] = 0
        self._drawn[scan] = {}
        self._draw(scan)
        self.show_edit(scan)

    def show_edit(self, scan: Scan, but: Labels | None = None) -> None:
        """Brings what was painted in one view to the scan's other layers."""
        for _, layer in self.layers(scan):
            if layer is not but:
                layer.refresh()

    def _draw(self, scan: Scan) -> None:
        order = sorted(self.editor.study.lesions, key=lambda lesion: lesion.uid == self.editor.selected)
        masks = {lesion.uid: self.mask_of(scan, lesion.uid) for lesion in order}
        wanted = {uid: mask for uid, mask in masks.items() if mask is not None}
        drawn = self._drawn.get(scan, {})
        if not wanted and not drawn:
            return
        self.require(scan)
        if list(wanted) == list(drawn) and all(wanted[uid] is drawn[uid] for uid in wanted):
            return
        array = self.array(scan)
        for uid, mask in drawn.items():
            if wanted.get(uid) is not mask:
                part = array[mask.box]
                part[part == self.value(uid)] = 0
        for uid, mask in wanted.items():
            array[mask.box][mask.voxels] = self.value(uid)
        self._drawn[scan] = wanted
        for _, layer in self.layers(scan):
            self._dress(layer)
            layer.refresh()

    def _layer(self, scan: Scan) -> Labels:
        layer = Labels(
            self.array(scan),
            name=f"{scan.name}: lesion masks",
            opacity=OPACITY,
            metadata={GEOMETRY: scan.volume.geometry, SOURCE: scan.volume.source},
            **placement(scan.volume.geometry),
        )
        layer.contour = 1
        self._dress(layer)
        return layer

    def _dress(self, layer: Labels) -> None:
        """Gives a layer the lesions' colours, and their names for the status line."""
        palette, lesions = Palette.of(self.session.viewer), self.editor.study.lesions
        colours = {self.value(one.uid): palette.lesion(i).getRgbF() for i, one in enumerate(lesions)}
        fresh = palette.lesion(len(lesions)).getRgbF()  # a lesion that is being painted for the first time
        wanted = {None: fresh, 0: (0, 0, 0, 0), **colours}
        names = [lesion.name for lesion in lesions]
        if layer.metadata.get(DRESS) == (wanted, names):  # a table of 65,536 colours takes its time
            return
        layer.metadata[DRESS] = wanted, names
        layer.colormap = DirectLabelColormap(color_dict=dict(wanted))
        layer.features = {"index": list(colours), "name": names}
