"""What this machine has for the job: versions, device, cache, disk, weights, DICOM decoders, display.

To be pasted into a report of a fault. It names no scan, no patient and no person: a path under the home folder begins
with ~, and of the cache only how many maps it holds is said.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import __version__

PACKAGES = ("numpy", "scipy", "torch", "zarr", "nibabel", "pydicom", "scikit-image", "scikit-learn", "napari", "qtpy")
NEEDED = PACKAGES[:8]
SYNTAXES = {
    "JPEG": ("JPEGBaseline8Bit", "JPEGLosslessSV1"),
    "JPEG-LS": ("JPEGLSLossless",),
    "JPEG 2000": ("JPEG2000Lossless", "JPEG2000"),
    "RLE": ("RLELossless",),
}
"""Compressed transfer syntaxes of CT, by pydicom's names."""
LEAST_FREE_GB = 5.0


@dataclass(frozen=True)
class Fact:
    """One line: what was looked at, what was found, and what to do about it, "" where nothing needs to be done."""

    name: str
    found: str
    remedy: str = ""


def examine() -> list[Fact]:
    """Every fact, in the order in which they are read. Loads torch and pydicom, asks no network, writes nothing."""
    facts = [
        Fact("napari-tapct", __version__),
        Fact("python", f"{platform.python_version()} ({sys.implementation.name})"),
        Fact("system", f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores"),
        *(_package(name) for name in PACKAGES),
        _device(),
        _cache(),
        *_encoders(),
        *_decoders(),
        _display(),
    ]
    return facts


def _package(name: str) -> Fact:
    try:
        return Fact(name, version(name))
    except PackageNotFoundError:
        remedy = "it is needed: install napari-tapct again" if name in NEEDED else ""
        return Fact(name, "not installed", remedy)


def _device() -> Fact:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a DLL that Windows does not find
        return Fact("device", f"torch cannot be loaded ({_line(error)})", "install torch again, see pytorch.org")
    if not torch.cuda.is_available():
        built = "for the CPU alone" if torch.version.cuda is None else "for CUDA, but it finds no GPU or driver"
        return Fact("device", f"cpu, {torch.get_num_threads()} threads; torch is built {built}")
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Fact("device", "cuda: " + ", ".join(f"{one.name}, {one.total_memory / 2**30:.0f} GiB" for one in names))


def _cache() -> Fact:
    from .store import SUFFIX, default_folder

    folder = default_folder()
    held = len(list(folder.glob(f"*{SUFFIX}"))) if folder.is_dir() else 0
    there = next(one for one in (folder, *folder.parents) if one.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    found = f"{_shown(folder)}: {held} feature maps, {free:.1f} GB free"
    if not os.access(there, os.W_OK):
        return Fact("cache", found, "it cannot be written: name another folder in TAPCT_CACHE")
    short = free < LEAST_FREE_GB
    return Fact("cache", found, "free some space, or name another folder in TAPCT_CACHE" if short else "")


def _encoders() -> list[Fact]:
    from .encoders import list_encoders

    facts = []
    for row in list_encoders():
        if row["available"]:
            where = _shown(Path(row["folder"])) if row["folder"] else row["where"]
            facts.append(Fact("encoder", f"{row['name']}{' (default)' if row['default'] else ''}: {where}"))
    offline = os.environ.get("HF_HUB_OFFLINE", "")
    return [*facts, Fact("hub", "forbidden by HF_HUB_OFFLINE" if offline not in ("", "0") else "asked when you say so")]


def _decoders() -> list[Fact]:
    from pydicom import uid
    from pydicom.pixels import get_decoder

    facts = []
    for name, syntaxes in SYNTAXES.items():
        decoders = [get_decoder(getattr(uid, syntax)) for syntax in syntaxes]
        missing = [syntax for syntax, one in zip(syntaxes, decoders, strict=True) if not one.is_available]
        plugins = sorted({plugin for one in decoders for plugin in one.available_plugins})
        remedy = "pip install pylibjpeg pylibjpeg-openjpeg python-gdcm to open such files" if missing else ""
        facts.append(Fact(f"DICOM {name}", ", ".join(plugins) or "no decoder", remedy))
    return facts


def _display() -> Fact:
    if importlib.util.find_spec("napari") is None:
        return Fact("display", "napari is not installed: library and command line only")
    binding = next((name for name in ("PyQt6", "PySide6", "PyQt5") if importlib.util.find_spec(name)), "no Qt binding")
    if binding == "no Qt binding":
        return Fact("display", binding, "install this package with its [gui] extra")
    screen = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    remedy = "" if screen else "none is in sight: start from a desktop, or with xvfb-run for pictures alone"
    return Fact("display", f"{binding}, {'a display' if screen else 'no display'}", remedy)


def _shown(path: Path) -> str:
    """A path that does not say whose home it lies in."""
    try:
        return str(Path("~") / path.resolve().relative_to(Path.home().resolve()))
    except (ValueError, RuntimeError):
        return str(path)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
