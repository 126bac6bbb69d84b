"""Choosing an encoder, told in words before anything is downloaded and before torch is loaded."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PACKAGED, UNTRAINED = "tap-ct-xs-3d", "untrained-xs-3d"
RELEASED = {
    "tap-ct-s-2d": 90,
    "tap-ct-s-2-5d": 90,
    "tap-ct-s-3d": 90,
    "tap-ct-b-2d": 350,
    "tap-ct-b-2-5d": 350,
    "tap-ct-b-3d": 350,
}
"""Released encoders and the size of a download in MB: 22 or 86 million float32 numbers, rounded up. The names are
those of ``tapct_core.encoders``, which cannot be asked without loading torch; a test keeps them equal."""
WEIGHTS = Path(__file__).parents[1] / "tapct_core" / "weights" / PACKAGED
HUB_LICENCE = "CC BY-NC 4.0 (non-commercial use only)"


@dataclass(frozen=True)
class Choice:
    """An encoder to choose: its name (or folder), what to say of it, and whether using it needs a download."""

    name: str
    title: str
    words: str
    download_mb: int = 0


def choices() -> list[Choice]:
    """The encoders by name, the default first. No network, no torch."""
    packaged = Choice(
        PACKAGED,
        f"{PACKAGED} (packaged)",
        f"Small 3D encoder that comes with the plugin. Licence: {_packaged_licence()}. {_size(WEIGHTS)} in {WEIGHTS}. "
        "Nothing is downloaded.",
    )
    untrained = Choice(
        UNTRAINED,
        f"{UNTRAINED} (random weights)",
        "Random numbers, trained on nothing: a control to compare with. No licence, no files, no download.",
    )
    released = [_released(name, size) for name, size in RELEASED.items()]
    return [packaged, untrained, *released] if WEIGHTS.is_dir() else [untrained, *released]


def folder_choice(folder: Path) -> Choice:
    """A folder with config.json and model.safetensors."""
    return Choice(str(folder), f"{folder.name} (folder)", f"{_size(folder)} in {folder}. {_config_licence(folder)}")


def _released(name: str, megabytes: int) -> Choice:
    folder = _hub_folder(name)
    where = f"Downloaded, {_size(folder)} in {folder}." if folder else f"Not downloaded yet: about {megabytes} MB."
    words = f"Released TAP-CT encoder of huggingface.co/fomofo/{name}. Licence: {HUB_LICENCE}. {where}"
    return Choice(name, f"{name} (hub)", words, 0 if folder else megabytes)


def _hub_folder(name: str) -> Path | None:
    """Where the hub's own cache keeps this encoder, None if it does not."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    found = sorted((cache / f"models--fomofo--{name}" / "snapshots").glob("*/model.safetensors"))
    return found[-1].parent if found else None


def _packaged_licence() -> str:
    return _config_licence(WEIGHTS).removeprefix("Licence: ").rstrip(".") if WEIGHTS.is_dir() else ""


def _config_licence(folder: Path) -> str:
    import json

    try:
        words = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("licence", "")
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


def preload_torch() -> None:
    """Loads torch's libraries without holding Python's global lock, on which the interface thread would wait.

    ``import torch`` keeps it for as long as the system loader takes, which was 0.7 s on a busy machine. A
    library that is loaded already costs the import nothing; where this does not work, the import loads it.
    """
    if "torch" in sys.modules or sys.platform == "win32":
        return
    import ctypes

    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return
    suffix = "dylib" if sys.platform == "darwin" else "so"
    loader = ctypes.CDLL(None).dlopen  # ctypes releases the lock for functions it calls, not for CDLL itself
    loader.restype, loader.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    library = Path(spec.origin).parent / "lib" / f"libtorch_python.{suffix}"
    loader(os.fsencode(library), os.RTLD_LAZY)
