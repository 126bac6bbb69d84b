"""``tapct info`` on a folder with several scans: a table, and the same as JSON."""

from __future__ import annotations

import json

import numpy as np

from tapct_core.cli import main
from tests.tapct_core.io import writing


def test_a_folder_of_scans_is_a_table(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for k in range(4):
            facts = {"SeriesInstanceUID": f"1.2.{ord(name[0])}", "SeriesDescription": name, "PatientID": "Anna"}
            slice_ = writing.ct_slice(np.full((8, 10), 40, np.int16), k, **facts)
            (tmp_path / name / f"{k}.dcm").write_bytes(slice_)
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    head, *lines = out.splitlines()
    assert head.split()[:4] == ["patient", "study", "date", "kind"] and len(lines) == 2
    assert "2.5 1.5 1.5" in lines[0] and "Anna" not in out
    assert main(["info", str(tmp_path), "--json"]) == 0
    scans = json.loads(capsys.readouterr().out)["scans"]
    said = [(scan["description"], scan["slices"], scan["problem"]) for scan in scans]
    assert said == [("one", 4, ""), ("two", 4, "")]
    assert main(["info", str(tmp_path), "--series", scans[0]["series_uid"], "--hu-offset", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [4, 8, 10]
