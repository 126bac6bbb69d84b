"""``make demo``: the terminal's demo, then the plugin; where nothing can be drawn it says so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from napari_tapct.demo.__main__ import run
from napari_tapct.demo.offscreen import has_display

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
def test_without_a_display_and_without_xvfb_it_says_what_to_do(monkeypatch, capsys, tmp_path):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_display() and run([str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "install xvfb" in said.err and "no display" in said.out


def test_make_demo_runs_both_demos():
    told = subprocess.run(["make", "-n", "demo", "OUT=here"], cwd=ROOT, capture_output=True, text=True, check=True)
    terminal = told.stdout.index("tapct demo --out here")
    assert told.stdout.index("napari_tapct.demo here") > terminal
