"""Names in any letters, printed to terminals that know few: escapes, and never a traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapct_core.terminal import print_any_name

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("肝臓 1", "Łagodny węzeł", "Метастаз", "naïve → 2 cm²", "a\udce9b")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8"])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_printed_by_every_encoding(monkeypatch, encoding, name):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    print_any_name()
    print(name)
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding).isprintable() or raw.getvalue().endswith((b"\n", b"\r\n"))


def test_streams_without_an_encoding_stay(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    print_any_name()
    print("肝")
    assert sys.stdout.getvalue() == "肝\n"


PROGRAMS = {
    "tapct": ["-c", "import sys; from tapct_core.cli import main; sys.exit(main(sys.argv[1:]))", "info"],
    "evaluate": ["-m", "training.evaluate", "segmentation", "--out", "out", "--data"],
    "export": ["-m", "training.export", "--to", "out"],
    "ingest": ["-m", "training.ingest", "--out", "out"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_line_that_says_what_is_wrong_arrives(tmp_path, program):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *PROGRAMS[program], str(tmp_path / "患者.nii.gz")]
    run = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
    assert run.returncode == 2 and b"Traceback" not in run.stderr and b"Unicode" not in run.stderr
