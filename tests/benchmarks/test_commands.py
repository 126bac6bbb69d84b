"""Every benchmark is one command, ``python -m benchmarks.NAME``, whether it is a file or a folder."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SHARED = {"common"}
NAMES = sorted(
    {path.stem for path in FOLDER.glob("*.py")} - SHARED | {path.parent.name for path in FOLDER.glob("*/__main__.py")}
)
PROMISED = {
    "attention", "crops", "embedding", "encoder_quality", "evaluation", "follow_up_click", "growing", "matching",
    "matching_speed", "memory", "plugin", "probe", "readout", "recipes", "scaling", "store", "training_step",
}  # fmt: skip


def test_no_command_was_lost():
    assert set(NAMES) >= PROMISED


@pytest.mark.parametrize("name", NAMES)
def test_the_command_starts(name):
    folder = (FOLDER / name / "__main__.py").is_file()
    module = importlib.import_module(f"benchmarks.{name}.__main__" if folder else f"benchmarks.{name}")
    assert callable(module.main)


def test_an_imported_module_of_a_folder_is_no_command():
    inside = [path for path in FOLDER.glob("*/*.py") if path.name != "__main__.py"]
    assert inside and not [path for path in inside if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")]
