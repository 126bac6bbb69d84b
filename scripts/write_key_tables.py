"""Writes the tables of keys into the docs anew, from napari_tapct/keys.py: python scripts/write_key_tables.py

A table stands between ``<!-- keys: WIDGET -->`` and ``<!-- end of keys -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from napari_tapct.keys import markdown  # noqa: E402

PAGES = ("plugin.md", "follow_up_plugin.md")
TABLE = re.compile(r"(<!-- keys: (.+?) -->\n).*?(\n<!-- end of keys -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """A page with its tables as they should be."""
    return TABLE.sub(lambda found: found[1] + markdown(found[2]) + found[3], text)


if __name__ == "__main__":
    for name in PAGES:
        path = ROOT / "docs" / name
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
