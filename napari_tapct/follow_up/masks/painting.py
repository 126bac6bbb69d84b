"""One lesion being painted: its strokes in both views, the way back stroke by stroke, and what they amount to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakMethod, ref

import numpy as np
from napari.layers import Labels
from psygnal import Signal

from tapct_core.lesions import Finding, Lesion, Mask, Study
from tapct_core.lesions.measurement_check import set_judged_mask
from tapct_core.lesions.timepoints import snapshot

from ...keys import SHORTCUTS
from ...painting import Stroke, edit_of
from ...scan import Scan
from .layers import Box, MaskLayers


class MaskStrokes:
    """Strokes live in the layers until :meth:`put_into` takes them to a study; :meth:`end` draws the study again."""

    stroked = Signal()
    """A stroke came or went."""

    def __init__(self, layers: MaskLayers) -> None:
        self._layers = layers
        self.uid: str | None = None
        """The lesion that is painted; None while nobody paints."""
        self.name = ""
        self.new = False
        """Whether it is not in the study yet."""
        self._boxes: dict[Scan, Box] = {}
        self._strokes: list[Stroke] = []
        self._left: list[tuple[Any, Any]] = []
        layers.made.connect(self._on_made)

    def begin(self, uid: str, name: str, new: bool) -> None:
        """Makes the masks' layers of both views active for a lesion."""
        self.uid, self.name, self.new = uid, name, new
        self._layers.held = set(self._layers.scans)
        for scan in self._layers.scans:
            for viewer, layer in self._layers.require(scan):
                self._left.append((viewer, viewer.layers.selection.active))
                layer.visible = True
                layer.selected_label = self._layers.value(uid)
                layer.contour = 0
                viewer.layers.selection.active = layer

    def set_tool(self, erase: bool, brush_mm: float) -> None:
        """The brush in both views: paint or erase, and its diameter."""
        for scan, layer in self._brushes():
            layer.mode = "erase" if erase else "paint"
            layer.brush_size = max(1, round(brush_mm / min(scan.volume.geometry.spacing_mm[1:])))

    def undo(self) -> bool:
        """Takes the last stroke back; False if there is none."""
        while self._strokes:
            stroke = self._strokes.pop()
            layer = stroke.owner()
            scan = self._scan_of(layer)
            if scan is not None:
                stroke.put(layer, back=True)
                self._layers.show_edit(scan)
                self.stroked.emit()
                return True
        return False

    def painted(self) -> list[tuple[str, Scan, Mask | None]]:
        """Time point, scan and mask of every scan that was painted on and is still open; None: nothing is left of it.

        A new lesion is not where nothing is left of it.
        """
        editor = self._layers.editor
        found = [(editor.timepoint_of(scan), scan, self._mask(scan)) for scan in self._boxes]
        return [(name, scan, mask) for name, scan, mask in found if name is not None and (mask or not self.new)]

    def put_into(self, study: Study, by: str) -> None:
        """Gives the lesion the masks that were painted, and a place where it had none; ``by`` says who painted."""
        for timepoint, scan, mask in self.painted():
            if mask is None:
                clear(study, self.uid, timepoint)
            else:
                self._place(study, timepoint, mask, scan, by)
                set_judged_mask(study, self.uid, timepoint, mask, scan.volume, by)

    def unfinished(self, by: str) -> Lesion | None:
        """The lesion as it is painted so far, at the time points that were painted on; not measured."""
        painted = [one for one in self.painted() if one[2] is not None]
        if not painted:
            return None
        study = snapshot(self._layers.editor.study)
        for timepoint, scan, mask in painted:
            self._place(study, timepoint, mask, scan, by)
            finding = study.finding(self.uid, timepoint)
            kept = replace(finding, mask=mask, mask_by="person", measurement=None)
            study.lesion(self.uid).findings[timepoint] = kept
        lesion = study.lesion(self.uid)
        return replace(lesion, findings={timepoint: lesion.findings[timepoint] for timepoint, _, _ in painted})

    def end(self) -> None:
        """Puts the tools away and draws what the study says."""
        for _, layer in self._brushes():
            layer.mode, layer.contour = "pan_zoom", 1
        for viewer, layer in self._left:
            viewer.layers.selection.active = layer if layer in viewer.layers else None
        boxes, self._boxes = self._boxes, {}
        self.uid, self._strokes, self._left = None, [], []
        self._layers.held = set()
        for scan, box in boxes.items():
            if scan in self._layers.session.scans:
                self._layers.restore(scan, box)

    def _brushes(self) -> list[tuple[Scan, Labels]]:
        return [(scan, layer) for scan in self._layers.held for _, layer in self._layers.layers(scan)]

    def _scan_of(self, layer: Labels | None) -> Scan | None:
        return next((scan for scan, one in self._brushes() if one is layer), None)

    def _mask(self, scan: Scan) -> Mask | None:
        box = self._boxes[scan]
        voxels = self._layers.array(scan)[box] == self._layers.value(self.uid)
        if not voxels.any():
            return None
        inner = Mask.from_array(voxels)
        start = tuple(s.start + i for s, i in zip(box, inner.start, strict=True))
        return Mask(start, inner.voxels, scan.volume.hu.shape)

    def _place(self, study: Study, timepoint: str, mask: Mask, scan: Scan, by: str) -> None:
        """A lesion that is painted where it had no place gets one: the mask's voxel nearest to its middle."""
        finding = finding_of(study, self.uid, timepoint)
        if finding is not None and finding.present:
            return
        index = np.argwhere(mask.voxels)
        spacing = np.array(scan.volume.geometry.spacing_mm)
        middle = index[np.linalg.norm((index - index.mean(axis=0)) * spacing, axis=1).argmin()]
        point = tuple(scan.volume.geometry.to_world(middle + np.array(mask.start)).tolist())
        if any(lesion.uid == self.uid for lesion in study.lesions):
            study.move(self.uid, timepoint, point, by)
        else:
            study.add_lesion(self.name, timepoint, point, by, uid=self.uid)

    def _on_made(self, layer: Labels) -> None:
        layer.events.paint.connect(self._on_stroke)
        weak = WeakMethod(self.undo)

        def undo(_layer: Labels) -> None:
            found = weak()
            if found is not None:
                found()

        layer.bind_key(
            SHORTCUTS["layer undo"].key, undo, overwrite=True
        )  # napari's own forgets everything when the slice changes

    def _on_stroke(self, event: Any) -> None:
        layer = event.source
        scan = self._scan_of(layer)
        edits = tuple(edit_of(atom) for atom in event.value)
        boxes = [_bounds(place) for place, _, _ in edits if len(place[0])]
        if scan is None or not boxes:
            return
        self._strokes.append(Stroke(ref(layer), edits))
        self._strokes[-1].put(layer, back=False)  # a polygon, a fill or a script: napari tells first and paints then
        before = self._layers.mask_of(scan, self.uid)
        known = [self._boxes[scan]] if scan in self._boxes else [before.box] if before is not None else []
        self._boxes[scan] = _around([*known, *boxes])
        self._layers.show_edit(scan, but=layer)
        self.stroked.emit()


def finding_of(study: Study, uid: str, timepoint: str) -> Finding | None:
    """A lesion's finding; None if there is no such lesion, or it has none there."""
    lesion = next((one for one in study.lesions if one.uid == uid), None)
    return lesion.findings.get(timepoint) if lesion is not None else None


def clear(study: Study, uid: str, timepoint: str) -> None:
    """Takes a finding's mask away, and what was measured by it."""
    finding = finding_of(study, uid, timepoint)
    if finding is not None:
        kept = finding.measurement if finding.measurement is not None and finding.measurement.drawn else None
        if kept is not None:
            kept = replace(kept, volume_ml=None, mean_hu=None, sd_hu=None)
        study.lesion(uid).findings[timepoint] = replace(finding, mask=None, mask_by="", measurement=kept)


def _bounds(place: tuple[np.ndarray, ...]) -> Box:
    return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in place)


def _around(boxes: list[Box]) -> Box:
    """The smallest box round all."""
    return tuple(slice(min(s.start for s in spans), max(s.stop for s in spans)) for spans in zip(*boxes, strict=True))
