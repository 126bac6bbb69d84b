"""Start here: the three tasks, each on a sample or one's own scans, and the one setting that a fresh napari wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari.settings import get_settings
from npe2 import PluginManager
from qtpy.QtWidgets import QCheckBox, QFileDialog, QGroupBox, QLabel, QPushButton, QVBoxLayout, QWidget

from .panel import fit_width, scrolling_column
from .preferences import PLUGIN
from .scans.opening import opener_of
from .session import session_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

FOLDERS = "*/"
"""napari's pattern for every folder."""
TASKS = (
    ("Follow lesions", "Follow-up", "synthetic_follow_up", "Click a lesion, be taken to it in the next scan, measure."),
    ("Segment", "Segment", "abdomen_pelvis", "Paint a few strokes of each structure, and correct what follows."),
    ("Look at features", "Features", "breathing_pair", "What an encoder sees, and how alike everything is to a click."),
)
"""Of each task: its title, its widget, the sample that shows it, and what it is."""


class StartWidget(QWidget):
    """Docked widget that opens the others."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.session = session_of(napari_viewer)
        column = scrolling_column(self)
        column.addWidget(_words("For research only; not a medical device."))
        column.addWidget(self._own_box())
        self.buttons: dict[str, QPushButton] = {}
        for title, widget, sample, words in TASKS:
            column.addWidget(self._task_box(title, widget, sample, words))
        column.addWidget(self._reader_box())
        column.addStretch(1)
        fit_width(self, column)

    def _own_box(self) -> QGroupBox:
        box = QGroupBox("Your scans")
        column = QVBoxLayout(box)
        column.addWidget(_words("NIfTI, NRRD, MetaImage or DICOM; or drop them onto the window."))
        for text, slot in (("Open files …", self._on_files), ("Open a DICOM folder …", self._on_folder)):
            column.addWidget(_button(text, slot))
        return box

    def _task_box(self, title: str, widget: str, sample: str, words: str) -> QGroupBox:
        box = QGroupBox(title)
        column = QVBoxLayout(box)
        column.addWidget(_words(words))
        self.buttons[widget] = _button(f"Open {widget}", lambda: open_widgets(self.session.viewer, (widget,)))
        column.addWidget(self.buttons[widget])
        column.addWidget(_button("Try it on a sample", lambda: self.try_on_sample(widget, sample)))
        return box

    def _reader_box(self) -> QGroupBox:
        box = QGroupBox("napari asks which reader to use?")
        column = QVBoxLayout(box)
        self.said = _words()
        self.folders = QCheckBox("folders too (DICOM)")
        self.folders.setToolTip("Leave this out if you open folders of other kinds, such as zarr, by other plugins")
        column.addWidget(self.folders)
        column.addWidget(_button("Always open CTs with TAP-CT", self.take_readers))
        column.addWidget(self.said)
        self._say()
        return box

    def try_on_sample(self, widget: str, sample: str) -> None:
        """Opens a sample and the widget that works on it."""
        self.session.viewer.open_sample(PLUGIN, sample)
        open_widgets(self.session.viewer, (widget,))

    def take_readers(self) -> None:
        """Makes the plugin napari's reader of CT files, and of folders if that is ticked; others stay as they are."""
        patterns = [*file_patterns(), *([FOLDERS] if self.folders.isChecked() else [])]
        plugins = get_settings().plugins
        plugins.extension2reader = {**plugins.extension2reader, **dict.fromkeys(patterns, PLUGIN)}
        self._say()

    def _say(self) -> None:
        chosen = get_settings().plugins.extension2reader
        ours = [pattern for pattern in (*file_patterns(), FOLDERS) if chosen.get(pattern) == PLUGIN]
        self.folders.setChecked(self.folders.isChecked() or FOLDERS in ours)
        if set(file_patterns()) <= set(ours):
            more = " and folders" if FOLDERS in ours else ""
            self.said.setText(f"✓ CT files{more} open without asking. File ▸ Preferences ▸ Plugins undoes it.")
        else:
            self.said.setText("One click, and it does not ask again. File ▸ Preferences ▸ Plugins undoes it.")

    def _on_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Open CTs", "")
        if paths:
            opener_of(self.session).open([Path(path) for path in paths])

    def _on_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a DICOM folder")
        if path:
            opener_of(self.session).open([Path(path)])


def file_patterns() -> list[str]:
    """The files that the manifest says we read, such as ``*.nii.gz``."""
    readers = PluginManager.instance().get_manifest(PLUGIN).contributions.readers or []
    return [pattern for reader in readers for pattern in reader.filename_patterns]


def open_widgets(viewer: Viewer, names: tuple[str, ...]) -> list[QWidget]:
    """The plugin's widgets of these display names, as tabs of one dock; the last one is in front."""
    opened = [viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=True) for name in names]
    if opened:
        opened[-1][0].show()
        opened[-1][0].raise_()
    return [widget for _, widget in opened]


def _button(text: str, slot: Callable[[], object]) -> QPushButton:
    button = QPushButton(text)
    button.clicked.connect(lambda _checked: slot())
    return button


def _words(text: str = "") -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label
