"""The notebooks: each is one with its script, holds no outputs, and runs from the first cell to the last, offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
NAMES = ("cohort_to_a_table", "compare_two_encoders", "features_to_scikit_learn", "neighbours_of_a_lesion")
MOST_S = 240
"""A minute or less on two cores of their own, said to be under two; several times that where tests share them."""


def cells(path: Path) -> list[tuple[str, str]]:
    """Kind and text of each cell."""
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def test_every_notebook_is_named_here():
    assert {path.stem for path in FOLDER.iterdir() if path.suffix in (".py", ".ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_and_script_say_the_same(name):
    notebook = FOLDER / f"{name}.ipynb"
    assert cells(notebook) == cells(FOLDER / f"{name}.py"), f"run: jupytext --sync {notebook.relative_to(ROOT)}"
    assert not any(cell.get("outputs") for cell in jupytext.read(notebook).cells), f"{name} holds outputs"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_offline(name, tmp_path):
    shutil.copy(FOLDER / f"{name}.ipynb", tmp_path)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "TAPCT_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    command = [sys.executable, "-m", "pytest", "-q", "--nbmake", f"--nbmake-timeout={MOST_S}", f"{name}.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout + run.stderr
