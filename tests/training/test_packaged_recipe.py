"""The script that makes the packaged encoder goes from scans to an encoder folder, and on from where it stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tapct_core import load_encoder

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "launch" / "packaged_encoder.sh"


def test_the_packaged_encoder_is_made_by_one_line_that_resumes(data_dir, tmp_path):
    scans = tmp_path / "scans.txt"
    scans.write_text(f"{data_dir / 'ct' / 'cip_chest_64_ct.nii.gz'}\n")
    line = ["bash", str(SCRIPT), str(scans), str(tmp_path / "work"), "schedule.steps=1", "batch.per_rank=1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for said in ("starting at step 0 of 1", "going on at step 1 of 1"):
        done = subprocess.run(line, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert (done.stdout + done.stderr).count(said) == 3
    made, packaged = load_encoder(tmp_path / "work" / "encoder", device="cpu"), load_encoder(device="cpu")
    assert made.vit.config == packaged.vit.config
    assert (made.outputs, made.spec, made.name) == (packaged.outputs, packaged.spec, packaged.name)
