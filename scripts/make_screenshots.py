"""Makes the plugin's pictures of docs/pictures anew: python scripts/make_screenshots.py [FOLDER]

Without a display it draws on a virtual one (xvfb-run).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from napari_tapct.demo.__main__ import write_pictures  # noqa: E402
from napari_tapct.demo.offscreen import has_display  # noqa: E402

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"


def main(folder: Path) -> list[Path]:
    """Writes the pictures into ``folder``."""
    if has_display():
        from napari_tapct.demo.widgets import write

        folder.mkdir(parents=True, exist_ok=True)
        return write(folder)
    return write_pictures(folder)


if __name__ == "__main__":
    for path in main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(path)
