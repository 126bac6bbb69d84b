"""Every command on scans of which one header attribute is missing or empty: it works, or says one line."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pydicom
import pytest

from tapct_core.cli import main
from tapct_core.io import load_ct, save_labels
from tapct_core.volume import LabelMap
from tests.tapct_core.io.conftest import real_series, real_slices

__all__ = ["real_series", "real_slices"]

PARTS = 12
FIRST = ("SOPInstanceUID", "ImageType", "RescaleIntercept", "PatientID", "SeriesInstanceUID", "PixelSpacing")
"""Those that decide most."""


def whole(real_slices):
    """The slices as they are, in order."""
    return [deepcopy(one) for one in real_slices]


@pytest.fixture
def asked(tmp_path, real_slices, capsys):
    """Runs every command on the slices with one attribute changed -> how many worked."""
    good = tmp_path / "good"
    good.mkdir()
    for number, one in enumerate(whole(real_slices)):
        one.save_as(good / f"{number}.dcm")
    volume = load_ct(good)
    place = [round(float(c), 2) for c in volume.geometry.to_world([2, 32, 32])]
    body, columns = volume.hu > -200, np.arange(volume.hu.shape[2])
    strokes = np.where(body, np.where(columns < np.argwhere(body)[:, 2].mean(), 1, 2), 0).astype(np.uint8)
    strokes[np.arange(len(strokes)) != 2] = 0
    names = {1: "background", 2: "tissue"}
    save_labels(LabelMap(strokes, volume.geometry, names=names), tmp_path / "strokes.nii.gz")
    (tmp_path / "points.csv").write_text(f"name,x,y,z\nL,{place[0]},{place[1]},{place[2]}\n")
    ct, out = str(tmp_path / "ct"), tmp_path / "out"
    point = [str(c) for c in place]
    commands = (
        ["info", ct],
        ["info", str(tmp_path / "both")],
        ["embed", ct, "--encoder", "none", "--out", str(out / "embedded")],
        ["match", ct, str(good), "--encoder", "none", "--point", *point],
        ["match", str(good), ct, "--encoder", "none", "--point", *point],
        ["segment", ct, str(tmp_path / "strokes.nii.gz"), "--out", str(out / "seg.nii.gz")],
        ["import", str(tmp_path / "study.json"), str(tmp_path / "points.csv"), "--timepoint", "now"],
        ["track", str(tmp_path / "tracked.json"), "--encoder", "none", "--sr", str(out), "--seg", str(out)],
    )
    study = {"timepoints": [{"name": "now", "path": "ct"}, {"name": "later", "path": "good"}]}
    lesion = {"name": "L", "findings": {"now": {"point_lps_mm": place}}}

    def run(change):
        for folder in (tmp_path / "ct", tmp_path / "both" / "a"):
            folder.mkdir(exist_ok=True, parents=True)
            with pydicom.config.disable_value_validation():
                for number, one in enumerate(whole(real_slices)):
                    change(one)
                    one.save_as(folder / f"{number}.dcm")
        (tmp_path / "both" / "b.dcm").write_bytes((good / "0.dcm").read_bytes())
        (tmp_path / "study.json").write_text(json.dumps(study | {"lesions": []}))
        (tmp_path / "tracked.json").write_text(json.dumps(study | {"lesions": [lesion]}))
        out.mkdir(exist_ok=True)
        worked = 0
        for command in commands:
            code = main(command)
            said = capsys.readouterr().err
            last = said.strip().splitlines()[-1] if said.strip() else ""
            assert code in (0, 2) and "Traceback" not in said, (command, said)
            assert code == 0 or last.startswith(f"tapct {command[0]}: "), (command, said)
            worked += code == 0
        return worked

    return run


def emptied(key):
    return lambda dataset: setattr(dataset, key, None)


def missing(key):
    return lambda dataset: dataset.pop(key, None)


def test_the_commands_work_on_the_whole_headers(asked):
    assert asked(lambda dataset: None) == 8


@pytest.mark.slow
@pytest.mark.parametrize("key", FIRST)
def test_one_attribute_missing_or_empty(asked, key):
    asked(missing(key))
    asked(emptied(key))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("change", [missing, emptied])
def test_any_attribute_missing_or_empty(asked, real_slices, change, part):
    keys = [element.keyword for element in real_slices[0] if element.keyword and element.keyword not in FIRST]
    assert len(keys) > 40
    for key in keys[part::PARTS]:
        asked(change(key))
