"""Choosing an encoder, told in words before anything is downloaded and before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapct_core.encoders import PACKAGED, PRESETS, UNTRAINED, list_encoders
from tapct_core.sliding_windows import OVERLAP
from tapct_core.strict_json import read_json


@dataclass(frozen=True)
class EmbeddingChoice:
    """What a person chose. ``encoder`` is a name or folder, ``device`` auto, cpu or cuda, ``plan`` None for its own."""

    encoder: str
    device: str = "auto"
    plan: str | None = None
    overlap: float = OVERLAP
    download: bool = False
    """Whether the hub may be asked: only after a click that said so."""


@dataclass(frozen=True)
class Choice:
    """An encoder to choose: its name (or folder), what to say of it, and whether using it needs a download."""

    name: str
    title: str
    words: str
    download_mb: int = 0


def choices() -> list[Choice]:
    """The encoders by name, the default first. No network, no torch."""
    rows = [row for row in list_encoders() if row["available"] or row["download_mb"]]
    return [_choice(row) for row in sorted(rows, key=lambda row: not row["default"])]


def folder_choice(folder: Path) -> Choice:
    """A folder with config.json and model.safetensors."""
    return Choice(str(folder), f"{folder.name} (folder)", f"{_size(folder)} in {folder}. {_licence(folder)}")


def _choice(row: dict[str, Any]) -> Choice:
    name, folder, megabytes = row["name"], row["folder"], row["download_mb"]
    where = f"{_size(Path(folder))} in {folder}." if folder else f"Not downloaded yet: about {megabytes} MB."
    if name == PACKAGED:
        size = _size(Path(folder)) if folder else "nothing in this build"
        words = f"Small 3D encoder that comes with the plugin ({size}), no download. Licence: {row['licence']}."
        return Choice(name, f"{name} (packaged)", words)
    if name == UNTRAINED:
        words = "Random numbers, trained on nothing: a control to compare with. No licence, no files, no download."
        return Choice(name, f"{name} (random weights)", words)
    if name not in PRESETS:
        return Choice(name, f"{name} (installed)", f"{row['where']}. Licence: {row['licence']}.")
    words = f"Released TAP-CT encoder of huggingface.co/fomofo/{name}. Licence: {row['licence']}. {where}"
    return Choice(name, f"{name} (hub)", words, megabytes)


def _licence(folder: Path) -> str:
    try:
        words = read_json(folder / "config.json").get("licence", "")
    except (OSError, ValueError, AttributeError):
        return "It has no readable config.json."
    return f"Licence: {words or 'not stated in its config.json'}."


def _size(folder: Path) -> str:
    try:
        return f"{(folder / 'model.safetensors').stat().st_size / 1e6:.0f} MB"
    except OSError:
        return "no model.safetensors"


def gpu_in_sight() -> bool:
    """Whether an NVIDIA driver is installed; whether torch can use it is known only when torch is loaded."""
    from shutil import which

    return Path("/proc/driver/nvidia").exists() or which("nvidia-smi") is not None
