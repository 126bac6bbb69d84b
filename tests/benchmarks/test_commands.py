"""Every benchmark is one command, ``python -m benchmarks.NAME``, whether it is a file or a folder."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
ROOMS = [FOLDER / room for room in benchmarks.ROOMS]
FILES = {path.stem for room in ROOMS for path in room.glob("*.py")}
FOLDERS = {path.parent.name for room in ROOMS for path in room.glob("*/__main__.py")}
NAMES = sorted(FILES | FOLDERS)
MOST = 12
PROMISED = {
    "attention", "crops", "embedding", "encoder_quality", "evaluation", "follow_up_click", "growing", "matching",
    "matching_speed", "memory", "plugin", "probe", "readout", "recipes", "scaling", "store", "training_step",
}  # fmt: skip


def test_no_command_was_lost():
    assert set(NAMES) >= PROMISED


@pytest.mark.parametrize("name", NAMES)
def test_the_command_starts(name):
    module = importlib.import_module(f"benchmarks.{name}.__main__" if name in FOLDERS else f"benchmarks.{name}")
    assert callable(module.main)
    assert f"`python -m benchmarks.{name}" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_room_is_one_and_none_is_crowded():
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"} == set(benchmarks.ROOMS)
    assert len(FILES) + len(FOLDERS) == len(NAMES)  # no name in two rooms
    assert all(len([one for one in room.iterdir() if one.name != "__pycache__"]) <= MOST for room in ROOMS)


def test_an_imported_module_of_a_folder_is_no_command():
    inside = [path for path in FOLDER.glob("*/*/*.py") if path.name != "__main__.py"]
    assert inside and not [path for path in inside if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")]
