"""The pictures of the documentation are made as the documentation says, and show something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import imageio.v3
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_script_makes_every_picture_of_the_documentation(tmp_path):
    script = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / "make_screenshots.py"), str(tmp_path)]
    subprocess.run(script, check=True, env=os.environ.copy(), timeout=550)
    named = {path.name for path in (ROOT / "docs" / "pictures").glob("plugin_*.png")}
    assert named and {path.name for path in tmp_path.glob("*.png")} == named
    for path in tmp_path.glob("*.png"):
        picture = imageio.v3.imread(path)[..., :3].astype(float)
        assert picture.shape[0] > 800 and picture.shape[1] > 1300
        assert np.std(picture[200:700, 400:1000]) > 30  # a scan, not an empty canvas
