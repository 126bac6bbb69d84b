"""Writes the suffixes that napari offers our reader into napari.yaml, from tapct_core/io/suffixes.py.

    python scripts/write_manifest.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tapct_core.io.suffixes import BY_FORMAT  # noqa: E402

MANIFEST = ROOT / "napari.yaml"


def with_patterns(text: str) -> str:
    """The manifest with the table's suffixes."""
    patterns = ", ".join(f'"*{suffix}"' for suffixes in BY_FORMAT.values() for suffix in suffixes)
    return re.sub(r"(filename_patterns: )\[.*\]", rf"\1[{patterns}]", text)


if __name__ == "__main__":
    MANIFEST.write_text(with_patterns(MANIFEST.read_text(encoding="utf-8")), encoding="utf-8")
