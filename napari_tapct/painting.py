"""What a person paints: classes with names and colours, strokes on each scan, and the way back stroke by stroke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from .keys import SHORTCUTS
from .layers import GEOMETRY, SOURCE, placement
from .scan import Scan, origin_of, same_path
from .session import Session

if TYPE_CHECKING:
    from tapct_core.geometry import Geometry
    from tapct_core.volume import CTVolume

PALETTE = (
    (86, 154, 214), (255, 107, 87), (255, 201, 71), (86, 201, 138), (190, 128, 255),
    (255, 140, 200), (64, 210, 220), (200, 170, 120), (170, 220, 80), (150, 160, 255),
)  # fmt: skip
"""RGB 0-255, told apart on grey and on each other."""
MOST_UNDO = 200
BRUSH_MM = 6


@dataclass(frozen=True)
class LabelClass:
    """A label value, what it means and how it is drawn (RGB 0-255)."""

    value: int
    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Stroke:
    """One change of a layer that goes and comes as one: (place, values before, values after) each.

    ``owner`` is what the change belongs to and goes with: a scan, whose strokes' layer may be deleted and made again,
    or a layer.
    """

    owner: ref[Any]
    edits: tuple[tuple[Any, np.ndarray, np.ndarray], ...]

    def put(self, layer: Labels, back: bool) -> None:
        """Undoes or redoes it."""
        for place, before, after in reversed(self.edits) if back else self.edits:
            layer.data[place] = before if back else after

    @property
    def middle(self) -> tuple[float, ...]:
        """An index (z, y, x) in the middle of the last edit."""
        return tuple(float(np.median(axis)) for axis in self.edits[-1][0])


@dataclass
class Kept:
    """Strokes of a scan that was closed: they come back when it is opened again, and are saved meanwhile.

    ``index`` is (N, 3) int32, ``value`` (N,) uint8. ``volume`` is let go as soon as the file and the hash of its
    content tell enough, so that closing a scan frees its memory.
    """

    origin: tuple[str, str]
    geometry: Geometry
    content: str
    volume: CTVolume | None
    name: str
    date: str
    index: np.ndarray
    value: np.ndarray
    how: tuple[tuple[str, float], ...] = ()
    """What a person said of the scan when it was opened."""

    @classmethod
    def of(cls, scan: Scan, strokes: np.ndarray) -> Kept:
        """The strokes of a scan that is still open."""
        volume = scan.volume
        index, value = painted_voxels(strokes)
        how = volume.source.how
        return cls(origin_of(volume), volume.geometry, "", volume, scan.name, scan.date, index, value, how)

    def settle(self) -> None:
        """Takes the hash of the volume, which takes a while, and lets the volume go if its file tells the rest."""
        if self.volume is not None:
            self.content = self.volume.content_hash
            self.volume = None if self.origin[0] else self.volume

    def belongs_to(self, volume: CTVolume) -> bool:
        """Whether ``volume`` is the scan that was painted on, opened again."""
        path, series = origin_of(volume)
        same_file = same_path(self.origin[0], path) and self.origin[1] == series
        if not self.geometry.matches(volume.geometry) or bool(self.origin[0]) != bool(path):
            return False
        return same_file if path else np.array_equal(self.volume.hu, volume.hu)


def painted_voxels(strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ``strokes`` (z, y, x) are not 0, (N, 3) int32, and their values (N,); as fast as memory is read."""
    planes = np.flatnonzero(strokes.max(axis=(1, 2)))
    index = np.argwhere(strokes[planes]).astype(np.int32)
    index[:, 0] = planes[index[:, 0]]
    return index, strokes[tuple(index.T)]


class Painting:
    """Classes and strokes of one session. Get it with :func:`painting_of`."""

    classes_changed = Signal()
    strokes_changed = Signal(object)
    """The Scan that was painted on, or on which a stroke was undone."""
    taken_over = Signal(object)
    """The Scan whose result was painted on: that counts as strokes."""

    def __init__(self, session: Session) -> None:
        self._session = ref(session)
        self.classes = [LabelClass(1, "background", PALETTE[0]), LabelClass(2, "lesion", PALETTE[1])]
        self.kept: list[Kept] = []
        """Strokes of scans that were closed."""
        self._undo: list[Stroke] = []
        self._redo: list[Stroke] = []
        session.scan_opened.connect(self.bring_back)
        session.scan_closing.connect(self.put_away)
        session.part_removed.connect(self._on_part_removed)

    def set_classes(self, classes: list[LabelClass]) -> None:
        """Replaces the classes and recolours what is drawn."""
        self.classes = list(classes)
        for scan in self._session().scans:
            for role in ("strokes", "result"):
                if role in scan.parts:
                    self.dress(scan.parts[role])
        self.classes_changed.emit()

    def add_class(self) -> LabelClass:
        """One more class, with a value and a colour that no other has."""
        value = max((one.value for one in self.classes), default=0) + 1
        new = LabelClass(value, f"class {value}", PALETTE[(value - 1) % len(PALETTE)])
        self.set_classes([*self.classes, new])
        return new

    def remove_class(self, value: int) -> None:
        """Removes a class with its strokes; the strokes come back with :meth:`undo`."""
        for scan in self._session().scans:
            layer = scan.parts.get("strokes")
            if layer is None:
                continue
            index, painted = painted_voxels(layer.data)
            place = tuple(index[painted == value].T)
            if len(place[0]):
                before = np.full(len(place[0]), value, np.uint8)
                layer.data[place] = 0
                self._remember(Stroke(ref(scan), ((place, before, np.zeros_like(before)),)))
                layer.refresh()
                self.strokes_changed.emit(scan)
        self.set_classes([one for one in self.classes if one.value != value])

    def strokes(self, scan: Scan) -> Labels:
        """The layer to paint on, made on first use."""
        layer = scan.parts.get("strokes")
        if layer is None:
            layer = self.layer(scan, "strokes", opacity=0.9)
            layer.brush_size = max(3, round(BRUSH_MM / min(scan.volume.geometry.spacing_mm)))
            self._session().add_part(scan, "strokes", layer)
            self.watch(layer)
        return layer

    def put_away(self, scan: Scan, strokes: Labels | None) -> None:
        """Keeps the strokes of a scan that is being closed."""
        kept = Kept.of(scan, strokes.data) if strokes is not None else None
        if kept is not None and len(kept.index):
            self.kept.append(kept)

    def bring_back(self, scan: Scan) -> bool:
        """Gives a scan that was opened again its strokes; True if it had some."""
        found = next((one for one in self.kept if one.belongs_to(scan.volume)), None)
        if found is None:
            return False
        self.kept.remove(found)
        self.put(scan, found.index, found.value)
        return True

    def put(self, scan: Scan, index: np.ndarray, value: np.ndarray) -> None:
        """Paints voxels (N, 3) with values (N,); there is no way back from it."""
        layer = self.strokes(scan)
        layer.data[tuple(index.T)] = value
        layer.refresh()
        self.strokes_changed.emit(scan)

    def layer(self, scan: Scan, role: str, opacity: float) -> Labels:
        """An empty labels layer on a scan's grid in the classes' colours; it is not in the viewer yet."""
        layer = Labels(
            np.zeros(scan.volume.hu.shape, np.uint8),
            name=f"{scan.name}: {role}",
            opacity=opacity,
            metadata={GEOMETRY: scan.volume.geometry, SOURCE: scan.volume.source},
            **placement(scan.volume.geometry),
        )
        self.dress(layer)
        return layer

    def dress(self, layer: Labels) -> None:
        """Gives a layer the classes' colours and names."""
        colours = {one.value: (*(c / 255 for c in one.colour), 1.0) for one in self.classes}
        layer.colormap = DirectLabelColormap(color_dict={None: (0, 0, 0, 0), 0: (0, 0, 0, 0), **colours})
        layer.features = {"index": [one.value for one in self.classes], "name": [one.name for one in self.classes]}

    def watch(self, layer: Labels) -> None:
        """Remembers what is painted on a layer. napari's own undo forgets everything when the slice changes."""
        layer.events.paint.connect(self._on_paint)
        layer.bind_key(SHORTCUTS["layer undo"].key, lambda _: self.undo(), overwrite=True)
        layer.bind_key(SHORTCUTS["layer redo"].key, lambda _: self.redo(), overwrite=True)

    def watch_result(self, layer: Labels) -> None:
        """What a person paints on a result would be lost with the next stroke: it is taken over as strokes."""
        layer.events.paint.connect(self._on_result_painted)

    @property
    def background(self) -> int:
        """The value of the class called background, 0 if there is none."""
        return next((one.value for one in self.classes if one.name.strip().casefold() == "background"), 0)

    def undo(self) -> bool:
        """Takes the last stroke back, on whatever slice and scan it is; False if there is none."""
        return self._step(self._undo, self._redo, back=True)

    def redo(self) -> bool:
        """Puts back what :meth:`undo` took; False if there is nothing."""
        return self._step(self._redo, self._undo, back=False)

    @property
    def undo_count(self) -> int:
        """Strokes that can be taken back."""
        return len(self._undo)

    @property
    def redo_count(self) -> int:
        """Strokes that can be put back."""
        return len(self._redo)

    def _on_paint(self, event: Any) -> None:
        layer = event.source
        scan = self._session().scan_of(layer)
        if scan is not None:
            stroke = Stroke(ref(scan), tuple(edit_of(atom) for atom in event.value))
            stroke.put(layer, back=False)  # a polygon, a fill or a script: napari tells first and paints then
            self._remember(stroke)
            self.strokes_changed.emit(scan)

    def _on_result_painted(self, event: Any) -> None:
        scan = self._session().scan_of(event.source)
        if scan is None:
            return
        layer, edits = self.strokes(scan), []
        for place, _, after in map(edit_of, event.value):
            before = layer.data[place].copy()
            edits.append((place, before, np.where(after == 0, self.background, after).astype(before.dtype)))
        stroke = Stroke(ref(scan), tuple(edits))
        stroke.put(layer, back=False)
        self._remember(stroke)
        layer.refresh()
        self.strokes_changed.emit(scan)
        self.taken_over.emit(scan)

    def _on_part_removed(self, scan: Scan, role: str) -> None:
        """Strokes whose layer was deleted come back with :meth:`undo`."""
        if role == "strokes" and scan.leaving is not None:
            index, painted = painted_voxels(scan.leaving.data)
            if len(index):
                self._remember(Stroke(ref(scan), ((tuple(index.T), painted, np.zeros_like(painted)),)))

    def _remember(self, stroke: Stroke) -> None:
        self._undo.append(stroke)
        del self._undo[:-MOST_UNDO]
        self._redo.clear()

    def _step(self, source: list[Stroke], target: list[Stroke], back: bool) -> bool:
        session = self._session()
        while source:
            stroke = source.pop()
            scan = stroke.owner()
            if scan is None or scan not in session.scans:  # it was closed
                continue
            layer = self.strokes(scan)
            stroke.put(layer, back)
            target.append(stroke)
            session.show(scan)
            session.look_at(scan, stroke.middle)
            layer.refresh()
            self.strokes_changed.emit(scan)
            return True
        return False


def edit_of(atom: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """One atom of napari's paint event as (place, before, after), the place being an index of the data.

    An atom is (index arrays, old values, new ones), or a box with a mask of what changed in it.
    """
    if not hasattr(atom, "slice_key"):
        place, before, after = atom
        return place, np.asarray(before), np.broadcast_to(after, np.shape(before)).copy()
    mask = atom.mask if atom.mask is not None else np.ones(np.shape(atom.old_values), bool)
    starts = [key.start if isinstance(key, slice) else key for key in atom.slice_key]
    inside = iter(np.nonzero(mask))
    count = int(mask.sum())
    # A box may name single slices by a number: such an axis is not in the mask.
    full = mask.ndim == len(starts)
    place = tuple(
        next(inside) + start if full or isinstance(key, slice) else np.full(count, start)
        for key, start in zip(atom.slice_key, starts, strict=True)
    )
    before = np.asarray(atom.old_values).reshape(-1)
    return place, before, np.full(count, atom.new_value, before.dtype)


_paintings: WeakKeyDictionary[Session, Painting] = WeakKeyDictionary()


def painting_of(session: Session) -> Painting:
    """The painting of a session, made on first use."""
    if session not in _paintings:
        _paintings[session] = Painting(session)
    return _paintings[session]
