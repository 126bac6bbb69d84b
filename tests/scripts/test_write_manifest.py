"""The manifest's list of suffixes is what the script writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tapct_core.io import suffixes

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "write_manifest.py"


def test_the_manifest_is_up_to_date_and_a_new_format_comes_into_it(monkeypatch):
    spec = importlib.util.spec_from_file_location("write_manifest", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.MANIFEST.read_text(encoding="utf-8")
    assert script.with_patterns(text) == text, "run python scripts/write_manifest.py"
    monkeypatch.setitem(suffixes.BY_FORMAT, "Toy", (".toy",))
    assert script.with_patterns(text) == text.replace('"*.ima"]', '"*.ima", "*.toy"]') != text
