"""Every shortcut of the plugin: its key, and what its button is called and says of itself.

Widgets bind from this table and the docs' tables are written from it (``python scripts/write_key_tables.py``). A key
works on both canvases, through napari's own bindings, and wherever else in the window the focus is, the tables and
lists included; only a field that is being typed in keeps its letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from qtpy.compat import isalive
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QPushButton, QShortcut

from tapct_core.hu_windows import PRESETS

from .inner import main_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

_SHOWN = {"Shift": "⇧", "Control": "Ctrl-"}


@dataclass(frozen=True)
class Shortcut:
    """``key`` as napari writes it, "" for a button that has none. Layers that are painted on swallow plain letters, but
    not Shift with a letter."""

    widget: str
    name: str
    key: str
    title: str
    does: str

    @property
    def shown(self) -> str:
        """As buttons and pages show it: ⇧A is Shift-A."""
        *held, last = self.key.split("-")
        return "".join(_SHOWN[one] for one in held) + last

    @property
    def qt(self) -> str:
        """As Qt writes it."""
        return self.key.replace("Control", "Ctrl").replace("-", "+")

    def labelled(self, text: str) -> str:
        """A button's text with the key behind it."""
        return f"{text}  {self.shown}" if self.key else text


_WINDOWS = tuple(
    ("Scans", name.lower(), f"Shift-{letter}" if letter else "", name, f"Width {width:g}, level {level:g} HU")
    for name, width, level, letter in PRESETS
)
_TABLE = (
    *_WINDOWS,
    ("Scans", "drag window", "Shift-W", "By dragging", "Drag right: wider; up: brighter; the picture stays in place"),
    (
        "Features", "embed", "Shift-E", "Compute features",
        "Of the scan that is shown; what lies near the middle of the view comes first",
    ),
    (
        "Features", "colours", "Shift-C", "As colours",
        "The three main directions (PCA) as red, green and blue: like tissue, like colour",
    ),
    (
        "Features", "similar", "Shift-F", "Similar to a click",
        "While this is on, a click on a scan shows how alike everything is to that point",
    ),
    ("Segment", "paint class", "Shift-P", "Paint", "Paint with the class that is selected above"),
    ("Segment", "undo stroke", "Shift-Z", "Undo", "Takes the last stroke back, whatever slice it is on"),
    ("Segment", "redo stroke", "Shift-Y", "Redo", "Puts it back"),
    ("Segment", "layer undo", "Control-Z", "Undo", "The same, while a layer is painted on, a lesion's mask too"),
    ("Segment", "layer redo", "Control-Shift-Z", "Redo", "The same, while strokes are painted"),
    ("Segment", "update", "Shift-U", "Update", "Segments the scan from the strokes now"),
    (
        "Segment", "unsure slice", "Control-Shift-N", "Next slice to paint",
        "Goes to the slice where a stroke would help most",
    ),
    (
        "Follow-up", "mark", "Shift-L", "Mark lesions",
        "While this is on, a click on a scan marks a lesion there, or selects the one that is there already",
    ),
    (
        "Follow-up", "find all", "Shift-K", "Find all",
        "Looks for every lesion at every open time point and measures it, in the background",
    ),
    ("Follow-up", "next to verify", "Shift-J", "Next to verify", "Goes to the next finding that nobody has decided on"),
    ("Follow-up", "accept", "Shift-A", "Accept", "The proposal is right, or the candidate that is chosen"),
    ("Follow-up", "candidate before", ",", "◂", "The candidate before"),
    ("Follow-up", "candidate after", ".", "▸", "The next candidate"),
    ("Follow-up", "move here", "Shift-D", "Move here", "The lesion lies at the mouse; or drag its point"),
    ("Follow-up", "not present", "Shift-X", "Not present", "The lesion is not there"),
    ("Follow-up", "new lesion", "Shift-O", "New lesion", "A lesion at the mouse that was not there before"),
    ("Follow-up", "undo", "Shift-Q", "Undo", "Takes the last change back, up to 200, whatever they were"),
    ("Follow-up", "redo", "Shift-R", "Redo", "Makes it again"),
    (
        "Follow-up", "grow mask", "Shift-M", "Grow",
        "Outlines the lesion round its point, in both scans, where it has no mask yet",
    ),
    (
        "Follow-up", "paint mask", "Shift-V", "Paint",
        "Paint on the lesion in either view, or a new one while none is selected; pressed again: done",
    ),
    (
        "Follow-up", "calipers", "Control-Shift-C", "Draw axes",
        "While this is on, a drag in either view draws the long axis, the next one the short axis; ends can be dragged",
    ),
    (
        "Follow-up", "confirm axes", "Control-Shift-M", "Axes are right",
        "The axes that are in doubt are right as they are drawn, and count from now on",
    ),
    (
        "Follow-up", "too small", "Control-Shift-X", "Too small",
        "The lesion is there and too small to be measured; RECIST 1.1 counts 5 mm",
    ),
    ("Follow-up", "link", "Shift-I", "Link", "Slice, plane, zoom and window of one view follow the other"),
    ("Follow-up", "time before", "Control-Shift-J", "◀", "Compares the time point before, in place"),
    ("Follow-up", "time after", "Control-Shift-K", "▶", "Compares the time point after, in place"),
    ("Follow-up", "second view", "Shift-T", "View", "Shows or hides the follow-up beside the canvas"),
    ("Lesion table", "go to", "Return", "Go to", "Shows the lesion at the compared time point; as a double-click does"),
    ("Lesion table", "rename", "F2", "Rename …", "Another name for the lesion"),
    ("Lesion table", "delete", "Del", "Delete", "Takes the lesion out of the study, from all time points"),
)  # fmt: skip
SHORTCUTS: dict[str, Shortcut] = {row[1]: Shortcut(*row) for row in _TABLE}
"""By name, in the order in which the docs list them."""
_KEYS = [row[2] for row in _TABLE if row[2]]
assert len(set(_KEYS)) == len(_KEYS) and len(SHORTCUTS) == len(_TABLE), "a key or a name stands for two things"


def key_button(viewer: Viewer, name: str, slot: Callable[[], object] | None = None) -> QPushButton:
    """A button with the title and the words of a shortcut, whose key clicks it for as long as it lives.

    Where a widget was opened twice, the key is the later one's. Without ``slot`` it does nothing by itself.
    """
    shortcut, button = SHORTCUTS[name], named_button(name)
    if slot is not None:
        button.clicked.connect(lambda _checked: slot())
    if not shortcut.key:
        return button
    weak = ref(button)

    def pressed(*_: object) -> None:
        found = weak()
        if found is not None and isalive(found):
            found.click()

    viewer.bind_key(shortcut.key, pressed, overwrite=True)
    _bind_in_window(viewer, shortcut, pressed)
    return button


def named_button(name: str) -> QPushButton:
    """A button with the title and the words of a shortcut, whose key is bound elsewhere."""
    shortcut = SHORTCUTS[name]
    button = QPushButton(shortcut.labelled(shortcut.title))
    button.setToolTip(f"{shortcut.does}. Key: {shortcut.shown}" if shortcut.key else shortcut.does)
    return button


def bind(viewer: Viewer, name: str, act: Callable[[], object]) -> None:
    """Has the key of a shortcut do something for as long as the viewer lives, whichever widgets are open."""
    shortcut = SHORTCUTS[name]

    def pressed(*_: object) -> None:
        act()

    if shortcut.key:
        viewer.bind_key(shortcut.key, pressed, overwrite=True)
        _bind_in_window(viewer, shortcut, pressed)


_in_windows: WeakKeyDictionary[Viewer, dict[str, Callable[[], None]]] = WeakKeyDictionary()
"""What each key does in each viewer's window."""


def _bind_in_window(viewer: Viewer, shortcut: Shortcut, pressed: Callable[[], None]) -> None:
    """For a focus that is on no canvas: Qt asks the window's shortcuts before it sends a key to a widget."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    window = main_window(viewer)
    if window is None:
        return
    bound = _in_windows.setdefault(viewer, {})
    if shortcut.name not in bound:
        # one a window: Qt gives a key that two of its shortcuts claim to neither
        QShortcut(QKeySequence(shortcut.qt), window).activated.connect(lambda: bound[shortcut.name]())
    bound[shortcut.name] = pressed


def markdown(widget: str) -> str:
    """The docs' table of a widget's keys."""
    rows = [
        f"| {one.shown} | **{one.title}**: {_lower(one.does)} |"
        for one in SHORTCUTS.values()
        if one.widget == widget and one.key
    ]
    return "\n".join(["| key | |", "|---|---|", *rows])


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]
