"""Which encoder, on what device and grid: plain parameters, so a magicgui form that scripts can set as people do."""

from __future__ import annotations

from pathlib import Path

from magicgui.widgets import ComboBox, Container, FloatSpinBox, PushButton
from qtpy.QtWidgets import QFileDialog

from tapct_core.sliding_windows import OVERLAP

from ..preferences import preference
from .encoder_choice import PACKAGED, Choice, EmbeddingChoice, choices, folder_choice, gpu_in_sight

PLANS = (
    ("As the encoder was trained", ""),
    ("Finer: even spacing in mm", "spacing"),
    ("As the release: 224 × 224 a slice", "release"),
)
DEVICES = (("Automatic", "auto"), ("CPU", "cpu"), ("GPU (CUDA)", "cuda"))
ON_CPU = "⚠ Without a GPU embedding a scan takes minutes instead of seconds. You can go on working meanwhile."
ON_CPU_SMALL = (
    "⚠ Without a GPU embedding a scan takes up to a minute with this encoder. You can go on working meanwhile."
)


class EncoderForm(Container):
    """``changed`` says that another choice was made; ``choice`` is the one that holds."""

    def __init__(self) -> None:
        self._choices = choices()
        self.encoder = ComboBox(label="Encoder", choices=self._titles)
        self.folder = PushButton(text="From a folder …", tooltip="A folder with config.json and model.safetensors")
        self.device = ComboBox(label="Device", choices=DEVICES, value=preference("device"))
        self.plan = ComboBox(label="Grid", choices=PLANS)
        hint = "Share of a window that the next one repeats: smoother, but 4 to 64 times the time"
        self.overlap = FloatSpinBox(label="Overlap", min=0.0, max=0.75, step=0.25, value=OVERLAP, tooltip=hint)
        super().__init__(widgets=[self.encoder, self.folder, self.device, self.plan, self.overlap])
        self.margins = (0, 0, 0, 0)
        for row in self:  # magicgui's labels are not the fields' buddies in Qt, from which a screen reader takes names
            row.native.setAccessibleName(row.label)  # none for the button, whose own words are its name
        self.folder.changed.connect(self._on_folder)

    @property
    def choice(self) -> EmbeddingChoice:
        """What is chosen now; without leave to download anything."""
        plan, overlap = self.plan.value or None, round(self.overlap.value, 2)
        return EmbeddingChoice(self.chosen.name, self.device.value, plan, overlap)

    @property
    def chosen(self) -> Choice:
        """The encoder, with what is to be said of it."""
        return self.encoder.value

    def choose(self, name: str) -> None:
        """Takes the encoder of this name, or the folder that was added. Raises StopIteration for another."""
        self.encoder.value = next(one for one in self._choices if one.name == name)

    def choose_folder(self, folder: Path) -> None:
        """Takes an encoder from a folder."""
        self._choices.append(folder_choice(folder))
        self.encoder.reset_choices()
        self.encoder.value = self._choices[-1]

    @property
    def warning(self) -> str:
        """What to know before embedding without a GPU, "" where there seems to be one."""
        if self.device.value == "cuda" or (self.device.value == "auto" and gpu_in_sight()):
            return ""
        return ON_CPU_SMALL if self.chosen.name == PACKAGED else ON_CPU

    def _titles(self, _box: ComboBox) -> list[tuple[str, Choice]]:
        return [(one.title, one) for one in self._choices]

    def _on_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self.native, "Folder with config.json and model.safetensors")
        if path:
            self.choose_folder(Path(path))
