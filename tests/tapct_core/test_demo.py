"""The demo's outputs: a table whose errors are true, and pictures that show something."""

from __future__ import annotations

import csv
import json

import numpy as np
from PIL import Image

from tapct_core.cli import main
from tapct_core.samples import load_sample_points


def test_the_demo_matches_measures_and_draws(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--encoder", "none"]) == 0
    assert "within" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "matches.csv").read_text().splitlines()))
    names, _, after = load_sample_points()
    truth = dict(zip(names, after, strict=True))
    best = [row for row in rows if row["rank"] == "1"]
    assert len(best) >= 8
    for row in rows:
        distance = np.linalg.norm([float(row[c]) for c in "xyz"] - truth[row["name"]])
        assert abs(distance - float(row["true_error_mm"])) < 0.01
    summary = json.loads((tmp_path / "summary.json").read_text())
    errors = np.array([float(row["true_error_mm"]) for row in best])
    assert summary["points"] == len(best)
    assert abs(summary["error_mm_mean"] - errors.mean()) < 0.01
    assert np.median(errors) < 5  # breathing moved these points by up to 14 mm

    pages = sorted(tmp_path.glob("matches-*.png"))
    assert len(pages) == 3
    for page in pages:
        pixels = np.asarray(Image.open(page).convert("RGB")).astype(int)
        assert pixels.shape[1] > 1000
        assert pixels.std() > 30
        assert (np.ptp(pixels, axis=2) > 60).mean() > 1e-4  # coloured cursors on grey slices
